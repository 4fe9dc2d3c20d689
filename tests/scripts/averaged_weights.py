"""Label smoothing, an exponential moving average beside the weights, and stochastic weight averaging at the end."""

import copy

import numpy as np
import torch
from start import same_start
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(0)
X = torch.tensor(rng.normal(size=(40, 5)), dtype=torch.float32)
y = torch.tensor(rng.integers(0, 3, 40))
loader = DataLoader(TensorDataset(X, y), batch_size=10)


class EMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = copy.deepcopy(model).eval()
        for p in self.shadow.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for shadow, param in zip(self.shadow.parameters(), model.parameters(), strict=True):
            shadow.lerp_(param, 1 - self.decay)
        for shadow, buffer in zip(self.shadow.buffers(), model.buffers(), strict=True):
            shadow.copy_(buffer)


model = same_start(nn.Sequential(nn.Linear(5, 12), nn.BatchNorm1d(12), nn.Mish(), nn.Linear(12, 3)))
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
ema, averaged = EMA(model, 0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
swa_model = AveragedModel(model)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
swa_scheduler = SWALR(optimizer, swa_lr=0.05, anneal_epochs=2)
swa_start, losses = 2, []
for epoch in range(4):
    for input, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(input), target)
        loss.backward()
        optimizer.step()
        ema.update(model)
        averaged.update_parameters(model)
        losses.append(loss.item())
    if epoch > swa_start:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    else:
        scheduler.step()
update_bn(loader, swa_model)
for evaluated in (model, ema.shadow, averaged, swa_model):
    evaluated.eval()
    with torch.no_grad():
        losses.append(criterion(evaluated(X), y).item())
