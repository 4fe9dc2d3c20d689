"""Matrix products and transposes against NumPy in double, over shapes, strides, vector widths and splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import accumulate, pairwise

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler.codegen import mathematics
from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of
from chainrule.compiler.codegen.matmul import contraction
from chainrule.compiler.codegen.matmul.contraction import (
    Contraction,
    Tiling,
    emit_contraction,
    plan,
    scratch_elements,
)
from chainrule.compiler.codegen.matmul.finish import Epilogue
from chainrule.compiler.codegen.matmul.transpose import emit_transpose
from chainrule.compiler.plan import tiling
from chainrule.compiler.plan.target import Target
from chainrule.compiler.plan.vectorize import ALONG
from chainrule.ops.contraction import in_lanes
from chainrule.ops.halves import halved as many
from tests.compiler import canaries
from tests.compiler.harness import Compiled, module_of

NAMES = {"float": np.float32, "double": np.float64}
TARGETS = [Target(64, 32), Target(32, 16), Target(16, 16), Target(16, 32)]
A, B, C, SCRATCH, BIAS = (Register(f"%{name}", "ptr") for name in ("a", "b", "c", "scratch", "bias"))
LIMITS = Register("%first", "i64"), Register("%last", "i64")


def store_at(spec: Contraction, finish: Callable[[Emitter, Register, Register, Register | None], Register]) -> Epilogue:
    """Store C row-major, once `finish` has had the sums."""

    def epilogue(e: Emitter, row: Register, column: Register, sums: Register, mask: Register | None) -> None:
        place = e.address(C, e.binary("mul", row, e.const(spec.n, "i64")), spec.scalar)
        e.masked_store(finish(e, column, sums, mask), e.address(place, column, spec.scalar), mask)

    return epilogue


def unchanged(e: Emitter, column: Register, sums: Register, mask: Register | None) -> Register:
    return sums


def kernel(spec: Contraction, target: Target, finish=unchanged, split: str = "") -> Compiled:  # type: ignore[no-untyped-def]
    """The function of one product; with `split` "rows" or "columns" it takes a range of those."""
    e = Emitter()
    limits = {split: LIMITS} if split else {}
    emit_contraction(e, spec, contraction.plan(spec, target), A, B, store_at(spec, finish), SCRATCH, **limits)
    e.ret()
    parameters = [A, B, C, SCRATCH, BIAS, *(LIMITS if split else ())]
    return Compiled(module_of(e, e.function("f", parameters)), speed=0, codegen=1)


def strided(rng: np.random.Generator, rows: int, cols: int, layout: str, dtype: type) -> np.ndarray:
    """A matrix whose elements lie by row, by column, or apart in both directions."""
    step = 2 if layout == "apart" else 1
    shape = (cols * step, rows * step) if layout == "by column" else (rows * step, cols * step)
    whole = rng.normal(size=shape).astype(dtype)
    return whole.T if layout == "by column" else whole[::step, ::step]


def laid(matrix: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers, lying in memory as the layout says."""
    if layout == "flipped":
        return matrix[::-1, ::-1].copy()[::-1, ::-1]
    place = strided(np.random.default_rng(0), *matrix.shape, layout, matrix.dtype.type)
    place[:] = matrix
    return place


def elements(matrix: np.ndarray) -> tuple[int, int]:
    return matrix.strides[0] // matrix.itemsize, matrix.strides[1] // matrix.itemsize


def check(got: np.ndarray, a: np.ndarray, b: np.ndarray, terms: int) -> None:
    truth = a.astype(np.float64) @ b.astype(np.float64)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert np.all(np.abs(got - truth) <= terms * np.finfo(got.dtype).eps * size + 1e-300)


layouts = st.sampled_from(["by row", "by column", "apart", "flipped"])
scalars = st.sampled_from(["float", "double"])
extents = st.integers(1, 70) | st.sampled_from([1, 2, 10, 16, 17, 33, 100])
ways = st.tuples(
    layouts, layouts, st.sampled_from(TARGETS), st.sampled_from([1, 2]), st.sampled_from(["", "rows", "columns"])
)


# terms, and whether they are rows that are added up in halves: 100 to 191, and then some, are two leaves
terms = st.tuples(extents, st.booleans()) | st.tuples(st.sampled_from([128, 191, 255, 256, 390, 600]), st.just(True))


