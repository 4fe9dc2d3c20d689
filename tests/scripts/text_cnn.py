"""Sentences by convolutions of several widths over their words, and by a bag of embeddings with offsets."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

rng = np.random.default_rng(0)
samples = [(int(rng.integers(2)), torch.from_numpy(rng.integers(1, 20, int(rng.integers(5, 9))))) for _ in range(16)]


class TextCNN(nn.Module):
    def __init__(self, vocab, embed, kernels=(2, 3, 4), channels=4, classes=2):
        super().__init__()
        self.embed = nn.Embedding(vocab, embed, padding_idx=0)
        self.convs = nn.ModuleList([nn.Conv1d(embed, channels, k) for k in kernels])
        self.dropout = nn.Dropout(p=0.0)
        self.fc = nn.Linear(channels * len(kernels), classes)

    def forward(self, x):
        x = self.embed(x).transpose(1, 2)
        x = [F.relu(conv(x)) for conv in self.convs]
        x = [F.max_pool1d(c, c.size(-1)).squeeze(dim=-1) for c in x]
        return self.fc(self.dropout(torch.cat(x, dim=1)))


class BagOfWords(nn.Module):
    def __init__(self, vocab, embed, classes):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab, embed, sparse=False)
        self.fc = nn.Linear(embed, classes)

    def forward(self, text, offsets):
        return self.fc(self.embedding(text, offsets))


def padded(batch):
    labels, texts = zip(*batch, strict=True)
    return torch.tensor(labels), pad_sequence(texts, batch_first=True)


def flat(batch):
    label_list, text_list, offsets = [], [], [0]
    for label, text in batch:
        label_list.append(label)
        text_list.append(text)
        offsets.append(text.size(0))
    return torch.tensor(label_list, dtype=torch.int64), torch.cat(text_list), torch.tensor(offsets[:-1]).cumsum(dim=0)


losses = []
model = same_start(TextCNN(20, 6))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for labels, texts in DataLoader(samples, batch_size=8, collate_fn=padded):
    loss = F.cross_entropy(model(texts), labels, weight=torch.tensor([0.4, 0.6]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert not model.embed.weight.grad[0].any()

bag = same_start(BagOfWords(20, 6, 2))
criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(bag.parameters(), lr=2.0)
total_acc = total_count = 0
for label, text, offsets in DataLoader(samples, batch_size=8, collate_fn=flat):
    optimizer.zero_grad()
    predicted = bag(text, offsets)
    loss = criterion(predicted, label)
    loss.backward()
    nn.utils.clip_grad_norm_(bag.parameters(), 0.1)
    optimizer.step()
    total_acc += (predicted.argmax(1) == label).sum().item()
    total_count += label.size(0)
    losses.append(loss.item())
losses.append(total_acc / total_count)
