"""Similar and different: a triplet loss, a contrastive loss and a cosine loss on one encoder."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start

random = np.random.default_rng(0)
centres = random.normal(size=(4, 6))


def draw(labels):
    return torch.from_numpy((centres[labels] + 0.3 * random.normal(size=(len(labels), 6))).astype(np.float32))


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        euclidean_distance = F.pairwise_distance(output1, output2, keepdim=True)
        return torch.mean(
            (1 - label) * torch.pow(euclidean_distance, 2)
            + label * torch.pow(torch.clamp(self.margin - euclidean_distance, min=0.0), 2)
        )


encoder = same_start(nn.Sequential(nn.Linear(6, 12), nn.ELU(), nn.Linear(12, 3)))
triplet, contrastive, cosine = (
    nn.TripletMarginLoss(margin=1.0, p=2),
    ContrastiveLoss(),
    nn.CosineEmbeddingLoss(margin=0.2),
)
optimizer = torch.optim.RMSprop(encoder.parameters(), lr=5e-3, alpha=0.9, momentum=0.5)
losses = []
for _ in range(4):
    labels = random.integers(0, 4, 16)
    others = (labels + random.integers(1, 4, 16)) % 4
    anchor, positive, negative = encoder(draw(labels)), encoder(draw(labels)), encoder(draw(others))
    different = torch.cat([torch.zeros(16, 1), torch.ones(16, 1)])
    twice = anchor.repeat(2, 1)
    paired = torch.cat((positive, negative), dim=0)
    loss = (
        triplet(anchor, positive, negative)
        + contrastive(twice, paired, different)
        + cosine(F.normalize(twice, dim=1), paired, 1 - 2 * different.squeeze(1))
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
encoder.eval()
with torch.no_grad():
    gallery = F.normalize(encoder(torch.from_numpy(centres).float()), dim=-1)
    similarity = gallery @ gallery.mT
    losses += similarity.flatten().tolist()
    assert similarity.argmax(dim=1).tolist() == [0, 1, 2, 3]
