"""Views and their tensors see each other's writes: random programs, each on our tensors and on PyTorch's."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from tests.optional import torch


VIEWS: list[Callable[[Any, random.Random], Any]] = [
    lambda x, r: x[r.randrange(x.shape[0])],
    lambda x, r: x[r.randrange(x.shape[0]) :],
    lambda x, r: x[: r.randrange(1, x.shape[0] + 1)],
    lambda x, r: x[::2],
    lambda x, r: x[..., None],
    lambda x, r: x[..., r.randrange(x.shape[-1])],
    lambda x, r: x.t() if x.ndim == 2 else x.transpose(0, -1),
    lambda x, r: x.mT if x.ndim > 1 else x.unsqueeze(0),
    lambda x, r: x.permute(tuple(reversed(range(x.ndim)))),
    lambda x, r: x.reshape(-1),
    lambda x, r: x.view(*x.shape, 1),
    lambda x, r: x.flatten(),
    lambda x, r: x.unsqueeze(r.randrange(x.ndim + 1)),
    lambda x, r: x.squeeze(),
    lambda x, r: x.expand(2, *x.shape),
    lambda x, r: x.narrow(0, 0, r.randrange(1, x.shape[0] + 1)),
    lambda x, r: x.chunk(2)[-1],
    lambda x, r: x.split(1, dim=-1)[0],
    lambda x, r: x.unbind(0)[-1],
    lambda x, r: x.select(-1, 0),
    lambda x, r: x.detach(),
    lambda x, r: x.data,
    lambda x, r: x.contiguous(),
    lambda x, r: x.movedim(0, -1),
]
WRITES: list[Callable[[Any, Any, float], Any]] = [
    lambda x, m, c: x.add_(c),
    lambda x, m, c: x.mul_(c),
    lambda x, m, c: x.fill_(c),
    lambda x, m, c: x.zero_(),
    lambda x, m, c: x.copy_(x.flip(0) if hasattr(x, "flip") and x.ndim else x * 1),
    lambda x, m, c: x.clamp_(-c, c),
    lambda x, m, c: x.__setitem__(0, c) if x.ndim else x.fill_(c),
    lambda x, m, c: x.__setitem__((..., slice(1, None)), c) if x.ndim else x.neg_(),
    lambda x, m, c: x.__iadd__(c),
    lambda x, m, c: x.masked_fill_(x > 0, c),
    lambda x, m, c: x.sigmoid_(),
]


class Side:
    """The program's state in one of the two libraries."""

    def __init__(self, module: Any, arrays: list[np.ndarray]) -> None:
        self.module = module
        self.params = [module.tensor(a.tolist(), requires_grad=True) for a in arrays]
        self.live: list[Any] = [module.tensor((a + 1).tolist()) for a in arrays] + self.params
        # No momentum: what it remembers would tell apart a gradient of zeros from none.
        optimizers = optim if module is cr else torch.optim
        self.optimizer = optimizers.SGD(self.params, lr=0.25)
        self.compiled = cr.compile(self._stepped) if module is cr else self._stepped

    def _stepped(self) -> Any:
        with self.module.no_grad():
            self.live[0].mul_(0.5)
            self.params[0].add_(0.25)
            return self.live[0] * 1

    def act(self, kind: str, r: random.Random) -> None:
        module, live = self.module, self.live
        at, other, number = r.randrange(len(live)), r.randrange(len(live)), r.choice([0.5, -1.0, 2.0])
        choice = r.random()
        x = live[at]
        if kind == "view":
            live.append(VIEWS[int(choice * len(VIEWS))](x, r))
        elif kind == "view without history":
            with module.no_grad():
                live.append(VIEWS[int(choice * len(VIEWS))](x, r))
        elif kind == "write":
            with module.no_grad():
                WRITES[int(choice * len(WRITES))](x, None, number)
        elif kind == "recorded write":
            WRITES[int(choice * len(WRITES))](x, None, number)
        elif kind == "copy":
            with module.no_grad():
                x.copy_(live[other].reshape(-1)[:1].reshape(()))
        elif kind == "compute":
            live.append(x * number + 1)
        elif kind == "mix" and x.requires_grad is False:
            x.mul_(self.params[0].reshape(-1)[0])
        elif kind == "drop":
            if at >= 2 * len(self.params):
                del live[at]
        elif kind == "gradient":
            if self.params[0].grad is not None:
                live.append(self.params[0].grad)
        elif kind == "step":
            for p in self.params:
                (p * p).sum().backward()
            self.optimizer.step()
        elif kind == "zero":
            self.optimizer.zero_grad(set_to_none=choice < 0.5)
        elif kind == "compiled":
            self.compiled()
        elif kind == "data" and x.is_leaf and at >= len(self.params):
            x.data = module.full(tuple(x.shape), number)
        elif kind == "shared data" and x.is_leaf and at >= len(self.params):
            y = module.full(tuple(x.shape), number)
            x.data = y
            live.append(y)

    def values(self) -> list[Any]:
        return [np.array(x.detach().numpy()) for x in self.live]

    def gradients(self) -> list[Any]:
        for p in self.params:
            p.grad = None
        total = sum((x.sum() for x in self.live if x.requires_grad), self.module.zeros(()))
        if total.requires_grad:
            total.backward()
        return [None if p.grad is None else np.array(p.grad.numpy()) for p in self.params]


PLAIN = ["view", "view", "view", "write", "write", "copy", "compute", "drop", "gradient", "step", "zero", "compiled"]
HISTORY = ["view", "view", "recorded write", "recorded write", "compute", "mix", "drop", "write"]
GIVEN = [*PLAIN, "data", "shared data", "view without history"]


def run(seed: int, kinds: list[str], length: int = 14) -> int:
    """A random program on both; how many of its actions PyTorch allowed."""
    arrays = [np.round(np.random.default_rng(seed).normal(size=shape), 2) for shape in ((2, 3), (4,))]
    ours, theirs = Side(cr, arrays), Side(torch, arrays)
    kinds, allowed = random.Random(seed).choices(kinds, k=length), 0
    for number, kind in enumerate(kinds):
        count = len(theirs.live)
        try:
            theirs.act(kind, random.Random(1000 * seed + number))
            values = theirs.values()
        except (RuntimeError, IndexError):  # what PyTorch forbids asks nothing of us
            if len(theirs.live) != count:
                theirs.live.pop()
            continue
        ours.act(kind, random.Random(1000 * seed + number))
        allowed += 1
        mine = ours.values()
        assert len(mine) == len(values)
        for position, (a, b) in enumerate(zip(mine, values, strict=True)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=f"{seed=} {number=} {kind=} {position=} {kinds}")
    try:
        expected = theirs.gradients()
    except RuntimeError:  # a value that the derivative needs was overwritten; ours are kept
        return allowed
    for mine, right in zip(ours.gradients(), expected, strict=True):
        np.testing.assert_allclose(0 if mine is None else mine, 0 if right is None else right, rtol=1e-4, atol=1e-4, err_msg=f"{seed=} {kinds}")
    return allowed


@pytest.mark.parametrize("kinds", [PLAIN, HISTORY, GIVEN], ids=["values", "history", "data"])
def test_random_programs_as_in_pytorch(kinds: list[str]) -> None:
    allowed = [run(seed, kinds) for seed in range(60)]
    assert np.mean(allowed) > 8, "most actions should be possible"
