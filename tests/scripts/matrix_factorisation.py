"""Recommendation: users and films as rows of embeddings, with biases, on pairs that were rated."""

import numpy as np
import torch
from start import same_start
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

rng = np.random.RandomState(0)
n_users, n_items = 9, 7
pairs = np.stack([rng.randint(0, n_users, 60), rng.randint(0, n_items, 60)], 1)
ratings = rng.uniform(1, 5, 60)


class MatrixFactorization(nn.Module):
    def __init__(self, n_users, n_items, n_factors=4):
        super().__init__()
        self.user_factors = nn.Embedding(n_users, n_factors)
        self.item_factors = nn.Embedding(n_items, n_factors)
        self.user_biases = nn.Embedding(n_users, 1)
        self.item_biases = nn.Embedding(n_items, 1)
        self.offset = nn.Parameter(torch.tensor(3.0), requires_grad=True)

    def forward(self, user, item):
        pred = self.user_biases(user) + self.item_biases(item)
        pred += (self.user_factors(user) * self.item_factors(item)).sum(dim=1, keepdim=True)
        return pred.squeeze() + self.offset


model = same_start(MatrixFactorization(n_users, n_items))
nn.init.zeros_(model.user_biases.weight)
nn.init.constant_(model.item_biases.weight, 0.1)
data = TensorDataset(torch.LongTensor(pairs), torch.FloatTensor(ratings))
train, held_out = random_split(data, [50, 10])
assert sorted(train.indices + held_out.indices) == list(range(60))
loader = DataLoader(data, batch_size=15, shuffle=False, drop_last=True)
loss_func = nn.MSELoss()
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1, weight_decay=1e-4)
losses = []
for _ in range(2):
    for batch, rating in loader:
        row, col = batch[:, 0], batch[:, 1]
        optimizer.zero_grad()
        prediction = model(row, col)
        loss = loss_func(prediction, rating)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
with torch.no_grad():
    users, items = torch.arange(n_users), torch.arange(n_items)
    grid_user, grid_item = torch.meshgrid(users, items, indexing="ij")
    scores = model(grid_user.reshape(-1), grid_item.reshape(-1)).view(n_users, n_items)
    values, indices = torch.topk(scores, k=2, dim=1)
    losses += values.flatten().tolist()
