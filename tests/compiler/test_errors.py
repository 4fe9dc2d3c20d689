"""Errors of compiled functions: their full texts, and the state they leave behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.errors import GradientError, IndexRangeError, ShapeError, TraceError, UnknownNameError

HERE = "test_errors.py"


def fails(kind: type[Exception], text: str, run: Callable[[], Any]) -> None:
    """`run` raises with exactly this text; `#` stands for a line number."""
    with pytest.raises(kind) as caught:
        run()
    assert re.sub(r"\.py:\d+", ".py:#", str(caught.value)) == text


REMEDY = (
    "Inside cr.compile keep to tensor operations (cr.where instead of `if`), or return the tensor and read it outside."
)


@pytest.mark.parametrize(
    ("ask", "where"),
    [
        (lambda y: float(y), "<lambda>"), (lambda y: int(y), "<lambda>"), (lambda y: bool(y > 0), "<lambda>"),
        (lambda y: y.item(), "<lambda>"), (lambda y: y.tolist(), "<lambda>"), (lambda y: y.numpy(), "<lambda>"),
        (lambda y: np.asarray(y), "<lambda>"), (lambda y: cr.tensor(y), "<lambda>"),
    ],
)  # fmt: skip
def test_asking_a_traced_tensor_for_its_value(ask: Callable[[Tensor], Any], where: str) -> None:
    def step(x: Tensor) -> Tensor:
        y = x * 2
        ask(y)
        return y

    with pytest.raises(TraceError) as caught:
        cr.compile(step)(cr.tensor(1.0))
    text = re.sub(r"\.py:\d+", ".py:#", str(caught.value))
    op = text.split(" ")[0]
    assert op in ("mul", "gt")
    made = "step" if op == "mul" else where
    assert text == (
        f"{op} ({HERE}:# in {made}): a traced tensor has no value yet, but Python asked for one at "
        f"{HERE}:# in {where}. {REMEDY}"
    )


def test_branching_on_a_traced_tensor_names_the_line() -> None:
    def step(x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x

    fails(
        TraceError,
        f"gt ({HERE}:# in step): a traced tensor has no value yet, but Python asked for one at {HERE}:# in step. {REMEDY}",
        lambda: cr.compile(step)(cr.tensor([1.0])),
    )


def test_a_mask_cannot_index_in_a_trace() -> None:
    def step(x: Tensor) -> Tensor:
        return x[x > 0]

    fails(
        TraceError,
        f"gt ({HERE}:# in step): a traced tensor has no value yet, but Python asked for one at {HERE}:# in step. {REMEDY}",
        lambda: cr.compile(step)(cr.tensor([1.0])),
    )


def test_a_leaked_tensor_says_where_it_came_from() -> None:
    class Leaky(list[Any]):
        """Not looked into before the trace: it is reached by what a call returns."""

    leaks = Leaky()
    get = {"leaks": lambda: leaks}["leaks"]
    hidden = [get] * 100  # more items than are looked at

    def step(x: Tensor) -> Tensor:
        hidden[0]().append(x * 2)
        return x

    with pytest.raises(TraceError, match="the function left a tensor"):
        cr.compile(step)(cr.tensor([1.0]))
    fails(
        TraceError,
        f"a tensor from inside a cr.compile function (mul ({HERE}:# in step)) was used after tracing ended. "
        f"Return it from the function, or store it in a tensor that exists outside.",
        lambda: leaks[0] + 1,
    )

    def other(x: Tensor) -> Tensor:
        return hidden[0]()[0] + x

    fails(
        TraceError,
        f"a tensor from a trace that ended (mul ({HERE}:# in step)) was used at {HERE}:# in other. "
        f"Return it from the compiled function, or store it in a tensor that exists outside.",
        lambda: cr.compile(other)(cr.tensor([1.0])),
    )


def test_a_tensor_put_into_a_list_outside_is_refused_at_once() -> None:
    kept: list[Any] = [1]

    def step(x: Tensor) -> Tensor:
        kept.append(x * 2)
        return x

    fails(
        TraceError,
        "cr.compile: a tensor of the function was put into the list 'kept', which Python does only when it is traced. "
        "Return the tensor, and put it there outside.",
        lambda: cr.compile(step)(cr.tensor([1.0])),
    )
    assert kept == [1]


def test_a_history_from_outside_is_refused() -> None:
    w = cr.tensor([1.0], requires_grad=True)
    outside = w * 2

    def step(x: Tensor) -> Tensor:
        return outside * x

    fails(
        GradientError,
        f"compile ({HERE}:# in step): the function uses a tensor from outside that has a history of its own; the "
        f"gradient could not flow back into it. Pass it as an argument, or detach it.",
        lambda: cr.compile(step)(cr.tensor([1.0])),
    )


def test_unhashable_arguments() -> None:
    fails(
        TraceError,
        "cr.compile: an argument or result of type set can be neither traced nor compared. Pass and return tensors, arrays, numbers, "
        "text, or lists, tuples and dicts of them.",
        lambda: cr.compile(lambda x: 1)({1, 2}),
    )


def test_show_before_anything_was_compiled() -> None:
    fails(
        TraceError,
        "show: nothing has been compiled yet. Call the function once first.",
        lambda: cr.compile(lambda x: x).show("graph"),
    )


def test_an_unknown_stage() -> None:
    f = cr.compile(lambda x: x * 2)
    f(cr.tensor([1.0]))
    fails(
        UnknownNameError,
        "unknown stage 'kernel'. Did you mean 'kernels'? Known: asm, graph, kernels, llvm, loops, memory, trace.",
        lambda: f.show("kernel"),
    )
    for stage in ("trace", "graph", "kernels", "loops", "memory", "llvm", "asm"):
        assert f.show(stage)


@pytest.mark.parametrize(
    ("shapes", "spelled"),
    [([(3, 2), (4, 2)], "[(3, 2), (4, 2)]"), ([()], "[()]"), ([(2,), ()], "[(2,), ()]"), ([], "[]")],
)
def test_a_loop_needs_one_length(shapes: list[tuple[int, ...]], spelled: str) -> None:
    fails(
        ShapeError,
        f"loop: every tensor argument needs a first axis of one common length (the steps), got shapes {spelled}. "
        f"Stack the arguments of all steps along a new first axis.",
        lambda: cr.compile(lambda *xs: xs).loop(*map(cr.zeros, shapes)),
    )


def test_a_loop_over_arguments_changed_in_place() -> None:
    fails(
        TraceError,
        "loop: the function changes one of its arguments in place, which has no meaning over many steps. "
        "Keep state in tensors that exist outside the function.",
        lambda: cr.compile(lambda x: x.add_(1) * 1).loop(cr.ones(3, 2)),
    )


OUT_OF_RANGE = "an index is out of range for an axis of size 3: it must be in [-3, 2]. Check the indices; if they are labels, there are 3 classes: number them from 0, or widen the last layer."


@pytest.mark.parametrize("bad", [3, -4, 2**40, -(2**40)])
@pytest.mark.parametrize("kind", ["take", "gather", "put"])
def test_an_index_out_of_range(bad: int, kind: str) -> None:
    table = cr.tensor([[1.0], [2.0], [3.0]])

    def step(index: Tensor) -> Tensor:
        if kind == "take":
            return table[index]
        if kind == "gather":
            return table.gather(0, index.unsqueeze(1))
        return table.index_add(0, index, cr.ones(2, 1))

    compiled = cr.compile(step)
    compiled(cr.tensor([0, -3]))
    fails(IndexRangeError, f"index ({HERE}:# in step): {OUT_OF_RANGE}", lambda: compiled(cr.tensor([0, bad])))
    np.testing.assert_array_equal(compiled(cr.tensor([1, 2])).numpy(), step(cr.tensor([1, 2])).numpy())


def stateful() -> tuple[list[Tensor], Callable[..., Any]]:
    """State is updated in every position relative to the index: before it, from it, and gradients too."""
    count, rows, total = cr.tensor(0), cr.tensor([[1.0], [2.0], [3.0]], requires_grad=True), cr.tensor([0.0])

    def step(index: Tensor, x: Tensor) -> Tensor:
        count.add_(1)
        rows.grad = None
        with cr.no_grad():
            rows.mul_(2.0)
        loss = (rows[index] * x).sum()
        loss.backward()
        with cr.no_grad():
            rows.sub_(rows.grad)
            total.add_(loss)
        return loss.detach()

    return [count, rows, total], step


def test_a_failing_call_applies_nothing() -> None:
    state, step = stateful()
    compiled = cr.compile(step)
    x = cr.ones(2, 1)
    compiled(cr.tensor([0, 1]), x)
    gradient = state[1].grad
    before = [s.tolist() for s in (*state, gradient)]
    for _ in range(2):
        with pytest.raises(IndexRangeError):
            compiled(cr.tensor([0, 7]), x)
        assert [s.tolist() for s in (*state, state[1].grad)] == before
    other_state, eager = stateful()
    for index in ([0, 1], [2, 2]):
        eager(cr.tensor(index), x)
    compiled(cr.tensor([2, 2]), x)
    assert [s.tolist() for s in state] == [s.tolist() for s in other_state]


def test_a_failing_loop_stops_at_a_step_boundary() -> None:
    state, step = stateful()
    compiled = cr.compile(step)
    index = cr.tensor([[0, 1], [2, -1], [1, 5], [0, 0]])
    x = cr.ones(4, 2, 1)
    fails(
        IndexRangeError, f"index ({HERE}:# in step), step 2 of the loop: {OUT_OF_RANGE}",
        lambda: compiled.loop(index, x),
    )  # fmt: skip
    other_state, eager = stateful()
    for i in range(2):
        eager(index[i], x[i])
    assert [s.tolist() for s in state] == [s.tolist() for s in other_state]


def test_a_check_that_depends_on_new_state_still_comes_before_it() -> None:
    position = cr.tensor(0)
    table = cr.tensor([1.0, 2.0, 3.0])

    @cr.compile
    def walk() -> Tensor:
        position.add_(1)
        return table[position]

    assert [walk().item() for _ in range(2)] == [2, 3]
    for _ in range(2):
        with pytest.raises(IndexRangeError):
            walk()
        assert position.item() == 2


def test_an_exception_inside_restores_every_handle() -> None:
    w = cr.tensor([1.0], requires_grad=True)
    w.grad = cr.tensor([5.0])
    b = cr.tensor([2.0])
    gradient = w.grad

    def step(x: Tensor) -> None:
        (w * x).sum().backward()
        with cr.no_grad():
            w.mul_(2.0)
            b.add_(x)
        x.mul_(3.0)
        raise RuntimeError("on purpose")

    compiled = cr.compile(step)
    x = cr.tensor([4.0])
    with pytest.raises(RuntimeError, match="on purpose"):
        compiled(x)
    assert (w.tolist(), b.tolist(), x.tolist()) == ([1], [2], [4])
    assert w.requires_grad
    assert w.grad is gradient
    (w * b * x).sum().backward()  # all of them still work in eager mode
    assert w.grad.tolist() == [13]
    with pytest.raises(RuntimeError, match="on purpose"):
        compiled(x)
    assert not cr.graph.tracing()
