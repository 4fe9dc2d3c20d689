"""A wide and a deep part over categories and numbers, two tasks, class weights, and a sampler that balances."""

import numpy as np
import torch
from start import same_start
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, WeightedRandomSampler

rng = np.random.default_rng(0)


class Table(Dataset):
    def __init__(self, rows):
        self.cats = rng.integers(0, 4, (rows, 2))
        self.nums = rng.normal(size=(rows, 3)).astype(np.float32)
        self.label = (rng.random(rows) < 0.3).astype(np.int64)
        self.value = rng.normal(size=rows).astype(np.float32)

    def __len__(self):
        return len(self.label)

    def __getitem__(self, i):
        return {"cats": self.cats[i], "nums": self.nums[i], "label": self.label[i], "value": self.value[i]}


class WideAndDeep(nn.Module):
    def __init__(self, sizes, numbers):
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(n, min(50, (n + 1) // 2)) for n in sizes])
        width = sum(e.embedding_dim for e in self.embeds)
        self.bn = nn.BatchNorm1d(numbers)
        self.deep = nn.Sequential(
            nn.Linear(width + numbers, 16), nn.ReLU(), nn.Dropout(0.0), nn.Linear(16, 8), nn.SELU()
        )
        self.heads = nn.ModuleDict({"label": nn.Linear(8, 2), "value": nn.Linear(8, 1)})
        self.log_vars = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in self.heads])

    def forward(self, cats, nums):
        embedded = torch.cat([e(cats[:, i]) for i, e in enumerate(self.embeds)], 1)
        hidden = self.deep(torch.cat([embedded, self.bn(nums)], 1))
        return {name: head(hidden) for name, head in self.heads.items()}


data = ConcatDataset([Table(12), Table(12)])
labels = torch.tensor([data[i]["label"] for i in range(len(data))])
class_weights = 1.0 / torch.bincount(labels).float()
assert len(list(WeightedRandomSampler(class_weights[labels], num_samples=10))) == 10
loader = DataLoader(data, batch_size=8)
model = same_start(WideAndDeep([4, 4], 3))
decay = [p for p in model.parameters() if p.dim() > 1]
rest = [p for p in model.parameters() if p.dim() <= 1]
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 1e-2}, {"params": rest, "weight_decay": 0.0}], lr=1e-2)
classify, regress = nn.CrossEntropyLoss(weight=class_weights / class_weights.sum()), nn.L1Loss()
losses = []
for _ in range(2):
    for batch in loader:
        out = model(batch["cats"], batch["nums"])
        both = [classify(out["label"], batch["label"]), regress(out["value"].squeeze(-1), batch["value"])]
        loss = sum(torch.exp(-s) * part + 0.5 * s for s, part in zip(model.log_vars, both, strict=True))
        optimizer.zero_grad()
        loss.backward()
        grads = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        optimizer.step()
        losses += [loss.item(), torch.stack(grads).max().item()]
