"""Regression under many learning rates: cycles, restarts, warm-ups, plateaus, and rates by a function."""

import numpy as np
import torch
from start import same_start
from torch import nn, optim
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
)

rng = np.random.default_rng(0)
X = torch.tensor(rng.normal(size=(32, 3)), dtype=torch.float32)
y = (X**2).sum(dim=1, keepdim=True) + 0.1 * torch.tensor(rng.normal(size=(32, 1)), dtype=torch.float32)
MAKERS = [
    lambda o: OneCycleLR(o, max_lr=0.05, steps_per_epoch=4, epochs=2),
    lambda o: CyclicLR(o, base_lr=0.01, max_lr=0.05, step_size_up=3, mode="triangular2"),
    lambda o: CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2, eta_min=1e-4),
    lambda o: SequentialLR(o, [LinearLR(o, 0.1, total_iters=3), CosineAnnealingLR(o, T_max=5)], milestones=[3]),
    lambda o: ChainedScheduler([ConstantLR(o, 0.5, total_iters=4), ExponentialLR(o, 0.9)]),
    lambda o: LambdaLR(o, lr_lambda=lambda epoch: 0.95**epoch),
    lambda o: MultiplicativeLR(o, lr_lambda=lambda epoch: 0.9),
    lambda o: MultiStepLR(o, milestones=[2, 5], gamma=0.3),
    lambda o: PolynomialLR(o, total_iters=6, power=2.0),
    lambda o: ReduceLROnPlateau(o, "min", factor=0.5, patience=1),
]
losses = []
for make in MAKERS:
    model = same_start(nn.Sequential(nn.Linear(3, 8), nn.Softplus(), nn.Linear(8, 1)))
    criterion = nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    scheduler = make(optimizer)
    for _ in range(8):
        optimizer.zero_grad()
        loss = criterion(model(X), y)
        loss.backward()
        optimizer.step()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(loss.detach())
        else:
            scheduler.step()
    losses += [loss.item(), optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]]
