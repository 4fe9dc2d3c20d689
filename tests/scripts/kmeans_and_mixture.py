"""Without layers: k-means by distances, principal directions by power iteration, and a mixture of Gaussians by descent."""

import math

import numpy as np
import torch

rng = np.random.default_rng(0)
points = np.concatenate([rng.normal(m, 0.3, (15, 2)) for m in ([0, 0], [2, 1], [-1, 2])])
X = torch.tensor(points, dtype=torch.float32)
losses = []

centres = X[[0, 20, 40]].clone()
for _ in range(3):
    distances = torch.cdist(X, centres)
    nearest = distances.argmin(dim=1)
    for k in range(3):
        centres[k] = X[nearest == k].mean(dim=0)
    losses.append(distances.min(dim=1).values.pow(2).sum().item())

centred = X - X.mean(0, keepdim=True)
covariance = centred.T @ centred / (len(X) - 1)
direction = torch.ones(2)
for _ in range(20):
    direction = covariance @ direction
    direction /= direction.norm()
losses += [torch.dot(direction, covariance.mv(direction)).item(), *direction.abs().tolist()]

means = centres.clone().requires_grad_()
log_scales = torch.full((3, 2), -1.0, requires_grad=True)
logits = torch.zeros(3, requires_grad=True)
optimizer = torch.optim.Adam([means, log_scales, logits], lr=0.05)
for _ in range(5):
    z = (X[:, None, :] - means) * torch.exp(-log_scales)
    log_density = -0.5 * z.pow(2).sum(-1) - log_scales.sum(-1) - math.log(2 * math.pi)
    log_likelihood = torch.logsumexp(log_density + torch.log_softmax(logits, 0), dim=1)
    loss = -log_likelihood.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
with torch.no_grad():
    responsible = torch.softmax(log_density + torch.log_softmax(logits, 0), dim=1)
    counts = torch.bincount(responsible.argmax(1), minlength=3)
    order = torch.argsort(means[:, 0])
    losses += means[order].flatten().tolist() + counts[order].float().tolist()
