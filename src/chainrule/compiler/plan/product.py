"""The product at the core of a kernel: as the tiling takes it, and how it is tiled."""

from __future__ import annotations

import math

from chainrule.compiler.plan.target import REGISTER, Target
from chainrule.compiler.plan.tiling import Contraction, Plan, plan, scratch_elements
from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import Dot, Kernel


def tiling_of(kernel: Kernel, target: Target) -> Plan | None:
    """How the product at the core of a kernel is cut up: part of what its code depends on, as it may be searched."""
    if not isinstance(kernel.core, Dot) or not math.prod(var.size for var in kernel.loops):
        return None
    return plan(contraction_of(kernel, kernel.core), target)


def scratch_of(kernel: Kernel, target: Target) -> int:
    """Bytes of scratch memory that a kernel packs a factor into."""
    if not isinstance(kernel.core, Dot):
        return 0
    if not math.prod(var.size for var in kernel.loops):
        return 0
    elements = scratch_elements(contraction_of(kernel, kernel.core), target)
    return elements * kernel.core.a.dtype.itemsize


def contraction_of(kernel: Kernel, core: Dot) -> Contraction:
    """The product at the core of a kernel, as the tiled code generator takes it."""
    m, n, a, b = core.m, core.n, core.a.index, core.b.index
    return Contraction(
        m.size if m else 1, n.size if n else 1, core.k.size, REGISTER[core.a.dtype],
        (_stride(a, m), _stride(a, core.k)), (_stride(b, core.k), _stride(b, n)),
        tuple((var.size, _stride(a, var), _stride(b, var)) for var in batch_of(kernel, core)),
    )  # fmt: skip


def batch_of(kernel: Kernel, core: Dot) -> list[Var]:
    """The loops around the product."""
    return [var for var in kernel.loops if var not in (core.m, core.n)]


def _stride(index: Expr, var: Var | None) -> int:
    return (index.coefficient(var) or 0) if var is not None else 0
