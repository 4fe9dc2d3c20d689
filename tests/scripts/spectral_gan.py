"""A discriminator of spectrally normalised layers and a hinge loss, a generator of weight-normalised ones; a gradient penalty."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start
from torch.nn.utils import spectral_norm

rng = np.random.default_rng(0)


def normalised(layer, seed):
    """With singular vectors that both libraries share."""
    layer = spectral_norm(same_start(layer, seed))
    with torch.no_grad():
        for vector in (layer.weight_u, layer.weight_v):
            vector.copy_(F.normalize(torch.ones_like(vector), dim=0))
    return layer


D = nn.Sequential(
    normalised(nn.Conv2d(1, 4, 3, stride=2, padding=1), 1),
    nn.LeakyReLU(0.1),
    nn.Flatten(),
    normalised(nn.Linear(64, 8), 2),
    nn.ReLU(),
    normalised(nn.Linear(8, 1), 3),
)
G = same_start(nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))))
d_optimizer = torch.optim.Adam(D.parameters(), lr=4e-3, betas=(0.0, 0.9))
g_optimizer = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.0, 0.9))
losses = []
for _ in range(3):
    real = torch.tensor(rng.normal(size=(6, 1, 8, 8)), dtype=torch.float32)
    noise = torch.tensor(rng.normal(size=(6, 3)), dtype=torch.float32)
    fake = G(noise).detach()
    alpha = torch.tensor(rng.random((6, 1, 1, 1)), dtype=torch.float32)
    between = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
    (slope,) = torch.autograd.grad(D(between).sum(), between, create_graph=True)
    penalty = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    d_loss = F.relu(1 - D(real)).mean() + F.relu(1 + D(fake)).mean() + penalty
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()
    g_loss = -D(G(noise)).mean()
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    losses += [d_loss.item(), g_loss.item(), penalty.item()]
