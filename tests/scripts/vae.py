"""A variational autoencoder: the loss is a sum, the noise is given, samples are decoded at the end."""

import numpy as np
import torch
import torch.utils.data
from start import same_start
from torch import nn, optim
from torch.nn import functional as F

random = np.random.default_rng(0)
noise = [torch.tensor(random.normal(size=(8, 3)), dtype=torch.float32) for _ in range(4)]


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(36, 16)
        self.fc21 = nn.Linear(16, 3)
        self.fc22 = nn.Linear(16, 3)
        self.fc3 = nn.Linear(3, 16)
        self.fc4 = nn.Linear(16, 36)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar, eps):
        std = torch.exp(0.5 * logvar)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x, eps):
        mu, logvar = self.encode(x.view(-1, 36))
        z = self.reparameterize(mu, logvar, eps)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 36), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


data = torch.utils.data.TensorDataset(torch.tensor(random.random((16, 1, 6, 6)), dtype=torch.float32))
train_loader = torch.utils.data.DataLoader(data, batch_size=8)
model = same_start(VAE())
optimizer = optim.Adam(model.parameters(), lr=1e-2)
losses = []
for epoch in range(2):
    model.train()
    train_loss = 0
    for batch_idx, (batch,) in enumerate(train_loader):
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(batch, noise[2 * epoch + batch_idx])
        loss = loss_function(recon_batch, batch, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
        losses.append(loss.item() / len(batch))
with torch.no_grad():
    sample = model.decode(noise[0]).cpu()
    losses.append(sample.view(8, 1, 6, 6).mean().item())
