"""Words by their neighbours: an n-gram model, a bag of words and skip-grams with negative samples."""

from collections import Counter

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from start import same_start

CONTEXT_SIZE, EMBEDDING_DIM = 2, 6
text = """We are about to study the idea of a computational process. Computational processes are abstract beings that
inhabit computers. As they evolve, processes manipulate other abstract things called data.""".lower().split()
vocab = sorted(set(text))
word_to_ix = {word: i for i, word in enumerate(vocab)}
ngrams = [([text[i - j - 1] for j in range(CONTEXT_SIZE)], text[i]) for i in range(CONTEXT_SIZE, len(text))]


class NGramLanguageModeler(nn.Module):
    def __init__(self, vocab_size, embedding_dim, context_size):
        super().__init__()
        self.embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.linear1 = nn.Linear(context_size * embedding_dim, 12)
        self.linear2 = nn.Linear(12, vocab_size)

    def forward(self, inputs):
        embeds = self.embeddings(inputs).view((1, -1))
        out = F.relu(self.linear1(embeds))
        return F.log_softmax(self.linear2(out), dim=1)


class SkipGram(nn.Module):
    def __init__(self, vocab_size, embedding_dim):
        super().__init__()
        self.centre = nn.Embedding(vocab_size, embedding_dim)
        self.around = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)

    def forward(self, centre, positive, negative):
        v = self.centre(centre).unsqueeze(2)
        good = torch.bmm(self.around(positive).unsqueeze(1), v).squeeze()
        bad = torch.bmm(self.around(negative).neg(), v).squeeze(2)
        return -(F.logsigmoid(good) + F.logsigmoid(bad).sum(1)).mean()


losses = []
loss_function = nn.NLLLoss()
model = same_start(NGramLanguageModeler(len(vocab), EMBEDDING_DIM, CONTEXT_SIZE))
optimizer = optim.SGD(model.parameters(), lr=0.05)
total_loss = 0
for context, target in ngrams[:10]:
    context_idxs = torch.tensor([word_to_ix[w] for w in context], dtype=torch.long)
    model.zero_grad()
    log_probs = model(context_idxs)
    loss = loss_function(log_probs, torch.tensor([word_to_ix[target]], dtype=torch.long))
    loss.backward()
    optimizer.step()
    total_loss += loss.item()
losses.append(total_loss)

counts = Counter(text)
weights = np.array([counts[w] for w in vocab]) ** 0.75
rng = np.random.default_rng(0)
skip = same_start(SkipGram(len(vocab), EMBEDDING_DIM), seed=1)
optimizer = optim.Adam(skip.parameters(), lr=0.02)
centre = torch.tensor([word_to_ix[w] for w in text[1:]])
positive = torch.tensor([word_to_ix[w] for w in text[:-1]])
for _ in range(3):
    negative = torch.from_numpy(rng.choice(len(vocab), (len(centre), 3), p=weights / weights.sum()))
    loss = skip(centre, positive, negative)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
similar = F.cosine_similarity(skip.centre.weight[3:4], skip.centre.weight, dim=1)
losses += similar.detach().topk(3).values.tolist()
