"""Text, letter by letter: an LSTM whose state goes on from piece to piece, cut by detach, and a greedy sample."""

import torch
from start import same_start
from torch import nn

text = "the quick brown fox jumps over the lazy dog. " * 4
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
itos = dict(enumerate(chars))
data = torch.tensor([stoi[c] for c in text], dtype=torch.long)
seq_length, batch_size = 10, 2


class CharLSTM(nn.Module):
    def __init__(self, vocab_size, embed_size, hidden_size, num_layers):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embed_size)
        self.lstm = nn.LSTM(embed_size, hidden_size, num_layers, batch_first=True)
        self.linear = nn.Linear(hidden_size, vocab_size)
        self.hidden_size, self.num_layers = hidden_size, num_layers

    def forward(self, x, h):
        x = self.embed(x)
        out, (h, c) = self.lstm(x, h)
        out = out.reshape(out.size(0) * out.size(1), out.size(2))
        return self.linear(out), (h, c)


def get_batch(ids, batch_size):
    num_batches = ids.size(0) // batch_size
    ids = ids[: num_batches * batch_size]
    return ids.view(batch_size, -1)


model = same_start(CharLSTM(len(chars), 8, 16, 2))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
ids = get_batch(data, batch_size)
losses = []
for _epoch in range(1):
    states = (torch.zeros(2, batch_size, 16), torch.zeros(2, batch_size, 16))
    for i in range(0, ids.size(1) - seq_length, seq_length):
        inputs = ids[:, i : i + seq_length]
        targets = ids[:, (i + 1) : (i + 1) + seq_length]
        states = tuple(state.detach() for state in states)
        outputs, states = model(inputs, states)
        loss = criterion(outputs, targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())

model.eval()
with torch.no_grad():
    state = (torch.zeros(2, 1, 16), torch.zeros(2, 1, 16))
    input = torch.tensor([[stoi["t"]]])
    sample = ""
    for _ in range(8):
        output, state = model(input, state)
        prob = torch.softmax(output / 0.8, dim=-1)
        word_id = prob.argmax(dim=-1).item()
        losses.append(prob.max().item())
        input.fill_(word_id)
        sample += itos[word_id]
print(f"perplexity {torch.exp(loss).item():.2f}, sample {sample!r}")