@settings(max_examples=60, deadline=None)
@given(extents, extents, terms, scalars, st.lists(ways, min_size=2, max_size=2))
def test_products_equal_numpy_and_each_other_wherever_their_factors_lie_and_whatever_the_registers(
    m: int, n: int, terms: tuple[int, bool], scalar: str, each: list[tuple[str, str, Target, int, str]]
) -> None:
    k, halved = terms
    halved = halved and many(k)
    rng = np.random.default_rng(m * 10_000 + n * 100 + k)
    a, b = (rng.normal(size=shape).astype(NAMES[scalar]) for shape in ((m, k), (k, n)))
    lanes = ALONG if m == 1 and in_lanes(1, k) else 1  # a column is computed as a row
    found = []
    for a_layout, b_layout, target, fmas, split in each:
        left, right = laid(a, a_layout), laid(b, b_layout)
        spec = Contraction(m, n, k, scalar, elements(left), elements(right), lanes=lanes, halved=halved)
        found.append(run(spec, replace(target, fmas=fmas), left, right, split))
    check(found[0], a, b, k)
    assert found[0].tobytes() == found[1].tobytes()


@pytest.mark.parametrize(
    ("m", "n", "k", "layouts"),
    [
        (130, 3, 40, ("by row", "by column")),
        (17, 1, 100, ("by row", "by row")),
        (100, 1, 33, ("by column", "by row")),
        (1, 300, 20, ("by row", "by row")),
        (1, 90, 100, ("by row", "by column")),
        (64, 1024, 80, ("by row", "by row")),
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_shapes_with_ways_of_their_own(m: int, n: int, k: int, layouts: tuple[str, str], target: Target) -> None:
    rng = np.random.default_rng(0)
    a, b = (strided(rng, *s, layout, np.float32) for s, layout in zip([(m, k), (k, n)], layouts, strict=True))
    spec = Contraction(m, n, k, "float", elements(a), elements(b))
    c = np.full((m, n), np.nan, np.float32)
    scratch = np.empty(scratch_elements(spec, target) + 1, np.float32)
    kernel(spec, target).call("f", a, b, c, scratch, c)
    check(c, a, b, k)


def test_wide_rows_are_packed() -> None:
    assert plan(Contraction(256, 1024, 1024, "float", (1024, 1), (1024, 1)), Target(64, 32)).pack
    assert not plan(Contraction(256, 1024, 16, "float", (16, 1), (1024, 1)), Target(64, 32)).pack


@pytest.mark.parametrize(
    ("m", "n", "k", "packed"),
    [(128, 128, 128, True), (128, 128, 64, True), (128, 128, 48, False), (8, 128, 128, False), (128, 120, 128, False)],
)
def test_panels_whose_rows_share_cache_sets_are_packed_where_vectors_are_narrow(
    m: int, n: int, k: int, packed: bool
) -> None:
    spec = Contraction(m, n, k, "float", (1, m), (n, 1))
    assert plan(spec, Target(32, 16)).pack is packed
    assert not plan(spec, Target(64, 32)).pack


@pytest.mark.parametrize("m", [1, 7, 13, 32, 65, 127, 1000])
def test_row_tiles_cover_the_rows_evenly(m: int) -> None:
    chosen = plan(Contraction(m, 64, 64, "float", (64, 1), (64, 1)), Target(64, 32))
    assert chosen.large * chosen.mr + chosen.small * (chosen.mr - 1) == m
    assert chosen.mr <= 14


def test_batches_and_broadcast_operands() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 2, 9, 5)).astype(np.float32)
    b = rng.normal(size=(3, 1, 5, 20)).astype(np.float32)
    check(cr.compile(lambda a, b: a @ b)(cr.tensor(a), cr.tensor(b)).numpy(), a, b, 5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])  # written out in each row, and in a loop
