"""A denoising autoencoder: batches are made noisy, the target is what they were; several learning rates by groups."""

import numpy as np
import torch
import torch.nn as nn
from start import same_start
from torch.nn import functional as F

random = np.random.default_rng(0)
clean = torch.from_numpy(random.random((24, 16)).astype("float32")).clamp(0.0, 1.0)


class Denoiser(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(width, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, width), nn.Hardsigmoid())

    def forward(self, x):
        return self.decoder(self.encoder(x))


model = same_start(Denoiser())
optimizer = torch.optim.AdamW(
    [{"params": model.encoder.parameters(), "lr": 3e-2}, {"params": model.decoder.parameters()}],
    lr=1e-2,
    weight_decay=1e-2,
)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
losses = []
for _ in range(3):
    for batch in clean.split(8):
        noisy = batch + 0.3 * torch.from_numpy(random.normal(size=batch.shape)).float()
        noisy = torch.where(torch.from_numpy(random.random(batch.shape) < 0.1), torch.zeros_like(noisy), noisy)
        reconstruction = model(noisy)
        loss = F.huber_loss(reconstruction, batch, delta=0.5) + 1e-3 * sum(p.abs().sum() for p in model.parameters())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    scheduler.step()
model.requires_grad_(False)
psnr = 10 * torch.log10(1.0 / F.mse_loss(model(clean), clean))
losses += [psnr.item(), *scheduler.get_last_lr()]
