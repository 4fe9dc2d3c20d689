"""Large batches in small memory: gradients accumulated, scaled and clipped; mixed precision where there is a GPU."""

import numpy as np
import torch
from start import same_start
from torch import nn

rng = np.random.default_rng(0)
use_amp = torch.cuda.is_available()
device = "cuda" if use_amp else "cpu"
model = same_start(nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.LeakyReLU(0.1), nn.Linear(16, 4))).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-4)
scaler = torch.amp.GradScaler(device, enabled=use_amp)
criterion = nn.CrossEntropyLoss()
accumulation_steps, max_norm = 4, 0.5
inputs = torch.tensor(rng.normal(size=(16, 8, 10)), dtype=torch.float32)
targets = torch.tensor(rng.integers(0, 4, (16, 8)))
losses, running = [], 0.0
model.train()
optimizer.zero_grad(set_to_none=True)
for i, (x, y) in enumerate(zip(inputs, targets, strict=True)):
    x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
    with torch.autocast(device_type=device, enabled=use_amp):
        output = model(x)
        loss = criterion(output, y) / accumulation_steps
    scaler.scale(loss).backward()
    running += loss.item()
    if (i + 1) % accumulation_steps == 0:
        scaler.unscale_(optimizer)
        total_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        losses += [running, float(total_norm)]
        running = 0.0
if torch.cuda.is_available():
    torch.cuda.synchronize()
