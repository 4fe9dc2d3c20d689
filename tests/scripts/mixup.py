"""Augmentation by hand: mixed images, cut patches, flips; top-k accuracy, a confusion matrix and normalised inputs."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start

rng = np.random.default_rng(0)
images = torch.tensor(rng.random((16, 3, 8, 8)), dtype=torch.float32)
labels = torch.tensor(rng.integers(0, 5, 16))
mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))
images = (images - mean[None, :, None, None]) / std[None, :, None, None]


class Block(nn.Module):
    def __init__(self, channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels * stride, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels * stride)
        self.conv2 = nn.Conv2d(channels * stride, channels * stride, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels * stride)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, channels * stride, 1, stride=stride, bias=False), nn.BatchNorm2d(channels * stride)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


def mixup_data(x, y, lam, index):
    mixed_x = lam * x + (1 - lam) * x[index, :]
    return mixed_x, y, y[index]


def mixup_criterion(criterion, pred, y_a, y_b, lam):
    return lam * criterion(pred, y_a) + (1 - lam) * criterion(pred, y_b)


model = same_start(
    nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), Block(4), Block(4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
)
criterion, optimizer = (
    nn.CrossEntropyLoss(),
    torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4),
)
losses = []
for _ in range(3):
    lam, index = float(rng.beta(1.0, 1.0)), torch.from_numpy(rng.permutation(16))
    flipped = torch.flip(images, dims=[3])
    inputs = torch.where(torch.from_numpy(rng.random((16, 1, 1, 1)) < 0.5), flipped, images)
    inputs = inputs.clone()
    inputs[:, :, 2:4, 3:6] = 0.0
    padded = F.pad(inputs, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 2:]
    padded = F.interpolate(padded, size=(8, 8), mode="bilinear", align_corners=False)
    mixed, targets_a, targets_b = mixup_data(padded, labels, lam, index)
    outputs = model(mixed)
    loss = mixup_criterion(criterion, outputs, targets_a, targets_b, lam)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
model.eval()
with torch.no_grad():
    output = model(images)
    _, pred = output.topk(3, 1, True, True)
    correct = pred.t().eq(labels.view(1, -1).expand_as(pred.t()))
    for k in (1, 3):
        losses.append(correct[:k].reshape(-1).float().sum(0, keepdim=True).mul_(100.0 / 16).item())
    confusion = torch.zeros(5, 5, dtype=torch.int64)
    for t, p in zip(labels.view(-1), output.argmax(1).view(-1), strict=True):
        confusion[t.long(), p.long()] += 1
    losses += confusion.diag().float().tolist()
