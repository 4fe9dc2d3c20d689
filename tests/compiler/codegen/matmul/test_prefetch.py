"""Large products ask for the memory they will finish in while they sum; no bit changes, no small one pays for it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.codegen.matmul import contraction
from chainrule.compiler.codegen.matmul.contraction import Contraction, emit_contraction, plan, scratch_elements
from chainrule.compiler.plan import tiling
from chainrule.compiler.plan.target import Target
from chainrule.compiler.runtime.native import assembly
from tests.compiler.codegen.matmul.test_contraction import (
    SCRATCH,
    TARGETS,
    A,
    B,
    C,
    elements,
    store_at,
    strided,
    unchanged,
)
from tests.compiler.codegen.matmul.test_hot_loops import FMA, instructions, loops, machine_for
from tests.compiler.harness import Compiled, module_of

SPEC = Contraction(75, 90, 90, "float", (90, 1), (90, 1))


def touch(e: Emitter, row: Register, column: Register) -> None:
    line = e.address(C, e.binary("mul", row, e.const(SPEC.n, "i64")), SPEC.scalar)
    e.prefetch(e.address(line, column, SPEC.scalar), write=True)


def asked_to_write(text: str) -> int:
    """Requests for lines that will be written; what packing asks for will be read."""
    return len(re.findall(r"call void @llvm.prefetch.p0\(ptr \S+ i32 1,", text))


def written(target: contraction.Target, asks: bool) -> str:
    e = Emitter()
    emit_contraction(
        e, SPEC, contraction.plan(SPEC, target), A, B, store_at(SPEC, unchanged), SCRATCH, touch=touch if asks else None
    )
    e.ret()
    return module_of(e, e.function("f", [A, B, C, SCRATCH]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("depth", [32, 90])
def test_asking_changes_no_bit(depth: int, target: contraction.Target, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = strided(rng, 75, 90, "by row", np.float32), strided(rng, 90, 90, "by row", np.float32)
    chosen = replace(plan(SPEC, target), kc=depth, pack=True, tiles=2, together=2, blocked=True, ahead=True)
    for module in (tiling, contraction):
        monkeypatch.setattr(module, "plan", lambda spec, target, tile=None: chosen)
    results = []
    for asks in (False, True):
        text = written(target, asks)
        assert (asked_to_write(text) > 0) is asks
        c = np.full((75, 90), np.nan, np.float32)
        scratch = np.empty(scratch_elements(SPEC, target) + 16, np.float32)
        Compiled(text, speed=0, codegen=1).call("f", a, b, c, scratch)
        results.append(c)
    assert elements(a) == SPEC.a_strides
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0], a.astype(np.float64) @ b, rtol=0, atol=1e-4)


@pytest.mark.parametrize("cpu", ["x86-64-v4", "x86-64-v3", "neoverse-n1"])
def test_the_innermost_loop_only_multiplies_and_adds(cpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_for(cpu)
    chosen = replace(plan(SPEC, machine.target), pack=True, tiles=2, together=2, blocked=True, ahead=True)
    monkeypatch.setattr(contraction, "plan", lambda spec, target, tile=None: chosen)
    text = assembly(written(machine.target, True), machine)
    assert re.search(r"\bprefetchw\b|\bprefetcht0\b|\bprfm\b", text)
    inner = [instructions(block) for block in loops(text, FMA[cpu])]
    assert inner
    assert not [line for lines in inner for line in lines if re.search("prefetch|prfm", line)]


def dense(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return (x @ w.T + b).relu()


@pytest.mark.parametrize(("m", "n", "asks"), [(600, 700, True), (60, 70, False)])
def test_a_layer_asks_for_what_its_epilogue_writes_if_that_is_far(m: int, n: int, asks: bool) -> None:
    step = cr.compile(dense)
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s).astype("f") for s in ((m, 300), (n, 300), (n,)))
    got = step(cr.tensor(x), cr.tensor(w), cr.tensor(b)).numpy()
    np.testing.assert_allclose(got, np.maximum(x.astype(float) @ w.T + b, 0), rtol=0, atol=1e-4)
    assert (asked_to_write(step.show("llvm")) > 0) is asks


MARKS, BASE = Register("%marks", "ptr"), Register("%base", "ptr")


def mark(e: Emitter, address: Register, write: bool = False, level: int = 1) -> None:
    """Instead of asking for a line: write down that it was asked for, if into the second-level cache."""
    if level == 2:
        far = e.binary("sub", e.convert("ptrtoint", address, "i64"), e.convert("ptrtoint", BASE, "i64"))
        line = e.binary("lshr", far, e.const(6, "i64"))
        e.store(Register("1", "i8"), e.address(MARKS, line, "i8"), 1)


def lines(base: np.ndarray, part: np.ndarray) -> set[int]:
    """The lines that a part of an array lies in, counted from the start of `base`."""
    places = np.zeros(part.shape, np.int64) + (part.ctypes.data - base.ctypes.data)
    for axis, stride in enumerate(part.strides):
        shape = [1] * part.ndim
        shape[axis] = -1
        places += stride * np.arange(part.shape[axis]).reshape(shape)
    return set((places // 64).ravel().tolist())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layouts", [("by row", "by row"), ("by row", "by column"), ("by column", "by row")])
@pytest.mark.parametrize("shift", [0, 5])  # elements by which the factors begin within a line
def test_each_block_and_panel_is_asked_for_by_those_before(
    shift: int, layouts: tuple[str, str], target: contraction.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    m, n, k, depth = 154, 96, 90, 32  # cut into an even number of row tiles, of two heights, and of panels
    room = np.zeros(1 << 18, np.float32)
    start = -(room.ctypes.data // 4) % 16 + (1 << 16) + shift  # lines asked for beyond the ends lie in the room, too
    a, b = (
        room[begin : begin + rows * columns].reshape((rows, columns) if layout == "by row" else (columns, rows))
        for begin, rows, columns, layout in ((start, m, k, layouts[0]), (start + (1 << 16), k, n, layouts[1]))
    )
    a, b = (x if layout == "by row" else x.T for x, layout in zip((a, b), layouts, strict=True))
    spec = Contraction(m, n, k, "float", elements(a), elements(b))
    chosen = plan(spec, target, (1, 13) if target.registers == 32 else (1, 6))
    chosen = replace(chosen, kc=depth, pack=True, tiles=chosen.row_tiles // 2, together=chosen.column_panels // 2)
    chosen = replace(chosen, blocked=True)
    for module in (tiling, contraction):
        monkeypatch.setattr(module, "plan", lambda spec, target, tile=None: chosen)
    monkeypatch.setattr(Emitter, "prefetch", mark)
    e = Emitter()
    emit_contraction(e, spec, contraction.plan(spec, target), A, B, store_at(spec, unchanged), SCRATCH)
    e.ret()
    compiled = Compiled(module_of(e, e.function("f", [A, B, C, SCRATCH, MARKS, BASE])), speed=0, codegen=1)
    scratch = np.empty(scratch_elements(spec, target) + 16, np.float32)
    marks = np.zeros(room.nbytes // 64 + 2, np.uint8)
    base = room[(start - shift) % 16 :]
    compiled.call("f", a, b, np.empty((m, n), np.float32), scratch, marks, base)
    asked = set(np.flatnonzero(marks).tolist())
    rows, columns = chosen.tiles * chosen.mr, chosen.nr
    for first, then in [
        (a[:, :depth], a[:, depth:]),
        (a[:rows], a[rows:]),
        (b[:depth], b[depth:]),
        (b[:, :columns], b[:, columns:]),
    ]:
        assert lines(base, then) - lines(base, first) <= asked


def test_a_large_product_asks_for_what_it_reads_next_whatever_else_it_asks_for() -> None:
    def asked(m: int, n: int, k: int) -> int:
        spec = Contraction(m, n, k, "float", (k, 1), (n, 1))
        target = Target(64, 32)
        e = Emitter()
        emit_contraction(e, spec, contraction.plan(spec, target), A, B, store_at(spec, unchanged), SCRATCH)
        return len(re.findall(r"call void @llvm.prefetch.p0\(ptr \S+ i32 0, i32 2,", "\n".join(e.lines)))

    assert asked(600, 700, 300) > 0
    assert asked(60, 70, 300) == 0


def test_many_lines_that_a_row_of_a_tile_asks_for_are_asked_for_in_a_loop() -> None:
    """Of the weight's gradient of a layer of few inputs over many rows: written out, 71 lines took LLVM a second."""
    spec, target = Contraction(128, 8, 16_000, "float", (1, 128), (8, 1), halved=True), Target(64, 32)
    e = Emitter(target)
    emit_contraction(e, spec, plan(spec, target), A, B, store_at(spec, unchanged), SCRATCH)
    assert 0 < len(re.findall(r"call void @llvm.prefetch.p0\(ptr \S+ i32 0, i32 2,", "\n".join(e.lines))) <= 8
