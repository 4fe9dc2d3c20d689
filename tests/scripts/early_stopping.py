"""Early stopping: validation, patience, the best weights put back; metrics over batches, L1 and L2 added by hand."""

import numpy as np
import torch
from start import same_start
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset


class EarlyStopping:
    def __init__(self, patience=2, delta=0.0):
        self.patience, self.delta = patience, delta
        self.best_score, self.counter, self.early_stop, self.best_model_state = None, 0, False, None

    def __call__(self, val_loss, model):
        score = -val_loss
        if self.best_score is None or score >= self.best_score + self.delta:
            self.best_score, self.counter = score, 0
            self.best_model_state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            self.counter += 1
            self.early_stop = self.counter >= self.patience

    def load_best_model(self, model):
        model.load_state_dict(self.best_model_state)


rng = np.random.default_rng(0)
X = torch.as_tensor(rng.normal(size=(30, 6)).astype(np.float32))
y = torch.as_tensor((X.numpy()[:, 0] + 0.5 * rng.normal(size=30) > 0).astype(np.float32)).reshape(-1, 1)
dataset = TensorDataset(X, y)
train_loader = DataLoader(Subset(dataset, range(20)), batch_size=10)
valid_loader = DataLoader(Subset(dataset, range(20, 30)), batch_size=10)
model = same_start(nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 1)))
criterion, optimizer = (
    nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.5])),
    torch.optim.NAdam(model.parameters(), lr=0.1),
)
stopping, losses = EarlyStopping(), []
for epoch in range(20):
    model.train()
    for inputs, labels in train_loader:
        optimizer.zero_grad()
        outputs = model(inputs)
        l1 = sum(p.abs().sum() for p in model.parameters())
        l2 = sum(torch.linalg.norm(p) ** 2 for p in model.parameters())
        loss = criterion(outputs, labels) + 1e-4 * l1 + 1e-4 * l2
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    valid, correct, total = 0.0, 0, 0
    with torch.inference_mode():
        for inputs, labels in valid_loader:
            outputs = model(inputs)
            valid += criterion(outputs, labels).item() * inputs.shape[0]
            predicted = (torch.sigmoid(outputs) > 0.5).float()
            total += labels.numel()
            correct += (predicted == labels).sum().item()
    losses += [valid / total, correct / total]
    stopping(valid / total, model)
    if stopping.early_stop:
        print(f"stopped after epoch {epoch}")
        break
stopping.load_best_model(model)
losses.append(criterion(model(X[20:]), y[20:]).item())
assert epoch < 19
