"""Adversarial examples: the gradient of the loss by the image says how to change it; once, and in several small steps."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start
from torch.utils.data import DataLoader, TensorDataset

random = np.random.default_rng(0)
labels = random.integers(0, 2, 16)
images = random.random((16, 1, 6, 6)) * 0.4
images[:, 0, 0, 0] += 0.6 * labels
test_loader = DataLoader(
    TensorDataset(torch.tensor(images, dtype=torch.float32), torch.tensor(labels)), batch_size=1, shuffle=False
)
model = same_start(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2), nn.LogSoftmax(dim=1)))
optimizer = torch.optim.Adamax(model.parameters(), lr=0.02)
losses = []
for _ in range(5):
    for data, target in DataLoader(test_loader.dataset, batch_size=8):
        optimizer.zero_grad()
        loss = F.nll_loss(model(data), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())


def fgsm_attack(image, epsilon, data_grad):
    sign_data_grad = data_grad.sign()
    perturbed_image = image + epsilon * sign_data_grad
    return torch.clamp(perturbed_image, 0, 1)


model.eval()
for epsilon in [0.0, 0.1]:
    correct, adv_examples = 0, []
    for data, target in test_loader:
        data.requires_grad = True
        output = model(data)
        init_pred = output.max(1, keepdim=True)[1]
        if init_pred.item() != target.item():
            continue
        loss = F.nll_loss(output, target)
        model.zero_grad()
        loss.backward()
        perturbed_data = fgsm_attack(data, epsilon, data.grad.data)
        output = model(perturbed_data)
        final_pred = output.max(1, keepdim=True)[1]
        if final_pred.item() == target.item():
            correct += 1
        else:
            adv_examples.append((init_pred.item(), final_pred.item(), perturbed_data.squeeze().detach().cpu().numpy()))
        losses.append(output.detach().max().item())
    losses += [correct, len(adv_examples)]

x, y = test_loader.dataset.tensors
delta = torch.zeros_like(x, requires_grad=True)
for _ in range(3):
    loss = F.nll_loss(model(x + delta), y)
    (grad,) = torch.autograd.grad(loss, [delta])
    delta.data = (delta.data + 0.02 * grad.sign()).clamp(-0.05, 0.05)
    losses.append(loss.item())
