"""The assembly of the innermost loops of products: nothing but multiply-adds and the loads they need."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.codegen.matmul import contraction
from chainrule.compiler.codegen.matmul.contraction import emit_contraction
from chainrule.compiler.plan.tiling import Contraction, plan
from chainrule.compiler.runtime.native import Machine, assembly
from tests.compiler.codegen.matmul.test_contraction import SCRATCH, A, B, C, store_at, unchanged
from tests.compiler.harness import module_of

FMA = {
    "x86-64-v3": r"\bvfn?madd",
    "x86-64-v4": r"\bvfn?madd",
    "neoverse-n1": r"\bf(mla|madd)\b",
    "apple-m1": r"\bf(mla|madd)\b",
}
STACK = r"%rsp|\[sp\b"
LAYOUTS = {"x W^T": ("by row", "by column"), "dY W": ("by row", "by row"), "dY^T x": ("by column", "by row")}


def strides(rows: int, cols: int, layout: str) -> tuple[int, int]:
    return (cols, 1) if layout == "by row" else (1, rows)


def machine_for(cpu: str) -> Machine:
    try:
        machine = Machine(cpu)
        machine.target_machine()
    except RuntimeError:
        pytest.skip(f"this LLVM cannot write code for {cpu}")
    return machine


def listing(spec: Contraction, machine: Machine) -> str:
    e = Emitter()
    emit_contraction(e, spec, contraction.plan(spec, machine.target), A, B, store_at(spec, unchanged), SCRATCH)
    e.ret()
    parameters: list[Register] = [A, B, C, SCRATCH]
    attributes = 'attributes #0 = { "prefer-vector-width"="512" }'
    return assembly(module_of(e, e.function("f", parameters, attributes="#0"), attributes), machine)


def loops(text: str, fma: str) -> list[str]:
    """The bodies of the innermost loops that multiply and add: blocks that jump back to themselves."""
    blocks = re.split(r"\n(?=[.\w]+:)", text)
    own = [
        block
        for block in blocks
        if re.search(rf"\s(?:j\w+|b\.\w+|cbn?z\s+\w+,)\s+{re.escape(block.split(':')[0])}\b", block)
    ]
    return [block for block in own if re.search(fma, block)]


def instructions(block: str) -> list[str]:
    """The instructions up to the jump back."""
    lines = [line.strip() for line in block.splitlines()[1:]]
    lines = [line for line in lines if line and line[0] not in "#/.;"]
    label = block.split(":")[0]
    last = max(i for i, line in enumerate(lines) if line.endswith(label))
    return lines[: last + 1]


def spills(lines: list[str]) -> list[str]:
    return [line for line in lines if re.search(STACK, line)]


@pytest.mark.parametrize("cpu", FMA)
@pytest.mark.parametrize("scalar", ["float", "double"])
@pytest.mark.parametrize("form", LAYOUTS)
@pytest.mark.parametrize(("m", "n", "k"), [(64, 96, 80), (1000, 520, 1030), (128, 65, 100)])
def test_a_tile_is_multiply_adds_and_loads(m: int, n: int, k: int, form: str, scalar: str, cpu: str) -> None:
    machine = machine_for(cpu)
    a, b = (strides(*s, layout) for s, layout in zip([(m, k), (k, n)], LAYOUTS[form], strict=True))
    spec = Contraction(m, n, k, scalar, a, b)
    chosen = plan(spec, machine.target)
    vectors, rest = chosen.vectors, max(panels.rest for panels in chosen.widths)
    counts = []
    for block in loops(listing(spec, machine), FMA[cpu]):
        lines = instructions(block)
        counts.append(sum(bool(re.search(FMA[cpu], line)) for line in lines))
        assert not spills(lines)
        assert len(lines) <= counts[-1] + chosen.mr + vectors + 8 + rest
    assert max(counts) - chosen.mr * vectors in (0, rest)
    assert max(counts) >= machine.target.registers // 2


def test_a_tile_with_too_many_rows_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, spec = machine_for("x86-64-v4"), Contraction(40, 32, 64, "float", (64, 1), (32, 1))
    chosen = replace(plan(spec, machine.target), mr=20, large=2, small=0, tiles=2)
    monkeypatch.setattr(contraction, "plan", lambda spec, target, tile=None: chosen)
    (block,) = loops(listing(spec, machine), FMA["x86-64-v4"])
    assert spills(instructions(block))
