"""What was handed out stays as it was, and what others write is seen, though programs write over memory that nobody holds."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, graph, nn
from chainrule.errors import IndexRangeError
from chainrule.explain.verify.functions import check_functions
from chainrule.tape import own_tape

ROUNDS = 9  # a segment is compiled from its third on

KEPT: dict[str, Callable[[], Any]] = {}


def kept(loop: Callable[[], Any]) -> Callable[[], Any]:
    KEPT[loop.__name__] = loop
    return loop


@kept
def results() -> Callable[[int], Any]:
    return lambda i: (cr.tensor(np.full((3, 4), float(i))) * 2).numpy()


@kept
def gradients() -> Callable[[int], Any]:
    w = cr.ones(5, 5, requires_grad=True)

    def step(i: int) -> Any:
        w.grad = None
        (w * w * (i + 0.25)).sum().backward()
        assert w.grad is not None
        return w.grad.numpy()

    return step


def parameters(hold: Callable[[Tensor], Any]) -> Callable[[int], Any]:
    layer = nn.Linear(8, 8)
    optimizer = cr.optim.SGD(layer.parameters(), lr=0.1)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        layer(cr.ones(2, 8)).sum().backward()
        optimizer.step()
        return hold(layer.weight)

    return step


@kept
def parameters_as_arrays() -> Callable[[int], Any]:
    return parameters(lambda weight: weight.detach().numpy())


@kept
def copies_of_rows() -> Callable[[int], Any]:
    return parameters(lambda weight: weight.detach()[1:3].clone())


@kept
def copies_in_another_shape() -> Callable[[int], Any]:
    return parameters(lambda weight: weight.detach().reshape(2, -1).clone())


@kept
def rows_of_what_is_written_to() -> Callable[[int], Any]:
    w = cr.zeros(16)

    def step(i: int) -> Any:
        w.add_(1)
        w.tolist()
        return w[:4].clone().numpy()

    return step


@pytest.mark.parametrize("loop", KEPT)
def test_what_was_handed_out_stays_as_it_was(loop: str) -> None:
    with cr.eager(False):
        step = KEPT[loop]()
        held, copies = [], []
        for i in range(ROUNDS):
            held.append(step(i))
            copies.append(np.array(held[-1]))
    assert all(np.array_equal(np.asarray(a), b) for a, b in zip(held, copies, strict=True))
    assert len({copy.tobytes() for copy in copies}) == ROUNDS  # something moves


def test_somebody_elses_memory_is_read_when_an_operation_is_written() -> None:
    with cr.eager(False):
        for _ in range(4):
            theirs = np.zeros(2)
            x = cr.from_numpy(theirs)
            first, before = x + 1, x[:1]
            theirs[:] = 5
            second, third = x + 1, before * 2
            theirs[:] = -0.0
            fourth = 1 / x
            assert [t.tolist() for t in (first, second, third, fourth)] == [[1, 1], [6, 6], [10], [-np.inf, -np.inf]]


def test_gradients_of_a_leaf_that_became_another_are_added() -> None:
    found = []
    with cr.eager(False):
        for last in (False, False, True):
            x, y = cr.tensor([1.0], requires_grad=True), cr.tensor([5.0], requires_grad=True)
            h = x * 3
            if last:
                x.data, y = cr.tensor([5.0]), x
            (h + y * y).sum().backward()
            assert x.grad is not None
            found.append(x.grad.item())
    assert found == [3, 3, 13]


@pytest.mark.parametrize("create_graph", [False, True])
def test_whoever_walks_along_the_history_finds_what_was_recorded_as_a_whole(create_graph: bool) -> None:
    layer = nn.Linear(3, 4)
    with cr.eager(False):
        for _ in range(4):
            x = cr.tensor([[1.0, -2.0, 3.0]], requires_grad=True)
            loss = F.cross_entropy(layer(x), cr.tensor([1]))
            found = cr.autograd.grad(loss, [x, *layer.parameters()], create_graph=create_graph)
            loss = F.cross_entropy(layer(x), cr.tensor([1]))
            loss.backward()
            assert x.grad is not None
            np.testing.assert_array_equal(found[0].detach().numpy(), x.grad.numpy())


def test_the_contexts_of_the_users_functions_are_not_kept() -> None:
    contexts = []

    class Twice(cr.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            contexts.append(weakref.ref(ctx))
            return x * 2

        @staticmethod
        def backward(ctx: Any, dY: Tensor) -> Tensor:
            return dY * 2

    p = cr.zeros(4, requires_grad=True)
    with cr.eager(False):
        for _ in range(5):
            p.grad = None
            Twice.apply(p + 1).sum().backward()
            assert p.grad is not None
            assert p.grad.tolist() == [2, 2, 2, 2]
    gc.collect()
    assert [context() for context in contexts] == [None] * 5


def test_a_hook_that_is_gone_is_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backward pass is walked in Python while any tensor has hooks, and found again once none has."""
    w = cr.ones(3, requires_grad=True)
    calls: list[int] = []

    def step() -> None:
        w.grad = None
        ((w * 2) ** 2).sum().backward()
        assert w.grad is not None
        assert w.grad.tolist() == [8, 8, 8]

    def hooked(number: int) -> Tensor:
        other = cr.ones(1, requires_grad=True)
        other.register_hook(lambda dY: calls.append(number))
        made = other * 2
        made.register_hook(lambda dY: calls.append(number))
        assert made.tolist() == [2]  # so that nothing of it waits
        return other

    with cr.eager(False):
        for _ in range(4):
            step()
        handle = w.register_hook(lambda dY: calls.append(0))
        step()
        assert calls == [0]
        handle.remove()
        handle.remove()
        kept = hooked(1).register_hook(lambda dY: None)  # whoever may remove a hook keeps nothing alive
        gc.collect()
        monkeypatch.setattr("chainrule.autodiff.walk.into_leaves", None)  # nobody walks along a history any more
        step()
        kept.remove()
        assert calls == [0]
        still = hooked(2)
        with pytest.raises(TypeError):
            step()
        del still
        gc.collect()
        assert (w + 1).tolist() == [2, 2, 2]  # nothing of the step that failed waits
        step()


