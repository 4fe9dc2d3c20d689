"""What is put in the place of something that a trace read without anybody being told is noticed all the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

import chainrule as cr
from chainrule import Tensor, nn, optim
from chainrule.compiler.frontend import terms

X = [1.0, 2.0]

# -- methods of optimizers ------------------------------------------------------------------------------------------


class Mine(optim.SGD):
    """An optimizer of the user's own, all of whose methods are ours."""


def _nothing(*_: Any, **__: Any) -> None: ...


def _put(where: str, name: str) -> Callable[[Any, pytest.MonkeyPatch], None]:
    def put(o: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        if where == "instance":
            setattr(o, name, _nothing)
        elif where == "dict":
            vars(o)[name] = _nothing
        else:
            monkeypatch.setattr(type(o) if where == "class" else optim.Optimizer, name, _nothing)

    return put


def _trained(
    kind: Any, compiled: bool, change: Callable[[Any, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> float:
    w = cr.tensor([1.0], requires_grad=True)
    o = kind([w], lr=1.0)

    def step() -> None:
        o.zero_grad()
        (w * 2).sum().backward()
        o.step()

    run = cr.compile(step) if compiled else step
    run(), run()
    with monkeypatch.context() as patch:
        change(o, patch)
        run(), run()
    return w.item()


@pytest.mark.parametrize("kind", [optim.SGD, Mine])
@pytest.mark.parametrize("where", ["instance", "dict", "class", "base"])
@pytest.mark.parametrize(("name", "expected"), [("zero_grad", -13.0), ("step", -3.0)])  # as PyTorch has them
def test_a_method_of_an_optimizer_that_is_replaced(
    kind: Any, where: str, name: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [_trained(kind, compiled, _put(where, name), monkeypatch) for compiled in (False, True)]
    assert found == [expected, expected]


def test_an_attribute_of_a_scheduler() -> None:
    scheduler = optim.lr_scheduler.StepLR(optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0), 1)
    f = cr.compile(lambda x: x * scheduler.last_epoch)
    assert f(cr.tensor(X)).tolist() == [0.0, 0.0]
    scheduler.optimizer.step()
    scheduler.step()
    assert f(cr.tensor(X)).tolist() == X


def test_training_under_a_scheduler_is_traced_once() -> None:
    model, traces = nn.Linear(2, 1), []
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1)

    def step(x: Tensor) -> Tensor:
        traces.append(1)
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
        optimizer.step()
        return loss.detach()

    compiled = cr.compile(step)
    for _ in range(3):
        compiled(cr.ones(3, 2))
        scheduler.step()
    assert len(traces) == 1


def test_a_method_of_tensors_that_is_taken_away() -> None:
    cr.Tensor.doubled = lambda self: self * 2  # type: ignore[attr-defined]
    f = cr.compile(lambda x: x.doubled() if hasattr(x, "doubled") else x)
    assert f(cr.tensor(X)).tolist() == [2.0, 4.0]
    del cr.Tensor.doubled  # type: ignore[attr-defined]
    assert f(cr.tensor(X)).tolist() == X


# -- attributes of modules, by their dict -----------------------------------------------------------------------------


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.factor, self._shift = cr.ones(2), 2.0, 3.0

    def shift(self) -> float:
        return self._shift

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.table * self.factor if self.training else -x
        return x + self.shift() + (self.extra if hasattr(self, "extra") else 0.0)


CHANGES: dict[str, Callable[[Scaled], Any]] = {
    "mode": lambda m: m.__dict__.update(training=False), "number": lambda m: vars(m).update(factor=7.0),
    "private": lambda m: vars(m).update(_shift=7.0), "tensor": lambda m: vars(m).update(table=cr.ones(2) * 5),
    "tensor of another shape": lambda m: vars(m).update(table=cr.ones(1) * 5), "new": lambda m: vars(m).update(extra=7.0),
    "method": lambda m: vars(m).update(shift=lambda: 7.0), "forward": lambda m: vars(m).update(forward=lambda x: x),
    "whole": lambda m: setattr(m, "__dict__", {**vars(m), "factor": 7.0}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_compiled_module_sees_what_was_put_into_its_dict(change: str) -> None:
    model = Scaled()
    compiled = cr.compile(model)
    x = cr.tensor(X)
    before = compiled(x).tolist()
    assert compiled(x).tolist() == before == [5.0, 7.0]
    CHANGES[change](model)
    assert compiled(x).tolist() == model(x).tolist() != before
    assert compiled(x).tolist() == model(x).tolist()


def test_another_tensor_is_read_by_the_same_program() -> None:
    model, traces = Scaled(), []
    f = cr.compile(lambda x: (traces.append(1), model(x))[1])
    for i in range(4):
        (vars(model).__setitem__ if i % 2 else model.__setattr__)("table", cr.ones(2) * i)
        assert f(cr.tensor(X)).tolist() == model(cr.tensor(X)).tolist()
    assert len(traces) == 1


def test_that_a_name_is_not_there_is_compared_without_a_call() -> None:
    space: dict[str, Any] = {"there": 1}
    (check,) = terms.together([terms.presence(space, "there"), terms.presence(space, "absent")])
    slow = check.__globals__["slow"]  # type: ignore[attr-defined]
    check.__globals__["slow"] = lambda: pytest.fail("compared one by one")  # type: ignore[attr-defined]
    assert check()
    check.__globals__["slow"] = slow  # type: ignore[attr-defined]
    space["absent"] = 2
    assert not check()


# -- dicts that the function itself changes ---------------------------------------------------------------------------


def test_what_asking_put_into_a_defaultdict() -> None:
    held: defaultdict[str, float] = defaultdict(lambda: 2.0)
    f = cr.compile(lambda x: x * held["by"])
    assert f(cr.tensor(X)).tolist() == [2.0, 4.0] and dict(held) == {"by": 2.0}
    held.update(by=9.0)
    assert f(cr.tensor(X)).tolist() == [9.0, 18.0]
    del held["by"]
    assert f(cr.tensor(X)).tolist() == [2.0, 4.0]


def test_what_stands_beside_an_item_that_the_function_assigns() -> None:
    held: dict[str, Any] = {"by": 2.0}

    def f(x: Tensor) -> Tensor:
        held["seen"] = True
        return x * held["by"]

    compiled = cr.compile(f)
    assert compiled(cr.tensor(X)).tolist() == [2.0, 4.0]
    held["by"] = 9.0
    assert compiled(cr.tensor(X)).tolist() == [9.0, 18.0]


def test_a_dict_that_is_filled_for_each_shape_is_not_traced_for_again_and_again() -> None:
    held: dict[Any, Any] = {}
    made: defaultdict[int, float] = defaultdict(float)
    traces = []

    def f(x: Tensor) -> Tensor:
        traces.append(1)
        held["rows"] = x.shape[0]
        return x + held.setdefault(x.shape, 1.0) + made[x.shape[0]]

    compiled = cr.compile(f)
    for _ in range(4):
        for rows in (2, 3):
            assert compiled(cr.zeros(rows)).tolist() == [1.0] * rows
    assert len(traces) <= 4