def test_epilogue_adds_a_bias_and_applies_an_activation(activation: str, target: Target) -> None:
    def finish(e: Emitter, column: Register, sums: Register, mask: Register | None) -> Register:
        assert mask is None or mask.type == f"<{lanes_of(sums.type)} x i1>"
        y = e.binary("fadd", sums, e.masked_load(e.address(BIAS, column, "float"), sums.type, mask))
        if activation == "tanh":
            return mathematics.tanh(e, y)
        return e.select(e.compare("ogt", y, e.const(0.0, y.type)), y, e.const(0.0, y.type))

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(11, 9)).astype(np.float32), rng.normal(size=(9, 45)).astype(np.float32)
    bias, c = rng.normal(size=45).astype(np.float32), np.empty((11, 45), np.float32)
    spec = Contraction(11, 45, 9, "float", (9, 1), (45, 1))
    kernel(spec, target, finish).call("f", a, b, c, c, bias)
    truth = a @ b + bias
    truth = np.tanh(truth) if activation == "tanh" else np.maximum(truth, 0)
    np.testing.assert_allclose(c, truth, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("by", ["rows", "columns"])
@pytest.mark.parametrize("n", [45, 10])
@pytest.mark.parametrize("layout", ["by row", "by column"])
def test_a_split_among_threads_changes_no_bit(n: int, layout: str, by: str) -> None:
    rng = np.random.default_rng(0)
    a, b = strided(rng, 30, 40, "by row", np.float32), strided(rng, 40, n, layout, np.float32)
    spec = Contraction(30, n, 40, "float", elements(a), elements(b))
    whole, parts = np.empty((30, n), np.float32), np.full((30, n), np.nan, np.float32)
    scratch = np.empty(scratch_elements(spec, TARGETS[0]) + 1, np.float32)
    kernel(spec, TARGETS[0]).call("f", a, b, whole, scratch, whole)
    split, chosen = kernel(spec, TARGETS[0], split=by), plan(spec, TARGETS[0])
    count = chosen.row_tiles if by == "rows" else chosen.column_panels
    limits = [0, *sorted(np.random.default_rng(1).integers(0, count + 1, 3)), count]
    for first, last in pairwise(map(int, limits)):
        split.call("f", a, b, parts, scratch, parts, first, last)
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("b_strides", ["by row", "by column"])
@pytest.mark.parametrize(("m", "n", "k"), [(0, 5, 20), (5, 0, 20), (5, 37, 0)])
def test_empty_extents(m: int, n: int, k: int, b_strides: str) -> None:
    spec = Contraction(m, n, k, "float", (k, 1), (n, 1) if b_strides == "by row" else (1, k))
    c = np.full((m, n), np.nan, np.float32)
    a, b, scratch = (
        np.zeros(elements + 16, np.float32) for elements in (m * k, k * n, scratch_elements(spec, TARGETS[0]))
    )
    kernel(spec, TARGETS[0]).call("f", a, b, c, scratch, c)
    np.testing.assert_array_equal(c, np.zeros((m, n)))


@pytest.mark.parametrize(
    ("architecture", "features", "expected"),
    [
        ("x86_64", {"avx512f": True, "avx2": True}, Target(64, 32)),
        ("x86_64", {"avx2": True, "fma": True}, Target(32, 16)),
        ("x86_64", {"avx2": True}, Target(32, 16, fma=False)),
        ("x86_64", {}, Target(16, 16, fma=False)),
        ("aarch64", {"neon": True}, Target(16, 32)),
    ],
)
def test_targets(architecture: str, features: dict[str, bool], expected: Target) -> None:
    assert Target.of(architecture, features) == expected


def test_a_cpu_that_takes_wide_vectors_in_two_halves_is_known() -> None:
    features = {"avx512f": True}
    zen4, icelake = (Target.of("x86_64", features, cpu) for cpu in ("znver4", "icelake-server"))
    assert zen4.quick_roots and zen4.fmas == 1
    assert not icelake.quick_roots and icelake.fmas == 2


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("m", [64, 96, 100, 128, 200, 256])
def test_a_large_product_is_cut_so_that_two_threads_have_about_equal_rows(m: int, target: Target) -> None:
    chosen = plan(Contraction(m, 128, 128, "float", (128, 1), (128, 1)), target)
    assert 2 * chosen.cut_of_rows(m).largest(2) <= 1.07


def test_packing_without_scratch_is_refused() -> None:
    spec = Contraction(64, 64, 64, "float", (64, 1), (1, 64))
    with pytest.raises(ValueError, match="needs scratch memory of 2048 elements"):
        emit_contraction(Emitter(), spec, plan(spec, TARGETS[0]), A, B, store_at(spec, unchanged))


@settings(max_examples=30, deadline=None)
@given(extents, extents, layouts, scalars, st.sampled_from([4, 8, 16]), st.booleans())
def test_transposes_equal_numpy(rows: int, cols: int, layout: str, scalar: str, lanes: int, called: bool) -> None:
    source = strided(np.random.default_rng(rows + cols), rows, cols, layout, NAMES[scalar])
    e = Emitter()
    emit_transpose(e, rows, cols, scalar, A, elements(source), C, lanes, called=called)
    e.ret()
    out = np.full((cols, rows), np.nan, NAMES[scalar])
    Compiled(module_of(e, e.function("f", [A, C])), speed=0, codegen=1).call("f", source, out)
    np.testing.assert_array_equal(out, source.T)


def test_other_machines_get_fused_multiply_adds() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        arm = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError:
        pytest.skip("this llvmlite has no AArch64 target")
    e, spec = Emitter(), Contraction(32, 32, 32, "float", (32, 1), (32, 1))
    emit_contraction(e, spec, plan(spec, Target(16, 32)), A, B, store_at(spec, unchanged))
    e.ret()
    module = llvm.parse_assembly(module_of(e, e.function("f", [A, B, C])))
    assembly = arm.create_target_machine(opt=2).emit_assembly(module)
    assert assembly.count("fmla") >= 8 * 2


def in_blocks_of(chosen: Tiling, depth: int, tiles: int, together: int, pack_a: bool) -> Tiling:
    """The same product cut up otherwise."""
    last = chosen.widths[-1]
    widths = (*chosen.widths[:-1], replace(last, rest=0))  # no columns along rows where sums wait
    return replace(
        chosen, pack=True, pack_a=pack_a, kc=depth, tiles=tiles, together=together, blocked=True, widths=widths
    )


def run(spec: Contraction, target: Target, a: np.ndarray, b: np.ndarray, split: str = "") -> np.ndarray:
    """The product, in scratch memory that nothing may be written around."""
    c = np.full((spec.m, spec.n), np.nan, NAMES[spec.scalar])
    scratch, whole = canaries.surrounded(scratch_elements(spec, target) * c.itemsize)
    compiled, ranges = kernel(spec, target, split=split), [()]
    if split:
        chosen = contraction.plan(spec, target)
        units = chosen.row_tiles if split == "rows" else chosen.column_panels
        ranges = list(pairwise(sorted({0, units, *np.random.default_rng(1).integers(0, units + 1, 3).tolist()})))
    for limits in ranges:
        compiled.call("f", a, b, c, scratch, c, *limits)
    for guard in (whole[: canaries.GUARD], whole[-canaries.GUARD :]):
        assert (guard == canaries.PATTERN).all()
    _check_between_parts(spec, contraction.plan(spec, target), scratch.view(c.dtype))
    return c


BETWEEN = 64  # elements, where canaries lie between the parts of scratch memory


def _check_between_parts(spec: Contraction, chosen: Tiling, scratch: np.ndarray) -> None:
    """Each part ends in elements that are as they were, if canaries were laid there."""
    laid = np.full(BETWEEN * scratch.itemsize, canaries.PATTERN, np.uint8).view(scratch.dtype)
    if tiling.scratch_parts is not SCRATCH_PARTS:
        for end, part in zip(accumulate(tiling.scratch_parts(spec, chosen)), SCRATCH_PARTS(spec, chosen), strict=True):
            if part:
                np.testing.assert_array_equal(scratch[end - BETWEEN : end], laid)


SCRATCH_PARTS = tiling.scratch_parts


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layouts", [("by row", "by row"), ("by row", "by column"), ("by column", "by row")])
@pytest.mark.parametrize(
    "cut",
    [
        lambda chosen: in_blocks_of(chosen, 16, 2, 1, True),
        lambda chosen: in_blocks_of(chosen, 32, 3, 2, False),
        lambda chosen: in_blocks_of(chosen, 90, 1, 3, True),
        lambda chosen: in_blocks_of(chosen, 16, 3, 4, True),
        lambda chosen: in_blocks_of(chosen, 90, 2, 4, False),
        lambda chosen: replace(chosen, pack=True, pack_a=True),
    ],
)
def test_however_a_product_is_cut_up_no_bit_changes(
    cut: Callable[[Tiling], Tiling], layouts: tuple[str, str], target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, a, b, expected = whole(layouts, target)
    chosen = cut(plan(spec, target))
    for module in (tiling, contraction):
        monkeypatch.setattr(module, "plan", lambda spec, target, tile=None: chosen)
    canaries.lay_between_parts(monkeypatch, BETWEEN)
    for by in ("", "rows", "columns"):
        np.testing.assert_array_equal(run(spec, target, a, b, split=by), expected)


@cache
def whole(layouts: tuple[str, str], target: Target) -> tuple[Contraction, np.ndarray, np.ndarray, np.ndarray]:
    """A product as it is planned, its factors, and what it gives: the same however it is cut up afterwards."""
    m, n, k = 75, 90, 90
    rng = np.random.default_rng(0)
    a, b = (strided(rng, *s, layout, np.float32) for s, layout in zip([(m, k), (k, n)], layouts, strict=True))
    spec = Contraction(m, n, k, "float", elements(a), elements(b))
    found = run(spec, target, a, b)
    check(found, a, b, k)
    return spec, a, b, found


@pytest.mark.parametrize("target", TARGETS[:1])
@pytest.mark.parametrize("layouts", [("by column", "by row"), ("by row", "by column")])
@pytest.mark.parametrize(("k", "least"), [(300, 64), (1031, 130)])
def test_blocks_of_rows_that_are_added_up_in_halves_change_no_bit(
    k: int, least: int, layouts: tuple[str, str], target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    m, n = 30, 70
    rng = np.random.default_rng(0)
    a, b = (strided(rng, *s, layout, np.float32) for s, layout in zip([(m, k), (k, n)], layouts, strict=True))
    spec = Contraction(m, n, k, "float", elements(a), elements(b), halved=True)
    expected = run(spec, target, a, b)
    check(expected, a, b, k)
    chosen = replace(in_blocks_of(plan(spec, target), 0, 2, 1, True), halves=least)
    depth = max(end - start for start, end in pairwise([0, *(part.end for part in tiling.blocks_of(spec, chosen))]))
    for module in (tiling, contraction):
        monkeypatch.setattr(module, "plan", lambda spec, target, tile=None: replace(chosen, kc=depth))
    canaries.lay_between_parts(monkeypatch, BETWEEN)
    for by in ("", "rows", "columns"):
        np.testing.assert_array_equal(run(spec, target, a, b, split=by), expected)


def test_a_panel_that_reaches_into_the_next_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: room for one term less than there are."""
    spec, target = Contraction(75, 90, 90, "float", (90, 1), (1, 90)), TARGETS[0]
    chosen = in_blocks_of(plan(spec, target), 16, 2, 1, True)
    for module in (tiling, contraction):
        monkeypatch.setattr(module, "plan", lambda spec, target, tile=None: chosen)
    monkeypatch.setattr(
        tiling, "scratch_parts", lambda *args: (SCRATCH_PARTS(*args)[0] - chosen.nr, *SCRATCH_PARTS(*args)[1:])
    )
    canaries.lay_between_parts(monkeypatch, BETWEEN)
    a, b = (np.ones((rows, 90), np.float32) for rows in (75, 90))
    with pytest.raises(AssertionError, match="not equal"):
        run(spec, target, a, b)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("across", "down"), [(1, 1), (1, 12), (2, 6), (3, 4), (5, 2)])
def test_no_bit_depends_on_the_tile(across: int, down: int, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = (strided(rng, *s, "by row", np.float32) for s in [(45, 70), (70, 101)])
    spec = Contraction(45, 101, 70, "float", elements(a), elements(b))
    expected = run(spec, target, a, b)
    even = tiling._even
    forced = even(-(-101 // target.lanes("float")), across), even(45, down)
    monkeypatch.setattr(tiling, "_best_tile", lambda spec, grid, target: forced)
    tiling.plan.cache_clear()
    try:
        assert plan(spec, target).mr <= down
        np.testing.assert_array_equal(run(spec, target, a, b), expected)
    finally:
        tiling.plan.cache_clear()


@pytest.mark.parametrize(("m", "n"), [(33, 33), (65, 65), (40, 98), (17, 18), (100, 50)])
@pytest.mark.parametrize("target", [Target(64, 32), Target(32, 16)])
@pytest.mark.parametrize("activation", ["none", "tanh"])  # written out in each row, and in a loop
def test_the_last_columns_are_vectors_along_rows(
    m: int, n: int, target: Target, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vector that would be all but empty is done without, and no bit depends on it."""

    def finish(e: Emitter, column: Register, sums: Register, mask: Register | None) -> Register:
        return sums if activation == "none" else mathematics.tanh(e, sums)

    def products() -> list[np.ndarray]:
        scratch = np.empty(scratch_elements(spec, target) + 16, np.float32)
        c = np.full((m, n), np.nan, np.float32)
        kernel(spec, target, finish).call("f", a, b, c, scratch, c)
        return [c, *(run(spec, target, a, b, split=by) for by in ("rows", "columns"))]

    rng = np.random.default_rng(0)
    a, b = strided(rng, m, 45, "by column", np.float32), strided(rng, 45, n, "by row", np.float32)
    spec = Contraction(m, n, 45, "float", elements(a), elements(b))
    assert plan(spec, target).widths[-1].rest == n % target.lanes("float") > 0
    got = products()
    check(got[1], a, b, 45)
    monkeypatch.setattr(tiling, "_rest", lambda spec, target: 0)
    tiling.plan.cache_clear()
    try:
        assert plan(spec, target).widths[-1].rest == 0
        for these, others in zip(got, products(), strict=True):
            np.testing.assert_array_equal(these, others)
    finally:
        tiling.plan.cache_clear()


def test_where_one_multiply_add_begins_in_a_cycle_tiles_are_smaller() -> None:
    spec = Contraction(48, 48, 48, "float", (48, 1), (48, 1))
    wide, halved = (plan(spec, Target(64, 32, fmas=fmas)) for fmas in (2, 1))
    assert halved.mr * halved.vectors < wide.mr * wide.vectors


@pytest.mark.parametrize("scalar", ["float", "double"])
@pytest.mark.parametrize("layouts", [("by row", "by row"), ("by row", "by column"), ("by column", "by row")])
def test_large_products_go_block_by_block(layouts: tuple[str, str], scalar: str) -> None:
    m, n, k = 600, 530, 1100
    rng = np.random.default_rng(0)
    a, b = (strided(rng, *s, layout, NAMES[scalar]) for s, layout in zip([(m, k), (k, n)], layouts, strict=True))
    spec = Contraction(m, n, k, scalar, elements(a), elements(b))
    assert plan(spec, TARGETS[0]).blocked
    check(run(spec, TARGETS[0], a, b), a, b, k)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_turned_product_stores_its_tiles_transposed(activation: str) -> None:
    m, n, k = 70, 10, 40
    rng = np.random.default_rng(0)
    a, b = strided(rng, m, k, "by column", np.float32), strided(rng, k, n, "by row", np.float32)
    spec = Contraction(m, n, k, "float", elements(a), elements(b))
    assert plan(spec, TARGETS[0]).transposed

    def finish(e: Emitter, column: Register, sums: Register, mask: Register | None) -> Register:
        return (
            mathematics.tanh(e, sums) if activation == "tanh" else e.intrinsic("maxnum", sums, e.const(0.0, sums.type))
        )

    c = np.full((m, n), np.nan, np.float32)
    kernel(spec, TARGETS[0], finish).call("f", a, b, c, c, c)
    product = a.astype(np.float64) @ b
    truth = np.tanh(product) if activation == "tanh" else np.maximum(product, 0)
    np.testing.assert_allclose(c, truth, rtol=1e-5, atol=2e-6)


def test_the_last_part_of_an_axis_may_be_longer() -> None:
    chosen = plan(Contraction(65, 65, 65, "float", (1, 65), (65, 1)), Target(64, 32))
    assert [(panels.width, panels.rest) for panels in chosen.widths] == [(32, 0), (33, 1)]
    assert chosen.cut_of_columns(65).edges(2) == (0, 32, 65)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize(("scalar", "b"), [("float", "by row"), ("float", "by column"), ("double", "by column")])
def test_threads_divide_a_product_where_its_tiles_and_panels_begin(
    target: Target, lanes: int, scalar: str, b: str
) -> None:
    for m, n in [(1, 128), (1, 129), (1, 7), (1, 1000), (64, 65), (100, 100), (128, 1), (3, 200), (1, 17)]:
        spec = Contraction(m, n, 128, scalar, (128, 1), (n, 1) if b == "by row" else (1, 128), lanes=lanes)
        if lanes > 1 and m > 1:
            continue
        chosen = plan(spec, target)
        m, n = (n, m) if chosen.transposed else (m, n)
        columns = chosen.cut_of_columns(n)
        begins = [s.column + i * s.width for s in chosen.widths for i in range(s.count)]
        assert [columns.start(unit) for unit in range(columns.units + 1)] == [*begins, n]
        rows = chosen.cut_of_rows(m)
        assert rows.start(rows.units) == m and rows.units == chosen.row_tiles
