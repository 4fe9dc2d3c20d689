"""The verifier of the loop IR: what is decided for every kind of kernel passes, and each planted fault does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import chainrule as cr
from chainrule import Tensor, dtypes
from chainrule.compiler.plan.cut import Cut
from chainrule.compiler.plan.nests import Nests, divided
from chainrule.compiler.plan.partition import Share
from chainrule.compiler.plan.target import Target
from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import Kernel, Load, Number, Result, RowFolds, Store
from chainrule.compiler.schedule.loops import (
    Accumulate,
    Alloc,
    Block,
    Combine,
    Contract,
    For,
    Let,
    Nest,
    Way,
    inside,
)
from chainrule.compiler.schedule.verify import verify, verify_products
from chainrule.errors import VerifyError
from chainrule.ops import reduction


def nest_of(function: Callable[..., Tensor], *shapes: tuple[int, ...]) -> tuple[Nest, Kernel]:
    """The nest of the function's one kernel, for a CPU with vectors of 64 bytes."""
    compiled = cr.compile(function)
    compiled(*(cr.zeros(shape) for shape in shapes))
    assert compiled._latest is not None
    (kernel,) = compiled._latest.program.plan.kernels
    return Nests([kernel], Target(64, 32))[0], kernel


KERNELS: dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "pointwise": (lambda x: (x * x).exp(), (6, 37)),
    "columns": (lambda x: x.sum(0), (40, 37)),
    "halved": (lambda x: x.sum(0), (260, 37)),
    "halved by vectors": (lambda x: (x * x).sum(), (260,)),
    "rows": (lambda x: x.sum(1), (7, 37)),
    "rows of one element": (lambda x: x.amax(1), (7, 1)),
    "streamed": (lambda x: x.softmax(-1), (7, 500)),
    "held": (lambda x: x.softmax(-1), (7, 40)),
    "side by side": (lambda x: x.softmax(-1), (40, 3)),
    "product": (lambda x: x @ x.T, (7, 5)),
}


def swapped(block: Block, kind: type, change: Callable[[Any], Any]) -> Block:
    """The block with `change` done to every statement of a kind; one that becomes None is left out."""
    found: list[Any] = []
    for statement in block:
        body = getattr(statement, "body", None)
        made: Any = statement if body is None else replace(statement, body=swapped(body, kind, change))  # type: ignore[type-var]
        if isinstance(statement, kind):
            made = change(made)
        found += [] if made is None else [made]
    return tuple(found)


def test_what_is_decided_passes() -> None:
    for function, shape in KERNELS.values():
        verify(*nest_of(function, shape))


def loops(**changes: Any) -> Callable[[Block], Block]:
    return lambda block: swapped(block, For, lambda loop: replace(loop, **changes))


def vectors(change: Callable[[For], For]) -> Callable[[Block], Block]:
    return lambda block: swapped(block, For, lambda loop: change(loop) if loop.way is Way.VECTOR else loop)


def without(kind: type, which: Callable[[Any], bool] = lambda statement: True) -> Callable[[Block], Block]:
    return lambda block: swapped(block, kind, lambda s: None if which(s) else s)


def out_of_loops(block: Block) -> Block:
    """Only what stands innermost."""
    return tuple(s for s in inside(block) if isinstance(s, (Let, Store)))


def carried_as_integers(block: Block) -> Block:
    def change(fold: Accumulate) -> Accumulate:
        core = replace(fold.core, result=Result(dtypes.int64))
        return Accumulate(core, swapped(fold.body, Combine, lambda term: Combine(core)))

    return swapped(block, Accumulate, change)


FAULTS: list[tuple[str, Callable[[Block], Block], str]] = [
    ("pointwise", loops(way=None), "the way of loop i is not decided"),
    ("pointwise", out_of_loops, "a value depends on [ij], outside of its loop"),
    ("pointwise", vectors(lambda loop: replace(loop, end=loop.end - (loop.is_one_turn))), "are not come to once each"),
    ("pointwise", vectors(lambda loop: replace(loop, begin=0)), "in turns of|are not come to once each"),
    ("pointwise", vectors(lambda loop: replace(loop, end=loop.end + 16)), "loop j runs from 0 to 48 of 37"),
    ("pointwise", without(For, lambda loop: loop.is_one_turn), "are not come to once each"),
    ("pointwise", without(Store), "are not come to once each"),
    ("pointwise", lambda block: (*block, *block), "are not come to once each"),
    ("pointwise", vectors(lambda loop: replace(loop, lanes=7)), "loop j has 32 iterations in turns of 7"),
    ("pointwise", vectors(lambda loop: replace(loop, unit=8)), "in units of 8, its turns are 16"),
    ("pointwise", loops(way=Way.VECTOR, lanes=1), "loop j is vectors inside vectors"),
    ("pointwise", vectors(lambda loop: replace(loop, way=Way.DEALT)), "loop j deals its terms to 16 sums"),
    ("pointwise", lambda block: (For(block[0].var, block, 0, 6),), "loop i stands in itself"),  # type: ignore[union-attr]
    ("columns", carried_as_integers, "sum of f32 carries i64"),
    ("columns", lambda block: swapped(block, Combine, lambda term: replace(term, core=replace(term.core))), "a term stands outside of its fold"),
    ("columns", without(Combine), "the terms of sum are not come to once each"),
    ("columns", without(Accumulate), "a result|result  is read before it is there"),
    ("halved", loops(by_leaf=False), "sum is cut into leaves, but its loop over j is not"),
    ("columns", lambda block: swapped(block, For, lambda loop: replace(loop, by_leaf=loop.var.size == 40)), "loop j goes leaf by leaf, but no fold around it does"),
    ("halved by vectors", vectors(lambda loop: replace(loop, end=256)), "leaf by leaf, but not serially or by vectors over all rows"),
    ("streamed", without(For, lambda loop: loop.is_one_turn), "the terms of amax are not come to once each"),
    ("streamed", without(Alloc), "a value is stored where there is no room for it"),
    ("held", without(Accumulate, lambda fold: fold.core.op is reduction.amax), "result 0 is read before it is there"),
    ("side by side", lambda block: swapped(block, Accumulate, lambda fold: replace(fold, body=(*fold.body, *fold.body))), "the terms of amax are not come to once each"),
    ("product", lambda block: swapped(block, Contract, lambda product: replace(product, core=replace(product.core, m=None))), "a factor depends on i, outside of its loop"),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "fault", "message"), FAULTS)
