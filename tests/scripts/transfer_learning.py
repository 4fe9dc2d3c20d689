"""Transfer learning: a trained network whose body is frozen and whose head is exchanged, the best weights kept."""

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from start import same_start
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

random = np.random.default_rng(0)


class Backbone(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x):
        x = self.avgpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(x, 1))


device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
images = random.normal(size=(48, 3, 8, 8)).astype(np.float32)
labels = random.integers(0, 2, 48)
images[:, 0] += labels[:, None, None]
datasets = {
    "train": TensorDataset(torch.tensor(images[:32]), torch.tensor(labels[:32])),
    "val": TensorDataset(torch.tensor(images[32:]), torch.tensor(labels[32:])),
}
dataloaders = {x: DataLoader(datasets[x], batch_size=16, shuffle=False) for x in ["train", "val"]}
dataset_sizes = {x: len(datasets[x]) for x in ["train", "val"]}

model_conv = same_start(Backbone())
for param in model_conv.parameters():
    param.requires_grad = False
num_ftrs = model_conv.fc.in_features
model_conv.fc = same_start(nn.Linear(num_ftrs, 2), seed=1)
model_conv = model_conv.to(device)

criterion = nn.CrossEntropyLoss()
optimizer_conv = optim.SGD(filter(lambda p: p.requires_grad, model_conv.parameters()), lr=0.5, momentum=0.9)
exp_lr_scheduler = lr_scheduler.StepLR(optimizer_conv, step_size=2, gamma=0.1)
losses = []


def train_model(model, criterion, optimizer, scheduler, num_epochs):
    best_model_wts, best_acc = copy.deepcopy(model.state_dict()), 0.0
    for _epoch in range(num_epochs):
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()
            running_loss, running_corrects = 0.0, 0
            for inputs, labels in dataloaders[phase]:
                inputs = inputs.to(device)
                labels = labels.to(device)
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels.data)
            if phase == "train":
                scheduler.step()
            epoch_acc = running_corrects.double() / dataset_sizes[phase]
            losses.extend([running_loss / dataset_sizes[phase], epoch_acc.item()])
            if phase == "val" and epoch_acc > best_acc:
                best_acc, best_model_wts = epoch_acc, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_model_wts)
    return model


model_conv = train_model(model_conv, criterion, optimizer_conv, exp_lr_scheduler, num_epochs=4)
assert model_conv.conv1.weight.grad is None
losses.append(model_conv.fc.weight.detach().abs().sum().item())
