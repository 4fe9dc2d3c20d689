"""Quantiles by the pinball loss, a mean with its variance by a Gaussian likelihood, and counts by a Poisson one."""

import numpy as np
import torch
from start import same_start
from torch import nn, optim

rng = np.random.default_rng(0)
x = torch.tensor(rng.uniform(-2, 2, (40, 1)), dtype=torch.float32)
y = torch.sin(x) + 0.3 * (1 + x.abs()) * torch.tensor(rng.normal(size=(40, 1)), dtype=torch.float32)
counts = torch.tensor(rng.poisson(2.0, (40, 1)), dtype=torch.float32)


class QuantileLoss(nn.Module):
    def __init__(self, quantiles):
        super().__init__()
        self.quantiles = quantiles

    def forward(self, preds, target):
        assert not target.requires_grad
        assert preds.size(0) == target.size(0)
        losses = []
        for i, q in enumerate(self.quantiles):
            errors = target - preds[:, i]
            losses.append(torch.max((q - 1) * errors, q * errors).unsqueeze(1))
        return torch.mean(torch.sum(torch.cat(losses, dim=1), dim=1))


quantiles = [0.1, 0.5, 0.9]
model = same_start(nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, len(quantiles))))
optimizer, criterion = optim.RAdam(model.parameters(), lr=0.03), QuantileLoss(quantiles)
losses = []
for _ in range(5):
    loss = criterion(model(x), y.squeeze())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
with torch.no_grad():
    covered = (y <= model(x)).float().mean(dim=0)
    losses += covered.tolist() + torch.quantile(y.flatten(), torch.tensor(quantiles)).tolist()

gaussian = same_start(nn.Sequential(nn.Linear(1, 8), nn.CELU(), nn.Linear(8, 2)))
optimizer, criterion = optim.Adam(gaussian.parameters(), lr=0.01), nn.GaussianNLLLoss()
poisson = nn.PoissonNLLLoss()
for _ in range(3):
    mean, raw = gaussian(x).chunk(2, dim=1)
    loss = criterion(mean, y, nn.functional.softplus(raw) + 1e-3) + 0.1 * poisson(mean, counts)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
