"""Gradients of single samples by vmap, their norms clipped as in private training; an ensemble of models run together."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start
from torch.func import functional_call, grad, stack_module_state, vmap

rng = np.random.default_rng(0)
data = torch.tensor(rng.normal(size=(6, 1, 6, 6)), dtype=torch.float32)
targets = torch.tensor(rng.integers(0, 3, 6))


class SimpleCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.fc1 = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(x, 2)
        return F.log_softmax(self.fc1(torch.flatten(x, 1)), dim=1)


def compute_loss(params, buffers, sample, target):
    batch, targets = sample.unsqueeze(0), target.unsqueeze(0)
    predictions = functional_call(model, (params, buffers), (batch,))
    return F.nll_loss(predictions, targets)


model = same_start(SimpleCNN())
buffers = {k: v.detach() for k, v in model.named_buffers()}
compute_sample_grad = vmap(grad(compute_loss), in_dims=(None, None, 0, 0))
losses = []
for _ in range(3):
    params = {k: v.detach() for k, v in model.named_parameters()}
    per_sample = compute_sample_grad(params, buffers, data, targets)
    norms = torch.sqrt(sum(g.flatten(1).pow(2).sum(1) for g in per_sample.values()))
    scale = (0.5 / (norms + 1e-6)).clamp(max=1.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            clipped = torch.einsum("n,n...->...", scale, per_sample[name])
            parameter -= 0.1 * clipped
    losses += [norms.max().item(), F.nll_loss(model(data), targets).item()]

models = [same_start(SimpleCNN(), seed) for seed in range(3)]
params, buffers = stack_module_state(models)
together = vmap(lambda p, b, x: functional_call(models[0], (p, b), (x,)), in_dims=(0, 0, None))(params, buffers, data)
losses += together.exp().mean(0).flatten().tolist()
assert torch.allclose(together[1], models[1](data), atol=1e-5)
