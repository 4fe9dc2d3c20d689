"""Sixteen small training scripts as PyTorch users write them, eager: ours against PyTorch's CPU time, losses compared.

Run: ``OMP_NUM_THREADS=1 python benchmarks/eager_scripts.py [names]`` with PyTorch installed.

Each script is a function of a library (`Library`: PyTorch's modules, or ours by the same names) and a number of steps; it
returns the losses. Weights, data and noise come from NumPy, so both libraries compute the same. The CPU time of the two is
taken in turns, one thread each; of several rounds the fastest counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

Losses = list[float]


@dataclass
class Library:
    """PyTorch or chainrule, by PyTorch's names."""

    name: str
    torch: Any
    nn: Any
    optim: Any
    F: Any
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def normal(self, *shape: int) -> Any:
        """Normal numbers, the same in both libraries."""
        return self.torch.from_numpy(self.random.normal(size=shape).astype(np.float32))

    def labels(self, count: int, *shape: int) -> Any:
        """Class numbers below `count`, likewise."""
        return self.torch.from_numpy(self.random.integers(0, count, shape))

    def start(self, *modules: Any) -> None:
        """Weights drawn here instead of by the library."""
        with self.torch.no_grad():
            for module in modules:
                for p in module.parameters():
                    fan = p.shape[-1]
                    drawn = self.random.uniform(-1, 1, tuple(p.shape)).astype(np.float32) / fan**0.5
                    p.copy_(self.torch.from_numpy(drawn))

    def mlp(self, *widths: int, act: str = "ReLU") -> Any:
        """Linear layers with an activation between them."""
        layers: list[Any] = []
        for a, b in pairwise(widths):
            layers += [self.nn.Linear(a, b), getattr(self.nn, act)()]
        model = self.nn.Sequential(*layers[:-1])
        self.start(model)
        return model


def ours(seed: int = 0) -> Library:
    """chainrule."""
    import chainrule
    import chainrule.nn.functional as F
    from chainrule import nn, optim

    return Library("chainrule", chainrule, nn, optim, F, seed)