def test_a_fault_is_refused(kernel: str, fault: Callable[[Block], Block], message: str) -> None:
    nest, made = nest_of(KERNELS[kernel][0], KERNELS[kernel][1])
    with pytest.raises(VerifyError, match=rf"^nest: .*({message}).*\. This is a bug in chainrule\.$"):
        verify(Nest(fault(nest.body)), made)


def test_a_store_that_another_thread_writes_too_is_refused() -> None:
    nest, kernel = nest_of(KERNELS["pointwise"][0], (6, 37))
    i, j = kernel.loops
    by_rows = Share.of(i, Cut.even(6), "loop")
    verify(divided(nest, by_rows), kernel)
    verify(divided(nest, Share.of(j, Cut.even(37, 16), "loop")), kernel)
    (store,) = kernel.stores
    store.index = Expr({j: 1})
    with pytest.raises(VerifyError, match=re.escape("threads that share i may write to the same element")):
        verify(divided(nest, by_rows), kernel)


def test_a_room_that_is_read_before_or_filled_beyond_its_end_is_refused() -> None:
    nest, kernel = nest_of(*KERNELS["streamed"])
    room = next(s for s in inside(nest.body) if isinstance(s, Alloc)).room
    read = Load(room.dtype, room, Expr())
    with pytest.raises(VerifyError, match="a room is read before anything was stored in it"):
        verify(Nest((Let(read), *nest.body)), kernel)
    room.shape = (499,)
    with pytest.raises(VerifyError, match="elements 0 to 499 are stored in a room of 499"):
        verify(nest, kernel)


def test_two_folds_over_a_row_of_one_name_are_refused() -> None:
    nest, kernel = nest_of(*KERNELS["held"])
    assert isinstance(kernel.core, RowFolds)
    kernel.core.stages[1].result.stage = 0
    with pytest.raises(VerifyError, match=re.escape("the folds over a row are named [0, 0], not by their order")):
        verify(nest, kernel)


def test_a_loop_that_does_not_run_through_its_loops_in_order_is_refused() -> None:
    nest, kernel = nest_of(lambda x, y: x @ y, (2, 4, 7, 5), (2, 4, 5, 6))
    both = Share.of(Var(9, 8), Cut.even(8), "batch", kernel.loops[:2])
    verify(divided(nest, both), kernel)
    turned = both._replace(loops=both.loops[::-1])
    with pytest.raises(VerifyError, match="loop r does not run through its loops in their order"):
        verify(divided(nest, turned), kernel)


def test_a_vector_whose_lanes_write_to_one_element_is_refused() -> None:
    nest, kernel = nest_of(KERNELS["pointwise"][0], (6, 37))
    (store,) = kernel.stores
    store.value = Number(store.value.dtype, 0.0)
    store.index = Expr({kernel.loops[0]: 37})
    with pytest.raises(VerifyError, match="the lanes along j write to the same element, or nobody knows where"):
        verify(nest, kernel)


def test_a_nest_that_reads_or_writes_what_is_not_there_is_refused() -> None:
    nest, kernel = nest_of(lambda x, y: x @ y, (7, 5), (5, 6))
    (store,) = kernel.stores
    verify_products([kernel])
    for node, message in (
        (store.node, "elements 0 to 41 are stored in <matmul: f32[6, 6]> of 36"),
        (kernel.loads()[0].node, "elements 0 to 34 are read in <input: f32[6, 5]> of 30"),
    ):
        whole = node.shape
        node.shape = (6, whole[1])
        with pytest.raises(VerifyError, match=re.escape(message)):
            verify(nest, kernel)
        node.shape = whole


def test_a_product_of_other_terms_than_its_own_is_refused() -> None:
    _, kernel = nest_of(lambda x, y: x @ y, (7, 5), (5, 6))
    (store,) = kernel.stores
    store.node.inputs[0].shape = (7, 4)
    message = "of each element of <matmul: f32[7, 6]> 5 terms are summed, and it has 4. This is a bug in chainrule."
    with pytest.raises(VerifyError, match=re.escape(message)):
        verify_products([kernel])
    with pytest.raises(VerifyError, match=re.escape("10 terms are summed, and it has 4")):
        verify_products([kernel, kernel])
