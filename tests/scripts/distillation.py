"""Knowledge distillation: a small student learns from the soft answers of a larger teacher."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from start import same_start

rng = np.random.default_rng(0)
inputs = torch.tensor(rng.normal(size=(24, 3, 8, 8)), dtype=torch.float32)
labels = torch.tensor(rng.integers(0, 4, 24))


def network(width):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(width * 4, 4),
    )


teacher, student = same_start(network(6)), same_start(network(2), seed=1)
print(sum(p.numel() for p in teacher.parameters() if p.requires_grad), sum(p.numel() for p in student.parameters()))
criterion, optimizer = nn.CrossEntropyLoss(), optim.Adam(teacher.parameters(), lr=0.01)
losses = []
for _ in range(2):
    optimizer.zero_grad()
    loss = criterion(teacher(inputs), labels)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

T, soft_target_loss_weight, ce_loss_weight = 2, 0.25, 0.75
kl_loss, optimizer = nn.KLDivLoss(reduction="batchmean"), optim.Adam(student.parameters(), lr=0.01)
teacher.eval()
student.train()
for _ in range(3):
    optimizer.zero_grad()
    with torch.no_grad():
        teacher_logits = teacher(inputs)
    student_logits = student(inputs)
    soft_targets = nn.functional.softmax(teacher_logits / T, dim=-1)
    soft_prob = nn.functional.log_softmax(student_logits / T, dim=-1)
    by_hand = torch.sum(soft_targets * (soft_targets.log() - soft_prob)) / soft_prob.size()[0] * (T**2)
    soft_targets_loss = kl_loss(soft_prob, soft_targets) * T**2
    hidden = F.mse_loss(student_logits.softmax(-1), teacher_logits.softmax(-1))
    label_loss = criterion(student_logits, labels)
    loss = soft_target_loss_weight * soft_targets_loss + ce_loss_weight * label_loss + 0.1 * hidden
    loss.backward()
    optimizer.step()
    losses += [loss.item(), by_hand.item(), soft_targets_loss.item()]
