"""A physics-informed network: the heat equation by derivatives of the network, Adam first and then L-BFGS."""

import numpy as np
import torch
import torch.nn as nn
from start import same_start

rng = np.random.default_rng(0)
x = torch.tensor(rng.uniform(0, 1, (24, 1)), dtype=torch.float32, requires_grad=True)
t = torch.tensor(rng.uniform(0, 1, (24, 1)), dtype=torch.float32, requires_grad=True)
x0 = torch.linspace(0, 1, 9).reshape(-1, 1)


class PINN(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 1))

    def forward(self, x, t):
        return self.net(torch.cat([x, t], dim=1))


model = same_start(PINN())


def gradient(y, x):
    return torch.autograd.grad(y, x, grad_outputs=torch.ones_like(y), create_graph=True, retain_graph=True)[0]


def compute_loss():
    u = model(x, t)
    u_t, u_x = gradient(u, t), gradient(u, x)
    u_xx = gradient(u_x, x)
    residual = u_t - 0.1 * u_xx
    start = model(x0, torch.zeros_like(x0)) - torch.sin(torch.pi * x0)
    walls = model(torch.zeros(5, 1), torch.linspace(0, 1, 5)[:, None])
    return residual.square().mean() + start.square().mean() + walls.square().mean()


losses = []
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(3):
    optimizer.zero_grad()
    loss = compute_loss()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=3, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = compute_loss()
    loss.backward()
    return loss


losses += [optimizer.step(closure).item() for _ in range(2)]
