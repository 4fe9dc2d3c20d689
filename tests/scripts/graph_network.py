"""Nodes of a graph: convolution by the normalised adjacency, attention over neighbours, and messages by index_add."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start

rng = np.random.default_rng(0)
n, features, classes = 12, 5, 3
edges = torch.from_numpy(np.unique(np.sort(rng.integers(0, n, (24, 2)), axis=1), axis=0).T.copy())
A = torch.zeros(n, n)
A[edges[0], edges[1]] = 1.0
A = ((A + A.t()) > 0).float()
A_hat = A + torch.eye(n) * (1 - torch.diagonal(A))
degree = A_hat.sum(1)
D_inv_sqrt = torch.diag(degree.pow(-0.5))
norm_adj = D_inv_sqrt @ A_hat @ D_inv_sqrt
X = torch.tensor(rng.normal(size=(n, features)), dtype=torch.float32)
y = torch.tensor(rng.integers(0, classes, n))
train_mask = torch.zeros(n, dtype=torch.bool)
train_mask[:8] = True


class GCNLayer(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return torch.matmul(adj, torch.matmul(x, self.weight)) + self.bias


class GATLayer(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.W = nn.Linear(in_features, out_features, bias=False)
        self.a = nn.Parameter(torch.empty(2 * out_features, 1))
        nn.init.xavier_uniform_(self.a, gain=1.414)
        self.out_features = out_features

    def forward(self, h, adj):
        Wh = self.W(h)
        e = F.leaky_relu(Wh @ self.a[: self.out_features] + (Wh @ self.a[self.out_features :]).T, 0.2)
        attention = torch.where(adj > 0, e, -9e15 * torch.ones_like(e))
        return F.elu(F.softmax(attention, dim=1) @ Wh)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.attend = GCNLayer(features, 8), GATLayer(8, 8)
        self.message, self.out = nn.Linear(16, 8), nn.Linear(8, classes)

    def forward(self, x, adj, edges):
        x = F.relu(self.conv(x, adj))
        x = self.attend(x, adj)
        source, target = edges[0], edges[1]
        messages = torch.relu(self.message(torch.cat([x[source], x[target]], dim=-1)))
        pooled = torch.zeros_like(x).index_add_(0, target, messages)
        count = torch.zeros(x.size(0), 1).scatter_add_(0, target.unsqueeze(1), torch.ones(len(target), 1))
        return self.out(x + pooled / count.clamp(min=1))


model = same_start(Net())
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
losses = []
for _ in range(4):
    model.train()
    optimizer.zero_grad()
    out = model(X, norm_adj, edges)
    loss = F.cross_entropy(out[train_mask], y[train_mask])
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
model.eval()
with torch.no_grad():
    pred = model(X, norm_adj, edges).argmax(dim=1)
losses.append((pred[~train_mask] == y[~train_mask]).float().mean().item())
