"""Training loops as people write them, made at random; `python -m tests.tape.loops 1000` runs many with and without waiting."""

from __future__ import annotations

import random
import sys

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import DataError
from chainrule.nn import functional as F

ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.Sigmoid, lambda: nn.LeakyReLU(0.1), nn.GELU, lambda: nn.ReLU(inplace=True)]
OPTIMIZERS = {
    "adam": lambda p: optim.Adam(p, lr=0.05),
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.02),
    "by hand": lambda p: None,
    "data": lambda p: None,
}


class Net(nn.Module):
    """Layers that a loop in Python calls, and which remember what they made."""

    def __init__(self, layers, remembers):
        super().__init__()
        self.layers, self.remembers = nn.ModuleList(layers), remembers

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        if self.remembers:
            self.last = x
        return x


class Loop:
    """One loop, of which all but the moments of asking follows from its seed.

    Args:
        ask: with which probability a value is asked for at each of many places, which changes nothing.
    """

    def __init__(self, seed, ask=0.0):
        self.draws, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.moments, self.ask, self.seen = random.Random(seed + 1), ask, []
        draws = self.draws
        self.rows, self.width = draws.choice([3, 5]), draws.choice([2, 4])
        layers, self.classes = [], self.width
        for _ in range(draws.randint(1, 3)):
            before, self.classes = self.classes, draws.choice([2, 3, 4])
            layers.append(nn.Linear(before, self.classes, bias=draws.random() < 0.8))
            if draws.random() < 0.8:
                layers.append(draws.choice(ACTIVATIONS)())
        self.model = nn.Sequential(*layers) if draws.random() < 0.6 else Net(layers, draws.random() < 0.3)
        self.parameters = list(self.model.parameters())
        with cr.no_grad():
            for p in self.parameters:
                p.copy_(cr.from_numpy(self.numbers.normal(size=tuple(p.shape)).astype(np.float32) * 0.5))
        self.how = draws.choice(list(OPTIMIZERS))
        self.optimizer = OPTIMIZERS[self.how](self.parameters)
        self.loss, self.asked = (
            draws.choice(["mse", "classes", "own", "l1"]),
            draws.choice(["", "", "loss", "now and then", "output", "gradient", "parameter", "evaluation"]),
        )
        self.batches, self.to_none = draws.choice([1, 1, 1, 2, 3]), draws.random() < 0.7
        self.clips, self.decays, self.holds, self.views, self.twice, self.freezes, self.fails = (
            draws.random() < share for share in (0.25, 0.3, 0.3, 0.2, 0.15, 0.15, 0.15)
        )
        self.held = []

    def peek(self, tensor):
        if self.moments.random() < self.ask:
            tensor.detach().numpy()

    def run(self):
        """All that can be seen of it: values that were asked for, and how parameters and gradients ended."""
        for step in range(self.draws.randint(5, 9)):
            self.step(step)
        last = [t for held in self.held for t in held if t is not None]
        last += [p.detach() for p in self.parameters] + [p.grad for p in self.parameters if p.grad is not None]
        return self.seen + [t.numpy().copy() for t in last]

    def step(self, step):
        """One batch."""
        if step % self.batches == 0:
            self.forget()
        if self.freezes and step in (3, 5):
            self.parameters[0].requires_grad_(step == 5)
        loss = self.forward(step)
        if self.asked == "loss" or (self.asked == "now and then" and step % 3 == 0):
            self.seen.append(loss.item())
        self.peek(loss)
        (loss / self.batches if self.batches > 1 else loss).backward(retain_graph=self.twice)
        if self.twice:
            (loss * 0.5).backward()
        gradient = self.parameters[-1].grad
        self.peek(gradient)
        if self.asked == "gradient":
            self.seen.append(gradient.sum().item())
        if self.holds:
            self.held.append((self.parameters[0].detach(), gradient, self.parameters[-1].detach().clone()))
        if (step + 1) % self.batches == 0:
            self.update()
        if self.asked == "parameter":
            self.seen.append(self.parameters[0].sum().item())
        if self.asked == "evaluation":
            with cr.no_grad():
                self.seen.append(self.model(cr.ones(2, self.width)).sum().item())
        self.peek(self.parameters[0])

    def forget(self):
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=self.to_none)
            return
        for p in self.parameters:
            if self.to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad.zero_()

    def forward(self, step):
        x = cr.from_numpy(self.numbers.normal(size=(self.rows, self.width)).astype(np.float32))
        labels = cr.from_numpy(self.numbers.integers(0, self.classes, self.rows))
        values = cr.from_numpy(self.numbers.normal(size=(self.rows, self.classes)).astype(np.float32))
        output = self.model(x)
        self.peek(output)
        if self.asked == "output":
            self.seen.append(output.sum().item())
        if self.views:
            output = output * 1.0 + output[0].sum() * 0.1
        if self.fails and step % 3 == 1:
            try:
                F.cross_entropy(output, labels + 99)
            except DataError:
                self.seen.append("refused")
        if self.loss == "classes":
            return F.cross_entropy(output, labels)
        if self.loss == "mse":
            return F.mse_loss(output, values)
        if self.loss == "l1":
            return (output - values).abs().mean() + (output * output).mean() * 0.1
        return ((output - values) ** 2).sum() / self.rows + sum((p**2).sum() for p in self.parameters) * 1e-3

    def update(self):
        if self.clips:
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
        if self.optimizer is not None:
            if self.decays:
                for group in self.optimizer.param_groups:
                    group["lr"] *= 0.9
            self.optimizer.step()
        elif self.how == "by hand":
            with cr.no_grad():
                for p in self.parameters:
                    if p.grad is not None:
                        p -= 0.05 * p.grad
        else:
            for p in self.parameters:
                if p.grad is not None:
                    p.data.add_(p.grad, alpha=-0.05)


def outcome(seed, ask=0.0):
    """What a loop shows, or the error that it ends with."""
    try:
        return Loop(seed, ask).run()
    except Exception as error:
        return [type(error).__name__, str(error)]


def differences(seeds, asks=(0.0, 0.15), rtol=0.0, atol=0.0):
    """The seeds of loops that show something else where operations wait."""
    found = []
    for seed in seeds:
        expected = outcome(seed)
        for ask in asks:
            with cr.eager(False):
                given = outcome(seed, ask)
            try:
                assert len(given) == len(expected)
                for a, b in zip(given, expected, strict=True):
                    if isinstance(b, str):
                        assert a == b
                    else:
                        np.testing.assert_allclose(a, b, rtol, atol)
            except AssertionError:
                found.append((seed, ask))
    return found


if __name__ == "__main__":
    first, last = ([0, *map(int, sys.argv[1:])])[-2:]
    print(differences(range(first, last), rtol=3e-4, atol=3e-5))
