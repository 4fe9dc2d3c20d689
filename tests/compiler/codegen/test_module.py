"""A step of very many kernels is several functions, which do what one would."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.compiler.codegen import module
from chainrule.errors import IndexRangeError


@pytest.fixture(params=[1, 2, 5, 10_000])
def piece(request, monkeypatch, tmp_path):
    """So many kernels to a function; code of other sizes is not taken from the cache."""
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(module, "PIECE", request.param)
    return request.param


def training():
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Dropout(0.2), nn.Linear(32, 5))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    rows = cr.tensor(np.random.default_rng(0).standard_normal((20, 6)).astype("f"))

    @cr.compile
    def step(at, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(rows[at]), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return model, step


AT, Y = cr.tensor([[0, 3, 7, 7], [19, 2, 1, 0]]), cr.tensor([[0, 4, 1, 2], [3, 3, 0, 1]])
FOUND: list[bytes] = []  # by the first size


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("everything_divided")
def test_the_bits_are_the_same(piece, threads):
    cr.set_num_threads(threads)
    model, step = training()
    losses = [step(AT[i % 2], Y[i % 2]).item() for i in range(4)]
    losses += step.loop(AT, Y).tolist()
    FOUND.append(np.array(losses).tobytes() + b"".join(p.numpy(force=True).tobytes() for p in model.parameters()))
    assert FOUND[-1] == FOUND[0]
    text = step.show("llvm")
    assert (text.count("@step") > 3) == (piece < 10_000)


@pytest.mark.usefixtures("everything_divided")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_check_that_fails_ends_the_step(piece, threads):
    cr.set_num_threads(threads)
    _, step = training()
    with pytest.raises(IndexRangeError, match="axis of size 20"):
        step(cr.tensor([0, 1, 2, 20]), Y[0])
    with pytest.raises(IndexRangeError, match="axis of size 5"):
        step(AT[0], cr.tensor([0, 1, 2, 5]))
    assert step(AT[0], Y[0]).isfinite()


def test_no_function_grows_with_the_step(monkeypatch, tmp_path):
    """LLVM takes longer for each line of a function the longer it is."""
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))

    def longest(count):
        parameters = [cr.ones(2, requires_grad=True) for _ in range(count)]

        def f(x):
            sum(((p * x).sum() for p in parameters), cr.zeros(())).backward()

        step = cr.compile(f)
        step(cr.ones(2))
        return max(map(len, step._latest.program.llvm.split("\n}\n"))), len(step._latest.program.llvm)

    (small, whole), (large, more) = longest(700), longest(1400)
    assert large < 1.1 * small and more < 2.1 * whole
