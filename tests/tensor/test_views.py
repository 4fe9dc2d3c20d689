"""Views and their tensors see each other's writes: case by case, and random programs beside PyTorch."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import DtypeError, InPlaceError

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
        elif kind == "mix":
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
        elif kind == "data":
            x.data = module.full(tuple(x.shape), number)
        elif kind == "shared data":
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
        at = random.Random(1000 * seed + number).randrange(count)
        try:
            if ("data" in kind and not theirs.live[at].is_leaf) or (kind == "mix" and theirs.live[at].requires_grad):
                continue
            theirs.act(kind, random.Random(1000 * seed + number))
            values = theirs.values()
        except (RuntimeError, IndexError):  # what PyTorch forbids asks nothing of us
            if len(theirs.live) != count:
                theirs.live.pop()
            continue
        try:
            ours.act(kind, random.Random(1000 * seed + number))
        except InPlaceError:  # we refuse every write to an expanded tensor, also to one of its copies
            return allowed
        allowed += 1
        mine = ours.values()
        assert len(mine) == len(values)
        for position, (a, b) in enumerate(zip(mine, values, strict=True)):
            np.testing.assert_allclose(
                a, b, rtol=1e-4, atol=1e-4, err_msg=f"{seed=} {number=} {kind=} {position=} {kinds}"
            )
    try:
        expected = theirs.gradients()
    except RuntimeError:  # a value that the derivative needs was overwritten; ours are kept
        return allowed
    for mine, right in zip(ours.gradients(), expected, strict=True):
        np.testing.assert_allclose(
            0 if mine is None else mine, 0 if right is None else right, rtol=1e-4, atol=1e-4, err_msg=f"{seed=} {kinds}"
        )
    return allowed


@pytest.mark.parametrize("kinds", [PLAIN, HISTORY, GIVEN], ids=["values", "history", "data"])
def test_random_programs_as_in_pytorch(kinds: list[str]) -> None:
    allowed = [run(seed, kinds) for seed in range(60)]
    assert np.mean(allowed) > 8, "most actions should be possible"


# -- case by case -----------------------------------------------------------------------------------


def test_a_view_and_its_tensor_see_each_others_writes() -> None:
    x = cr.zeros(3)
    head, tail = x[:2], x[1:]
    x.add_(1)
    assert head.tolist() == [1, 1]
    head.mul_(3)
    assert (x.tolist(), tail.tolist()) == ([3, 3, 1], [3, 1])
    tail[0] = 7
    assert (x.tolist(), head.tolist()) == ([3, 7, 1], [3, 7])


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_held_of_a_parameter_follows_the_optimizer(compiled: bool) -> None:
    layer = nn.Linear(2, 1)
    opt = optim.Adam(layer.parameters(), lr=0.1)
    held = [layer.weight.data, layer.weight.detach()[0], layer.state_dict()["weight"], layer.weight.t()]

    def step() -> cr.Tensor:
        opt.zero_grad()
        loss = layer(cr.ones(3, 2)).sum()
        loss.backward()
        opt.step()
        return loss

    run = cr.compile(step) if compiled else step
    for _ in range(3):
        run()
        now = layer.weight.detach().numpy().ravel()
        for view in held:
            np.testing.assert_array_equal(view.detach().numpy().ravel(), now)
    held[0].zero_()
    assert layer.weight.tolist() == [[0, 0]]


def test_a_gradient_is_added_to_where_it_lies() -> None:
    w = cr.ones(2, requires_grad=True)
    (w * 2).sum().backward()
    held, part = w.grad, w.grad[:1]
    (w * 3).sum().backward()
    assert held is w.grad and (held.tolist(), part.tolist()) == ([5, 5], [5])
    optim.SGD([w]).zero_grad(set_to_none=False)
    assert held is w.grad and (held.tolist(), part.tolist()) == ([0, 0], [0])
    part.add_(4)
    assert w.grad.tolist() == [4, 0]
    optim.SGD([w]).zero_grad()
    assert w.grad is None and held.tolist() == [4, 0]


def test_a_compiled_step_adds_to_the_gradient_that_is_held() -> None:
    w = cr.ones(2, requires_grad=True)
    step = cr.compile(lambda: ((w * 2).sum().backward(), cr.ones(1))[1])
    step()
    held, part = w.grad, w.grad[:1]
    for total in (4, 6, 8):
        step()
        assert held is w.grad and (held.tolist(), part.tolist()) == ([total, total], [total])


def test_views_live_on_without_their_tensor() -> None:
    x = cr.zeros(4)
    head, tail = x[:3], x[1:]
    x.add_(1)
    del x
    gc.collect()
    head.mul_(2)
    assert (head.tolist(), tail.tolist()) == ([2, 2, 2], [2, 2, 1])


@pytest.mark.at_once("what waits holds what it reads until it is computed")
def test_a_detached_view_keeps_no_history_alive() -> None:
    w = cr.ones(3, requires_grad=True)
    y = w * 2
    first, second = y.detach(), y.detach()
    node = weakref.ref(y._node)
    with cr.no_grad():
        y.add_(1)
    before = weakref.ref(y._node)
    del y
    assert node() is None and before() is None
    first.mul_(2)
    assert (first.tolist(), second.tolist()) == ([6, 6, 6], [6, 6, 6])


def test_reshape_copies_where_pytorch_copies() -> None:
    x = cr.arange(6).reshape(2, 3)
    x.t().reshape(-1).zero_()
    x[:, :2].flatten().zero_()
    x.t().contiguous().zero_()
    x.expand(2, 2, 3).contiguous().zero_()
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [t.is_contiguous() for t in (x, x.t(), x[1], x[:, 1], x.t().t())] == [True, False, True, False, True]
    x.t().reshape(3, 2, 1)[0].zero_()
    x[:1, 1:].reshape(-1).zero_()
    assert x.tolist() == [[0, 0, 0], [0, 4, 5]]


def test_a_write_without_history_keeps_the_history_that_was_there() -> None:
    w = cr.ones(2, requires_grad=True)
    y = w * 3
    y.detach().mul_(10)
    with cr.no_grad():
        y.add_(1)
    assert y.tolist() == [31, 31]
    y.sum().backward()
    assert w.grad.tolist() == [3, 3]


def test_a_leaf_that_is_a_view() -> None:
    data = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
    x = data[:, :1].requires_grad_()
    (x * x).sum().backward()
    assert x.grad.tolist() == [[2], [6]] and not data.requires_grad
    step = cr.compile(lambda: ((x * x).sum().backward(), data.mul_(2), x * 1)[2].detach())
    assert step().tolist() == [[2], [6]]
    assert step().tolist() == [[4], [12]]
    assert (data.tolist(), x.tolist(), x.grad.tolist()) == ([[4, 8], [12, 16]], [[4], [12]], [[8], [24]])
    with pytest.raises(InPlaceError, match="loop: the function reads a leaf that is a view of a tensor it changes"):
        cr.compile(lambda s: ((x * s).detach(), data.mul_(2))[0]).loop(cr.ones(3))
    after = cr.compile(lambda s: (data.mul_(0.5), (x * s).detach())[1]).loop(cr.ones(3))
    assert after.tolist() == [[[2], [6]], [[1], [3]], [[0.5], [1.5]]]


def test_assigning_data_shares_the_elements() -> None:
    p = nn.Parameter(cr.zeros(2))
    old, given = p.data, cr.ones(3)
    p.data = given
    given[0] = 5
    assert (p.tolist(), old.tolist(), p.requires_grad) == ([5, 1, 1], [0, 0], True)
    other = cr.zeros(3, requires_grad=True)
    p.data = other
    with cr.no_grad():
        p.add_(1)
    assert (other.tolist(), given.tolist()) == ([1, 1, 1], [5, 1, 1])
    flat = cr.zeros(4)
    p.data = flat[1:].view(3)
    flat.add_(2)
    assert p.tolist() == [2, 2, 2] and p.is_leaf
    with pytest.raises(DtypeError, match="must have the tensor's own dtype, float32, got int64"):
        p.data = cr.ones(3, dtype=cr.int64)


def test_a_parameter_shares_the_elements_of_what_it_was_made_of() -> None:
    start = cr.zeros(2)
    p = nn.Parameter(start)
    with cr.no_grad():
        p.add_(1)
    start.mul_(3)
    assert p.tolist() == start.tolist() == [3, 3] and not start.requires_grad


def test_a_compiled_function_reads_and_writes_what_a_view_shows() -> None:
    x = cr.zeros(3)
    view, taken = x[1:], x.detach()
    step = cr.compile(lambda a: (view.add_(a), taken * 1, x[:2] * 1))
    for total in (1, 2, 3):
        _, whole, part = step(cr.tensor(1.0))
        assert (whole.tolist(), part.tolist(), view.tolist()) == ([0, total, total], [0, total], [total, total])
    x.fill_(5)
    assert step(cr.tensor(1.0))[1].tolist() == [5, 6, 6]
    view.data = cr.zeros(2)  # another tensor's elements from here on
    assert step(cr.tensor(1.0))[1].tolist() == [5, 6, 6] and view.tolist() == [1, 1]


def test_an_argument_that_is_a_view_is_written_to_its_own_tensor() -> None:
    bump = cr.compile(lambda v: (v.add_(1), v * 1)[1])
    x, y = cr.zeros(3), cr.zeros(3)
    for _ in range(2):
        bump(x[:2])
        bump(y[1:])
    assert (x.tolist(), y.tolist()) == ([2, 2, 0], [0, 2, 2])


def test_views_of_an_array_that_somebody_else_owns() -> None:
    array = np.zeros(3, np.float32)
    x = cr.from_numpy(array)
    view = x[:2]
    array[0] = 4
    assert view.tolist() == [4, 0]
    view.add_(1)
    assert (x.tolist(), array.tolist()) == ([5, 1, 0], [4, 0, 0])


def test_a_tensor_of_many_short_views_keeps_none_of_them() -> None:
    x = cr.zeros(10)
    for i in range(1000):
        view = x[i % 10 :]
    assert len(view._views.family._fresh) < 100


def test_views_that_two_threads_read_and_write() -> None:
    x = cr.zeros(50)
    seen: list[list[float]] = []

    def read() -> None:
        view = x[10:20]
        seen.extend(view.tolist() for _ in range(300))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        x.add_(1)
    for thread in threads:
        thread.join()
    assert all(len(set(values)) == 1 for values in seen)
    assert x[10:20].tolist() == [100.0] * 10