def test_a_history_names_the_layers_it_went_through_and_an_error_the_one_it_is_in() -> None:
    """Also where another model's operations, of other names, are found again."""

    class Inside(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    class Table(nn.Module):
        def forward(self, at: Tensor) -> Tensor:
            return cr.ones(4, 2)[at].sum()

    def layers(model: nn.Module) -> list[tuple[str, str]]:
        nodes = graph.toposort([model(cr.ones(1, 2)).sum()._node])
        return [(node.op.name, node.layer) for node in nodes if node.inputs]

    plain = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2))
    models = [plain, Inside(plain), Inside(Inside(plain))]
    expected = [layers(model) for model in models]
    assert expected[2][3] == ("sigmoid", "Inside.inner.inner.1")
    with cr.eager(False):
        for _ in range(4):
            for model, names in zip(models, expected, strict=True):
                assert layers(model) == names
                assert cr.ones(1).sum().item() == 1  # nothing of it waits
            for table, where in ((Table(), "Table"), (Inside(Table()), "Inside.inner")):
                with pytest.raises(
                    IndexRangeError, match=rf"^index in layer '{where}' \(test_held.py:\d+ in forward\)"
                ):
                    table(cr.tensor([0, 9])).item()


def test_what_checks_numpys_values_computes_at_once() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.GELU())
    with cr.eager(False):
        assert model.verify(np.ones((2, 2), np.float32), np.ones((2, 3), np.float32))
        assert all(itertools.islice(check_functions(), 3))
        assert not own_tape().compiled


def test_a_write_makes_no_leaf_of_what_somebody_else_holds() -> None:
    with cr.eager(False):
        for _ in range(5):
            w = cr.ones(3, requires_grad=True)
            with cr.no_grad():
                d = w * 2
                w.copy_(d)
                e = d - 0.5
                w += e
                w -= d * 0.5
                w *= d
                w /= 2
            assert not d.requires_grad
            assert not e.requires_grad
            assert w.is_leaf
            (w * w).sum().backward()
            assert w.grad is not None
            assert [*w.tolist(), *w.grad.tolist(), *d.tolist(), *e.tolist()] == [2.5] * 3 + [5] * 3 + [2] * 3 + [
                1.5
            ] * 3
