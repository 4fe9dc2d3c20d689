"""Loops and functions as the emitter writes them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.codegen.matmul.transpose import lane_mask
from chainrule.compiler.plan.target import Target
from tests.compiler.harness import Compiled, module_of

OUT, COUNT = Register("%out", "ptr"), Register("%n", "i64")


def total(count: Register | int, step: int = 1) -> Compiled:
    """Stores 100 plus the sum of range(0, count, step)."""
    e = Emitter()
    with e.fold(count, [e.const(100.0, "double")], step) as state:
        index = e.convert("sitofp", state.index, "double")
        state.values = [e.binary("fadd", state.values[0], index)]
    e.store(state.values[0], OUT, 8)
    e.ret()
    return Compiled(module_of(e, e.function("f", [OUT, COUNT])))


@pytest.mark.parametrize("count", [-3, 0, 1, 2, 7])
@pytest.mark.parametrize("step", [1, 3])
def test_a_fold_carries_its_values_through_every_turn(count: int, step: int) -> None:
    for bound in (COUNT, count):
        out = np.empty(1)
        total(bound, step).call("f", out, count)
        assert out[0] == 100 + sum(range(0, count, step))


def test_loops_nest() -> None:
    e = Emitter()
    with e.loop(COUNT) as i, e.loop(3) as j:
        place = e.address(OUT, e.binary("add", e.binary("mul", i, e.const(3, "i64")), j), "double")
        e.store(e.convert("sitofp", e.binary("mul", i, j), "double"), place, 8)
    e.ret()
    out = np.empty((4, 3))
    Compiled(module_of(e, e.function("f", [OUT, COUNT]))).call("f", out, 4)
    np.testing.assert_array_equal(out, np.outer(range(4), range(3)))


def test_pieces_side_by_side_are_written_a_line_of_each_in_turn() -> None:
    e = Emitter()

    def piece(number: int) -> None:
        place = e.address(OUT, e.const(number, "i64"), "double")
        total = e.const(float(number), "double")
        for _ in range(number):
            total = e.binary("fadd", total, total)
        e.store(total, place, 8)

    e.side_by_side([partial(piece, number) for number in range(3)])
    e.ret()
    written = [line.split("=")[-1].split()[0] for line in e.lines]
    assert written == ["getelementptr"] * 3 + ["store", "fadd", "fadd", "store", "fadd", "store", "ret"]
    out = np.empty(3)
    Compiled(module_of(e, e.function("f", [OUT, COUNT]))).call("f", out, 0)
    np.testing.assert_array_equal(out, [0.0, 2.0, 8.0])


@pytest.mark.parametrize("lanes", [2, 4, 16])
def test_a_vector_that_is_split_and_joined_is_itself(lanes: int) -> None:
    e = Emitter()
    parts = e.split(e.load(OUT, "<16 x float>", 4), lanes)
    assert len(parts) == 16 // lanes
    e.store(e.join(parts), e.address(OUT, e.const(16, "i64"), "float"), 4)
    e.ret()
    out = np.append(np.arange(16), np.zeros(16)).astype(np.float32)
    Compiled(module_of(e, e.function("f", [OUT, COUNT]))).call("f", out, 0)
    np.testing.assert_array_equal(out[16:], np.arange(16))


@pytest.mark.parametrize("count", range(1, 16))
@pytest.mark.parametrize("target", [Target(64, 32), Target(32, 16)])
def test_a_masked_store_writes_the_lanes_it_should_with_and_without_registers_for_masks(
    count: int, target: Target
) -> None:
    e = Emitter(target)
    e.masked_store(e.load(OUT, "<16 x float>", 4), e.address(OUT, e.const(16, "i64"), "float"), lane_mask(count, 16))
    e.ret()
    assert ("masked.store" in "\n".join(e.lines)) is target.avx512
    out = np.append(np.arange(1, 17), np.zeros(16)).astype(np.float32)
    Compiled(module_of(e, e.function("f", [OUT, COUNT]))).call("f", out, 0)
    np.testing.assert_array_equal(out[16:], np.arange(1, 17) * (np.arange(16) < count))


def test_a_function_reads_as_llvm_writes_it() -> None:
    e = Emitter()
    e.store(e.const(1.5, "<4 x float>"), OUT, 4)
    e.ret()
    assert e.function("f", [OUT, COUNT]) == (
        "define void @f(ptr noalias nocapture %out, i64 %n) nounwind {\n"
        "entry:\n"
        "  store <4 x float> splat (float 0x3FF8000000000000), ptr %out, align 4\n"
        "  ret void\n"
        "}\n"
    )
