"""Tags of words: packed sequences of several lengths through a bidirectional LSTM, sorted and unsorted batches."""

import numpy as np
import torch
import torch.nn as nn
from start import same_start
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

rng = np.random.default_rng(0)


class Sentences(Dataset):
    def __init__(self, count):
        self.words = [rng.integers(1, 12, rng.integers(2, 7)) for _ in range(count)]
        self.tags = [(words % 3) for words in self.words]

    def __len__(self):
        return len(self.words)

    def __getitem__(self, index):
        return torch.tensor(self.words[index]), torch.tensor(self.tags[index])


def collate(batch):
    words, tags = zip(*batch, strict=True)
    lengths = torch.tensor([len(w) for w in words])
    return pad_sequence(words, batch_first=True), pad_sequence(tags, batch_first=True, padding_value=-1), lengths


class Tagger(nn.Module):
    def __init__(self, vocab, embed, hidden, tags):
        super().__init__()
        self.embedding = nn.Embedding(vocab, embed, padding_idx=0)
        self.lstm = nn.LSTM(embed, hidden, bidirectional=True, batch_first=True)
        self.hidden2tag = nn.Linear(2 * hidden, tags)
        self.length = nn.Linear(2 * hidden, 1)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embedding(words), lengths.cpu(), batch_first=True, enforce_sorted=False)
        output, (hidden, _cell) = self.lstm(packed)
        output, _ = pad_packed_sequence(output, batch_first=True)
        return self.hidden2tag(output), self.length(torch.cat([hidden[-2], hidden[-1]], dim=1))


model = same_start(Tagger(12, 5, 4, 3))
criterion = nn.CrossEntropyLoss(ignore_index=-1)
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
losses = []
for _ in range(2):
    for words, tags, lengths in DataLoader(Sentences(12), batch_size=4, collate_fn=collate):
        scores, guessed = model(words, lengths)
        loss = criterion(scores.reshape(-1, 3), tags.reshape(-1)) + 0.1 * (guessed.squeeze(1) - lengths).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mask = tags != -1
        losses += [loss.item(), ((scores.argmax(-1) == tags) & mask).sum().item() / mask.sum().item()]
