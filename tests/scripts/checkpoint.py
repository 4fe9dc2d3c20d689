"""A training that is stopped, saved, and goes on from the file: the same numbers as one that was not."""

import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from start import same_start

rng = np.random.default_rng(0)
X = torch.tensor(rng.normal(size=(20, 4)), dtype=torch.float32)
y = torch.tensor(rng.integers(0, 2, (20, 1)), dtype=torch.float32)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 8, bias=False)  # the normalisation has one
        self.norm = nn.BatchNorm1d(8)
        self.fc2 = nn.Linear(8, 1)

    def forward(self, x):
        return self.fc2(torch.tanh(self.norm(self.fc1(x))))


def build():
    net = same_start(Net())
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    return net, optimizer, optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)


def train(net, optimizer, scheduler, epochs):
    found = []
    for _ in range(epochs):
        net.train()
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(net(X), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        found.append(loss.item())
    return found


net, optimizer, scheduler = build()
losses = train(net, optimizer, scheduler, 3)
with tempfile.TemporaryDirectory() as folder:
    PATH = os.path.join(folder, "model.pt")
    torch.save(
        {
            "epoch": 3,
            "model_state_dict": net.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "scheduler_state_dict": scheduler.state_dict(),
            "loss": losses[-1],
        },
        PATH,
    )
    whole = train(net, optimizer, scheduler, 3)
    net, optimizer, scheduler = build()
    checkpoint = torch.load(PATH, weights_only=True, map_location="cpu")
net.load_state_dict(checkpoint["model_state_dict"])
optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
scheduler.load_state_dict(checkpoint["scheduler_state_dict"])
resumed = train(net, optimizer, scheduler, 3)
assert resumed == whole, (resumed, whole)
losses += resumed
print(checkpoint["epoch"], [f"{name}: {tuple(value.shape)}" for name, value in net.state_dict().items()])
for name in ("running_mean", "num_batches_tracked"):
    losses += net.norm.state_dict()[name].float().flatten().tolist()