def theirs(seed: int = 0) -> Library:
    """PyTorch, on one thread."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    return Library("torch", torch, torch.nn, torch.optim, F, seed)


# -- the scripts ---------------------------------------------------------------------------------


def regression(lib: Library, steps: int) -> Losses:
    """A line through points."""
    model = lib.mlp(13, 1)
    X, y = lib.normal(64, 13), lib.normal(64, 1)
    criterion, optimizer = lib.nn.MSELoss(), lib.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def classifier(lib: Library, steps: int) -> Losses:
    """A perceptron on ten classes."""
    model = lib.mlp(64, 128, 64, 10)
    X, y = lib.normal(1024, 64), lib.labels(10, 1024)
    criterion, optimizer = lib.nn.CrossEntropyLoss(), lib.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for step in range(steps):
        at = step * 64 % 1024
        xb, yb = X[at : at + 64], y[at : at + 64]
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def autoencoder(lib: Library, steps: int) -> Losses:
    """Images through a narrow place."""
    encoder, decoder = lib.mlp(196, 64, 16), lib.mlp(16, 64, 196)
    optimizer = lib.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    X = lib.normal(64, 14, 14).sigmoid()
    losses = []
    for _ in range(steps):
        flat = X.view(X.size(0), -1)
        loss = lib.F.mse_loss(lib.torch.sigmoid(decoder(encoder(flat))), flat)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def gan(lib: Library, steps: int) -> Losses:
    """A generator against a discriminator."""
    G, D = lib.mlp(8, 32, 2), lib.mlp(2, 32, 1, act="LeakyReLU")
    g_opt = lib.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999))
    d_opt = lib.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.999))
    bce = lib.nn.BCEWithLogitsLoss()
    ones, zeros = lib.torch.ones(32, 1), lib.torch.zeros(32, 1)
    losses = []
    for _ in range(steps):
        real, fake = lib.normal(32, 2), G(lib.normal(32, 8))
        d_opt.zero_grad()
        d_loss = bce(D(real), ones) + bce(D(fake.detach()), zeros)
        d_loss.backward()
        d_opt.step()
        g_opt.zero_grad()
        g_loss = bce(D(fake), ones)
        g_loss.backward()
        g_opt.step()
        losses += [d_loss.item(), g_loss.item()]
    return losses


def dqn(lib: Library, steps: int) -> Losses:
    """Q-learning with a target network and a replay memory."""
    policy, target = lib.mlp(4, 64, 64, 2), lib.mlp(4, 64, 64, 2)
    target.load_state_dict(policy.state_dict())
    optimizer = lib.optim.AdamW(policy.parameters(), lr=1e-3)
    S, A, R, N = lib.normal(512, 4), lib.labels(2, 512, 1), lib.normal(512), lib.normal(512, 4)
    losses = []
    for step in range(steps):
        rows = lib.labels(512, 64)
        q = policy(S[rows]).gather(1, A[rows])
        with lib.torch.no_grad():
            best = target(N[rows]).max(1)[0]
        expected = R[rows] + 0.99 * best
        loss = lib.F.smooth_l1_loss(q, expected.unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        lib.nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
        optimizer.step()
        if step % 4 == 0:
            for p, t in zip(policy.parameters(), target.parameters(), strict=True):
                t.data.copy_(0.1 * p.data + 0.9 * t.data)
        losses.append(loss.item())
    return losses


def reinforce(lib: Library, steps: int) -> Losses:
    """A policy gradient: one state at a time, then one step for the episode."""
    policy = lib.mlp(4, 32, 2)
    optimizer = lib.optim.Adam(policy.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        states, actions, rewards = lib.normal(8, 4), lib.labels(2, 8), lib.normal(8)
        log_probs = []
        for t in range(8):
            log_prob = lib.torch.log_softmax(policy(states[t]), dim=-1)
            log_probs.append(log_prob[int(actions[t])])
        returns, running = [], 0.0
        for r in reversed(rewards.tolist()):
            running = r + 0.9 * running
            returns.insert(0, running)
        R = lib.torch.tensor(returns)
        R = (R - R.mean()) / (R.std() + 1e-6)
        loss = -(lib.torch.stack(log_probs) * R).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def siamese(lib: Library, steps: int) -> Losses:
    """Pairs that shall lie near or far: a contrastive loss."""
    net = lib.mlp(20, 64, 16)
    optimizer = lib.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(steps):
        a, b, same = lib.normal(32, 20), lib.normal(32, 20), lib.labels(2, 32).float()
        distance = ((net(a) - net(b)).pow(2).sum(1) + 1e-6).sqrt()
        loss = (same * distance.pow(2) + (1 - same) * lib.torch.clamp(1.0 - distance, min=0).pow(2)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def vae(lib: Library, steps: int) -> Losses:
    """A variational autoencoder as a Module of its own."""

    class VAE(lib.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.mean, self.logvar = (lib.nn.Linear(a, b) for a, b in ((64, 32), (32, 8), (32, 8)))
            self.back, self.out = lib.nn.Linear(8, 32), lib.nn.Linear(32, 64)

        def forward(self, x: Any, noise: Any) -> Any:
            h = lib.F.relu(self.hidden(x))
            mu, logvar = self.mean(h), self.logvar(h)
            z = mu + noise * lib.torch.exp(0.5 * logvar)
            return self.out(lib.F.relu(self.back(z))), mu, logvar

    model = VAE()
    lib.start(model)
    optimizer = lib.optim.Adam(model.parameters(), lr=1e-3)
    X = lib.normal(64, 64).sigmoid()
    losses = []
    for _ in range(steps):
        recon, mu, logvar = model(X, lib.normal(64, 8))
        bce = lib.F.binary_cross_entropy_with_logits(recon, X, reduction="sum")
        kld = -0.5 * lib.torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        loss = (bce + kld) / 64
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def pinn(lib: Library, steps: int) -> Losses:
    """u' = -u, u(0) = 1: the derivative of the network is in the loss."""
    net = lib.mlp(1, 32, 32, 1, act="Tanh")
    optimizer = lib.optim.Adam(net.parameters(), lr=1e-3)
    grid, zero = lib.torch.linspace(0, 2, 32).reshape(-1, 1), lib.torch.zeros(1, 1)
    losses = []
    for _ in range(steps):
        x = grid.clone().requires_grad_()
        u = net(x)
        u.sum().backward(create_graph=True, inputs=[x])
        du, x.grad = x.grad, None
        loss = ((du + u) ** 2).mean() + ((net(zero) - 1) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def logistic(lib: Library, steps: int) -> Losses:
    """Logistic regression with parameters and updates by hand."""
    torch = lib.torch
    X, y = lib.normal(128, 20), lib.labels(2, 128).float()
    w, b = torch.zeros(20, requires_grad=True), torch.zeros(1, requires_grad=True)
    losses = []
    for _ in range(steps):
        p = torch.sigmoid(X @ w + b)
        loss = -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
            b -= 0.1 * b.grad
        w.grad.zero_()
        b.grad.zero_()
        losses.append(loss.item())
    return losses


def factorization(lib: Library, steps: int) -> Losses:
    """Ratings as products of user and item vectors."""
    users, items = lib.nn.Parameter(0.1 * lib.normal(100, 8)), lib.nn.Parameter(0.1 * lib.normal(50, 8))
    optimizer = lib.optim.Adam([users, items], lr=0.01, weight_decay=1e-4)
    u, i, rating = lib.labels(100, 1024), lib.labels(50, 1024), lib.normal(1024)
    losses = []
    for step in range(steps):
        at = step * 128 % 1024
        rows = slice(at, at + 128)
        predicted = (users[u[rows]] * items[i[rows]]).sum(1)
        loss = lib.F.mse_loss(predicted, rating[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def recurrent(lib: Library, steps: int) -> Losses:
    """A recurrent network written out, eight steps long."""
    cell, read = lib.mlp(8 + 32, 32), lib.mlp(32, 1)
    optimizer = lib.optim.RMSprop([*cell.parameters(), *read.parameters()], lr=1e-3)
    X, y = lib.normal(32, 8, 8), lib.normal(32, 1)
    losses = []
    for _ in range(steps):
        h = lib.torch.zeros(32, 32)
        for t in range(8):
            h = lib.torch.tanh(cell(lib.torch.cat([X[:, t], h], dim=1)))
        loss = lib.F.mse_loss(read(h), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def attention(lib: Library, steps: int) -> Losses:
    """One head of attention over sequences, its softmax written out."""
    embed, q, k, v, read = (lib.mlp(a, b) for a, b in ((8, 32), (32, 32), (32, 32), (32, 32), (32, 4)))
    parts = [embed, q, k, v, read]
    optimizer = lib.optim.Adam([p for part in parts for p in part.parameters()], lr=1e-3)
    X, y = lib.normal(16, 10, 8), lib.labels(4, 16)
    losses = []
    for _ in range(steps):
        h = embed(X)
        scores = q(h) @ k(h).transpose(-2, -1) / 32**0.5
        mixed = lib.torch.softmax(scores, dim=-1) @ v(h)
        loss = lib.F.cross_entropy(read(mixed.mean(dim=1)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def gaussian(lib: Library, steps: int) -> Losses:
    """A mean and a variance for each point: their likelihood is the loss."""
    net = lib.mlp(5, 32, 2, act="Tanh")
    optimizer = lib.optim.Adam(net.parameters(), lr=1e-3)
    X, y = lib.normal(64, 5), lib.normal(64, 1)
    losses = []
    for _ in range(steps):
        mean, raw = net(X).chunk(2, dim=1)
        variance = lib.F.softplus(raw) + 1e-3
        loss = 0.5 * (lib.torch.log(variance) + (y - mean) ** 2 / variance).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def actor_critic(lib: Library, steps: int) -> Losses:
    """Two heads on one body, with an entropy bonus."""

    class Net(lib.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.body, self.actor, self.critic = lib.nn.Linear(4, 64), lib.nn.Linear(64, 3), lib.nn.Linear(64, 1)

        def forward(self, x: Any) -> Any:
            h = self.body(x).tanh()
            return self.actor(h), self.critic(h).squeeze(-1)

    net = Net()
    lib.start(net)
    optimizer = lib.optim.Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        S, A, R = lib.normal(32, 4), lib.labels(3, 32), lib.normal(32)
        logits, value = net(S)
        log_probs = lib.F.log_softmax(logits, dim=-1)
        chosen = log_probs.gather(1, A.unsqueeze(1)).squeeze(1)
        advantage = R - value.detach()
        entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
        loss = -(chosen * advantage).mean() + 0.5 * lib.F.mse_loss(value, R) - 0.01 * entropy
        optimizer.zero_grad()
        loss.backward()
        lib.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    return losses


def scheduled(lib: Library, steps: int) -> Losses:
    """A deeper perceptron with weight decay, clipping and a cosine schedule, its loss weighted by hand."""
    net = lib.mlp(16, 64, 64, 64, 64, 3, act="GELU")
    optimizer = lib.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)
    scheduler = lib.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    X, y, weight = lib.normal(48, 16), lib.labels(3, 48), lib.normal(48).abs()
    losses = []
    for _ in range(steps):
        loss = (lib.F.cross_entropy(net(X), y, reduction="none") * weight).mean()
        optimizer.zero_grad()
        loss.backward()
        lib.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


SCRIPTS: dict[str, Callable[[Library, int], Losses]] = {
    script.__name__: script
    for script in (
        regression, classifier, autoencoder, gan, dqn, reinforce, siamese, vae, pinn, logistic, factorization, recurrent,
        attention, gaussian, actor_critic, scheduled,
    )
}  # fmt: skip


# -- the comparison ------------------------------------------------------------------------------


def seconds(script: Callable[[Library, int], Losses], library: Library, steps: int) -> float:
    """CPU seconds a step."""
    start = time.process_time()
    script(library, steps)
    return (time.process_time() - start) / steps


def difference(script: Callable[[Library, int], Losses], steps: int) -> float:
    """The largest difference of a loss, by its size or by one."""
    mine, right = np.array(script(ours(), steps)), np.array(script(theirs(), steps))
    return float(np.max(np.abs(mine - right) / np.maximum(1, np.abs(right))))


def compare(name: str, steps: int, rounds: int) -> tuple[float, float, float]:
    """Microseconds a step, ours and PyTorch's, and how far the losses lie apart."""
    import chainrule

    script = SCRIPTS[name]
    chainrule.set_num_threads(1)
    apart = difference(script, steps)
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for i, library in enumerate((ours, theirs)):
            best[i] = min(best[i], seconds(script, library(), steps))
    return best[0] * 1e6, best[1] * 1e6, apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *SCRIPTS], default=[], help="some of the scripts (all)")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{'script':14}{'ours us':>9}{'PyTorch us':>12}{'ratio':>7}{'loss apart':>12}")
    ratios = []
    for name in given.names or SCRIPTS:
        mine, right, apart = compare(name, given.steps, given.rounds)
        ratios.append(mine / right)
        print(f"{name:14}{mine:9.0f}{right:12.0f}{ratios[-1]:7.2f}{apart:12.1e}")
        sys.stdout.flush()
    print(f"{'median':14}{'':21}{np.median(ratios):7.2f}, worst {max(ratios):.2f}")


if __name__ == "__main__":
    main()
