"""A PyTorch script that reads its data by a loader runs by changing its imports."""

import pytest
from tests.optional import torch

IMPORTS = {
    "torch": """
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, WeightedRandomSampler, random_split
from torch.utils.data.dataloader import default_collate
from torch.utils.data.sampler import SubsetRandomSampler
""",
    "chainrule": """
import chainrule as torch
import chainrule.nn as nn
import chainrule.nn.functional as F
from chainrule.utils.data import DataLoader, Dataset, Subset, TensorDataset, WeightedRandomSampler, random_split
from chainrule.utils.data.dataloader import default_collate
from chainrule.utils.data.sampler import SubsetRandomSampler
""",
}

SCRIPT = """
import numpy as np

class Table(Dataset):
    def __init__(self, X, y, transform=None):
        self.X = torch.tensor(X, dtype=torch.float32)
        self.y = torch.tensor(y, dtype=torch.int64)
        self.transform = transform

    def __len__(self):
        return len(self.X)

    def __getitem__(self, idx):
        sample = {"features": self.X[idx], "label": self.y[idx]}
        if self.transform:
            sample = self.transform(sample)
        return sample

random = np.random.RandomState(0)
X = random.randn(300, 5)
y = (X.sum(1) > 1).astype(int)
dataset = Table(X, y, transform=lambda s: {**s, "features": s["features"] * 2})
train, test = random_split(dataset, [0.8, 0.2], generator=torch.Generator().manual_seed(42))
counts = np.bincount(y)
weights = [1.0 / counts[train[i]["label"].item()] for i in range(len(train))]
sampler = WeightedRandomSampler(weights, num_samples=len(train), replacement=True)

def collate(samples):
    batch = default_collate(samples)
    return batch["features"], batch["label"]

loaders = {
    "train": DataLoader(train, batch_size=32, sampler=sampler, collate_fn=collate, num_workers=2, pin_memory=False,
                        drop_last=True, persistent_workers=True, multiprocessing_context="fork"),
    "test": DataLoader(test, batch_size=64, shuffle=False, collate_fn=collate),
}
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
log = []
for epoch in range(3):
    for phase in ["train", "test"]:
        model.train(phase == "train")
        loss_sum, correct, seen = 0.0, 0, 0
        for inputs, labels in loaders[phase]:
            optimizer.zero_grad()
            with torch.set_grad_enabled(phase == "train"):
                outputs = model(inputs)
                loss = F.cross_entropy(outputs, labels)
                if phase == "train":
                    loss.backward()
                    optimizer.step()
            loss_sum += loss.item() * inputs.size(0)
            correct += (outputs.argmax(dim=1) == labels).sum().item()
            seen += labels.size(0)
        log.append((epoch, phase, seen))
accuracy = correct / seen
lengths = [len(train), len(test), len(loaders["train"]), len(loaders["test"])]
folds = DataLoader(TensorDataset(torch.tensor(X), torch.tensor(y)), 50, sampler=SubsetRandomSampler(range(120)))
fold_shapes = [(tuple(xb.shape), tuple(yb.shape), str(xb.dtype).split(".")[1]) for xb, yb in folds]
"""


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_script_with_loaders_runs_by_changing_its_imports():
    torch.manual_seed(0)
    found = {}
    for name, imports in IMPORTS.items():
        names = {}
        exec(imports + SCRIPT, names)
        found[name] = {key: names[key] for key in ("log", "lengths", "fold_shapes")}
        assert names["accuracy"] > 0.85, name
        names.clear()  # the loaders among them, which have workers
    assert found["torch"] == found["chainrule"]
