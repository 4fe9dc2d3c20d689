"""Operations that wait give what operations that are computed at once give, and what PyTorch gives."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn import functional
from chainrule.tape import own_tape, tape

STEPS = 8
OURS = SimpleNamespace(t=cr, nn=nn, F=functional, optim=optim, clip=nn.utils.clip_grad_norm_)


def theirs():
    torch = pytest.importorskip("torch")
    return SimpleNamespace(
        t=torch, nn=torch.nn, F=torch.nn.functional, optim=torch.optim, clip=torch.nn.utils.clip_grad_norm_
    )


def started(lib, *layers):
    """A network whose weights are the same in both libraries."""
    model, numbers = lib.nn.Sequential(*layers), np.random.default_rng(1)
    with lib.t.no_grad():
        for p in model.parameters():
            p.copy_(lib.t.from_numpy(numbers.uniform(-0.5, 0.5, tuple(p.shape)).astype(np.float32)))
    return model


def batches(lib, classes=3):
    numbers = np.random.default_rng(2)
    for _ in range(STEPS):
        yield (
            lib.t.from_numpy(numbers.normal(size=(8, 4)).astype(np.float32)),
            lib.t.from_numpy(numbers.integers(0, classes, 8)),
        )


def mlp(lib):
    return started(lib, lib.nn.Linear(4, 6), lib.nn.ReLU(), lib.nn.Linear(6, 3))


def plain(lib, make=lambda lib, p: lib.optim.Adam(p, lr=0.05)):
    model = mlp(lib)
    optimizer, losses = make(lib, model.parameters()), []
    for x, y in batches(lib):
        optimizer.zero_grad()
        loss = lib.F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def momentum(lib):
    return plain(lib, lambda lib, p: lib.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01))


def scheduled(lib):
    model = mlp(lib)
    optimizer, losses = lib.optim.AdamW(model.parameters(), lr=0.05), []
    schedule = lib.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    for x, y in batches(lib):
        loss = lib.F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        lib.clip(model.parameters(), 0.1)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def asked_before(lib):
    model = mlp(lib)
    optimizer, losses = lib.optim.SGD(model.parameters(), lr=0.1), []
    for x, y in batches(lib):
        loss = lib.F.cross_entropy(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
    return losses


def accumulated(lib):
    model = mlp(lib)
    optimizer, losses = lib.optim.SGD(model.parameters(), lr=0.1), []
    for i, (x, y) in enumerate(batches(lib)):
        loss = lib.F.cross_entropy(model(x), y) / 2
        loss.backward()
        if i % 2:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.detach())
    return [loss.item() for loss in losses]


def by_hand(lib):
    numbers, losses = np.random.default_rng(3), []
    w = lib.t.from_numpy(numbers.normal(size=(4, 3)).astype(np.float32)).requires_grad_()
    b = lib.t.zeros(3, requires_grad=True)
    for i, (x, y) in enumerate(batches(lib)):
        loss = -(x @ w + b).log_softmax(1)[lib.t.arange(8), y].mean() + 0.01 * (i + 1) * (w**2).sum()
        loss.backward()
        with lib.t.no_grad():
            for p in (w, b):
                p -= 0.1 * p.grad
                p.grad = None
        losses.append(loss.item())
    return losses


def recurrent(lib):
    numbers, losses = np.random.default_rng(4), []
    weights = [lib.t.from_numpy(numbers.normal(size=s).astype(np.float32) / 4) for s in ((4, 5), (5, 5), (5, 3))]
    for w in weights:
        w.requires_grad_()
    optimizer = lib.optim.RMSprop(weights, lr=0.01)
    for x, y in batches(lib):
        h = lib.t.zeros(8, 5)
        for t in range(4):
            h = lib.t.tanh(x * (t + 1) @ weights[0] + h @ weights[1])
        loss = lib.F.cross_entropy(h @ weights[2], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with lib.t.no_grad():
            right = ((h @ weights[2]).argmax(1) == y).float().mean()
        losses += [loss.item(), right.item()]
    return losses


def adversarial(lib):
    made = started(lib, lib.nn.Linear(4, 4), lib.nn.Tanh(), lib.nn.Linear(4, 4))
    judge = started(lib, lib.nn.Linear(4, 6), lib.nn.LeakyReLU(0.2), lib.nn.Linear(6, 1), lib.nn.Sigmoid())
    first, second = lib.optim.Adam(made.parameters(), lr=0.01), lib.optim.Adam(judge.parameters(), lr=0.01)
    real, losses = lib.t.ones(8, 1), []
    for x, _ in batches(lib):
        fake = made(x)
        second.zero_grad()
        loss = lib.F.binary_cross_entropy(judge(x + 1), real) + lib.F.binary_cross_entropy(
            judge(fake.detach()), real * 0
        )
        loss.backward()
        second.step()
        first.zero_grad()
        other = lib.F.binary_cross_entropy(judge(fake), real)
        other.backward()
        first.step()
        losses += [loss.item(), other.item()]
    return losses


SCRIPTS = [plain, momentum, scheduled, asked_before, accumulated, by_hand, recurrent, adversarial]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_gives_the_losses_of_pytorch(script):
    expected = script(theirs())
    np.testing.assert_allclose(script(OURS), expected, rtol=1e-5, atol=2e-6)
    with cr.eager(False):
        np.testing.assert_allclose(script(OURS), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("script", SCRIPTS)
def test_before_anything_is_compiled_the_bits_are_those_of_operations_computed_at_once(script, monkeypatch):
    monkeypatch.setattr(tape, "HOT", 10**9)
    expected = script(OURS)
    with cr.eager(False):
        assert script(OURS) == expected


@pytest.mark.parametrize("script", SCRIPTS)
def test_where_what_waits_is_computed_changes_nothing(script, monkeypatch):
    """With the operations' references: no bit. (Compiled, sums are added up in another order than NumPy's.)"""
    monkeypatch.setattr(tape, "HOT", 10**9)
    draws, record = random.Random(0), tape.Tape.record

    def now_and_then(self, *given):
        if draws.random() < 0.1:
            self.flush()
        return record(self, *given)

    expected = script(OURS)
    monkeypatch.setattr(tape.Tape, "record", now_and_then)
    for _ in range(3):
        with cr.eager(False):
            assert script(OURS) == expected


def test_compiled_too_up_to_rounding(monkeypatch):
    monkeypatch.setattr(tape, "HOT", 0)
    draws, record = random.Random(1), tape.Tape.record

    def now_and_then(self, *given):
        if draws.random() < 0.03:
            self.flush()
        return record(self, *given)

    expected = plain(OURS)
    monkeypatch.setattr(tape.Tape, "record", now_and_then)
    with cr.eager(False):
        np.testing.assert_allclose(plain(OURS), expected, rtol=1e-5)


def steps_of(model, optimizer, count):
    x, y = cr.ones(8, 4), cr.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    for _ in range(count):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_a_loop_of_n_steps_is_n_runs_of_one_program(kind):
    model = mlp(OURS)
    optimizer = kind(model.parameters(), lr=0.01)
    with cr.eager(False):
        steps_of(model, optimizer, 4)
        (program,) = own_tape().compiled[-1:]
        programs, before = len(own_tape().compiled), program.hits
        for i in range(10):
            optimizer.param_groups[0]["lr"] = 0.01 / (i + 1)
            steps_of(model, optimizer, 2)
        assert (len(own_tape().compiled), program.hits - before) == (programs, 20)
        assert f"{program.hits:,}" in cr.show_programs()


def test_a_number_that_changes_makes_no_new_program():
    x = cr.ones(3)
    with cr.eager(False):
        for i in range(10):
            assert (x * (0.1 + i) + 7).tolist() == (np.ones(3, np.float32) * np.float32(0.1 + i) + 7).tolist()
            assert len(own_tape().compiled) == (i > 1)


@pytest.mark.parametrize(
    "draw", [cr.rand, cr.randn, lambda n: nn.Embedding(n, 3).weight, lambda n: nn.Linear(n, 3).weight]
)
def test_a_seed_draws_the_same_numbers_whether_operations_wait(draw):
    def drawn():
        cr.manual_seed(3)
        return [draw(50).tolist(), (draw(50) * 2).tolist(), cr.rand(3).tolist()]

    expected = drawn()
    with cr.eager(False):
        for _ in range(5):
            assert drawn() == expected
