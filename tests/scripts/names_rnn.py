"""Names by language: a recurrent network of two linear layers, one letter at a time, updated by hand."""

import string

import torch
import torch.nn as nn
from start import same_start

all_letters = string.ascii_lowercase + " '"
category_lines = {"English": ["smith", "jones", "hall"], "Italian": ["rossi", "bianchi"], "Czech": ["novak", "dvorak"]}
all_categories = list(category_lines)
n_letters, n_categories, n_hidden = len(all_letters), len(all_categories), 16


def line_to_tensor(line):
    tensor = torch.zeros(len(line), 1, n_letters)
    for li, letter in enumerate(line):
        tensor[li][0][all_letters.find(letter)] = 1
    return tensor


class RNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, input, hidden):
        combined = torch.cat((input, hidden), 1)
        hidden = torch.tanh(self.i2h(combined))
        output = self.softmax(self.h2o(hidden))
        return output, hidden

    def init_hidden(self):
        return torch.zeros(1, self.hidden_size)


rnn = same_start(RNN(n_letters, n_hidden, n_categories))
criterion = nn.NLLLoss()
learning_rate = 0.1
losses = []


def train(category_tensor, line_tensor):
    hidden = rnn.init_hidden()
    rnn.zero_grad()
    for i in range(line_tensor.size()[0]):
        output, hidden = rnn(line_tensor[i], hidden)
    loss = criterion(output, category_tensor)
    loss.backward()
    for p in rnn.parameters():
        p.data.add_(p.grad.data, alpha=-learning_rate)
    return output, loss.item()


for _ in range(2):
    for number, category in enumerate(all_categories):
        for line in category_lines[category]:
            output, loss = train(torch.tensor([number], dtype=torch.long), line_to_tensor(line))
            losses.append(loss)

confusion = torch.zeros(n_categories, n_categories)
with torch.no_grad():
    for number, category in enumerate(all_categories):
        for line in category_lines[category]:
            hidden = rnn.init_hidden()
            for letter in line_to_tensor(line):
                output, hidden = rnn(letter, hidden)
            top_n, top_i = output.topk(1)
            confusion[number][top_i[0].item()] += 1
for i in range(n_categories):
    confusion[i] = confusion[i] / confusion[i].sum()
losses.extend(confusion.flatten().tolist())
