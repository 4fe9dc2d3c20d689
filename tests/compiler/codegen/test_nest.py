"""A nest is closed under nesting: contractions, folds and rooms of its own stand in loops, each reading what others gave."""

from __future__ import annotations

import numpy as np

from chainrule import dtypes
from chainrule.compiler.codegen import entry
from chainrule.compiler.codegen.lower import lower
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.product import tiled
from chainrule.compiler.plan.rows import sweep
from chainrule.compiler.plan.target import Target
from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import Compute, Dot, Kernel, Load, Number, Reduce, Result, Store, Value, room
from chainrule.compiler.schedule.loops import Accumulate, Alloc, Block, Combine, Contract, Nest, Way, around
from chainrule.compiler.schedule.loops_text import print_nest
from chainrule.compiler.schedule.memory import Place
from chainrule.compiler.schedule.verify import verify
from chainrule.graph import INPUT, Node
from chainrule.ops import elementwise as ew
from chainrule.ops import reduction
from tests.compiler.harness import Compiled

HEADS, LENGTH, WIDTH, ROWS = 3, 80, 24, 16  # heads, steps, features of each, queries at once
F32, TARGET = dtypes.float32, Target(32, 16)
H, BLOCK, ROW, KEY, FEATURE, SUMMED, COLUMN = (
    Var(number, size) for number, size in enumerate((HEADS, LENGTH // ROWS, ROWS, LENGTH, WIDTH, LENGTH, WIDTH))
)


def at(*parts: tuple[Var, int]) -> Expr:
    return Expr(dict(parts))


def compute(op: object, *args: Value) -> Compute:
    return Compute(F32, op, args, {})  # type: ignore[arg-type]


def attention() -> tuple[Nest, Kernel, dict[Node, Place]]:
    """softmax(q k^T / sqrt(d)) v of several heads: of a few queries at a time, whose scores stay in a room of the nest."""
    q, k, v, out = nodes = [Node(INPUT, (), {}, ((HEADS, LENGTH, WIDTH), F32)) for _ in range(4)]
    scores = room(F32, ROWS, LENGTH)
    head, line = (H, LENGTH * WIDTH), ((BLOCK, ROWS * WIDTH), (ROW, WIDTH))

    def load(node: Node, *parts: tuple[Var, int]) -> Load:
        return Load(F32, node, at(*parts))

    first, second = Result(F32), Result(F32)
    score = Dot(
        ROW,
        KEY,
        FEATURE,
        load(q, head, *line, (FEATURE, 1)),
        load(k, head, (KEY, WIDTH), (FEATURE, 1)),
        first,
        along=False,
    )
    mixed = Dot(ROW, COLUMN, SUMMED, load(scores, (ROW, LENGTH), (SUMMED, 1)), load(v, head, (SUMMED, WIDTH), (COLUMN, 1)), second, along=False)  # fmt: skip
    place, found = at((ROW, LENGTH), (KEY, 1)), load(scores, (ROW, LENGTH), (KEY, 1))
    largest = Reduce(reduction.amax, (KEY,), found, Result(F32, 0), along=True)
    exponential = compute(ew.exp, compute(ew.sub, found, largest.result))
    total = Reduce(reduction.sum, (KEY,), exponential, Result(F32, 1), along=True)

    def over(*body: object) -> Block:
        return sweep((KEY,), 16, Way.VECTOR, body)  # type: ignore[arg-type]

    softmax = (
        Accumulate(largest, over(Combine(largest))),
        Accumulate(total, over(Combine(total), Store(scores, place, exponential))),
        *over(Store(scores, place, compute(ew.div, found, total.result))),
    )
    scaled = compute(ew.mul, first, Number(F32, WIDTH**-0.5))
    result = Store(out, at(head, *line, (COLUMN, 1)), second)
    steps = (
        Contract(score, (Store(scores, place, scaled),), tiled(score, TARGET)),
        *around([ROW], softmax),
        Contract(mixed, (result,), tiled(mixed, TARGET)),
    )
    nest = Nest((Alloc(scores), *around([H, BLOCK], steps)))
    # What it touches, for its pointers, and what it must have done in the end.
    kernel = Kernel((H, BLOCK, ROW, COLUMN), [result])
    reads = compute(ew.add, compute(ew.add, score.a, score.b), mixed.b)
    kernel._loads = Kernel((), [Store(out, result.index, reads)]).loads()
    return nest, kernel, {node: Place(slot) for slot, node in enumerate(nodes)}


def test_attention_is_one_nest_that_never_stores_all_scores() -> None:
    nest, kernel, places = attention()
    verify(nest, kernel)
    arguments = Arguments.of(kernel, places)
    written = lower(nest, "f", arguments, TARGET)
    compiled = Compiled("\n".join([*sorted(written.declarations), written.text, entry.ATTRIBUTES]))
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(HEADS, LENGTH, WIDTH)).astype("f") for _ in range(3))
    out = np.full_like(q, np.nan)
    compiled.call("f", *([q, k, v, out][place.slot] for place in arguments.places), np.empty(nest.scratch, np.uint8))  # type: ignore[index]
    scores = q.astype("d") @ k.astype("d").transpose(0, 2, 1) / np.sqrt(WIDTH)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(out, weights / weights.sum(-1, keepdims=True) @ v, rtol=2e-5, atol=2e-6)
    assert f"alloca float, i64 {ROWS * LENGTH}," in written.text


def test_it_reads_as_it_runs() -> None:
    nest, kernel, places = attention()
    names = dict(zip(places, ("q", "k", "v", "out"), strict=True))
    text = print_nest(nest, kernel, lambda node, index: (names[node], index))
    assert text.splitlines()[:4] == [
        "room0: f32[1280]",
        "for i in 0..3:",
        "  for j in 0..5:",
        "    acc = sum over m < 24 of q[1920*i + 384*j + 24*k + m] * k[1920*i + 24*l + m] in tiles of 4 x 16, B packed:",
    ]
