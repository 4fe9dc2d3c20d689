"""A language model by a transformer encoder, sequence first: positions in a buffer, a causal mask, a padding mask."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from start import same_start
from torch import nn, optim
from torch.nn import TransformerEncoder, TransformerEncoderLayer


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, dropout=0.0, max_len=50):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(position * div_term)
        pe[:, 0, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        x = x + self.pe[: x.size(0)]
        return self.dropout(x)


class TransformerModel(nn.Module):
    def __init__(self, ntoken, d_model, nhead, d_hid, nlayers, dropout=0.0):
        super().__init__()
        self.pos_encoder = PositionalEncoding(d_model, dropout)
        encoder_layers = TransformerEncoderLayer(d_model, nhead, d_hid, dropout)
        self.transformer_encoder = TransformerEncoder(encoder_layers, nlayers, enable_nested_tensor=False)
        self.embedding = nn.Embedding(ntoken, d_model)
        self.d_model = d_model
        self.linear = nn.Linear(d_model, ntoken)

    def forward(self, src, src_mask=None, padding=None):
        src = self.embedding(src) * math.sqrt(self.d_model)
        src = self.pos_encoder(src)
        output = self.transformer_encoder(src, src_mask, src_key_padding_mask=padding)
        return self.linear(output)


rng = np.random.default_rng(0)
ntokens, length = 11, 7
data = torch.from_numpy(rng.integers(1, ntokens, (length + 1, 4)))
padding = torch.zeros(4, length, dtype=torch.bool)
padding[1, 5:] = True
model = same_start(TransformerModel(ntokens, 8, 2, 16, 2))
mask = torch.triu(torch.ones(length, length) * float("-inf"), diagonal=1)
pad_mask = torch.zeros(4, length).masked_fill(padding, float("-inf"))
optimizer = optim.SGD(model.parameters(), lr=1.0)
scheduler = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.95)
losses = []
for _ in range(3):
    model.train()
    output = model(data[:-1], mask, pad_mask)
    targets = data[1:].masked_fill(padding.t(), -100)
    loss = F.cross_entropy(output.view(-1, ntokens), targets.reshape(-1), ignore_index=-100)
    optimizer.zero_grad()
    loss.backward()
    losses.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
    optimizer.step()
    scheduler.step()
    losses.append(loss.item())
losses.append(math.exp(loss.item()))
