"""The product at the core of a kernel: as the tiling takes it, and how it is tiled."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.compiler.plan import tiling
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.target import BYTES, REGISTER, Target
from chainrule.compiler.plan.tiling import Contraction, Inner, Tiling
from chainrule.compiler.plan.vectorize import lanes_of_product
from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import Dot, Kernel
from chainrule.compiler.schedule.loops import Touched


@dataclass(frozen=True)
class Tiles:
    """How a product is cut up, and the bytes of scratch memory that it packs its factors into."""

    spec: Contraction
    plan: Tiling
    scratch: int

    def __str__(self) -> str:
        chosen = self.plan
        packed = "".join(f", {factor} packed" for factor, packs in (("A", chosen.pack_a), ("B", chosen.pack)) if packs)
        return f"tiles of {chosen.mr} x {chosen.nr}{packed}{', transposed' if chosen.transposed else ''}"


def tiled(core: Dot, target: Target) -> Tiles:
    """The tiles of a product."""
    spec = contraction_of(core)
    chosen = tiling.plan(spec, target)
    return Tiles(spec, chosen, sum(tiling.scratch_parts(spec, chosen)) * BYTES[spec.scalar])


def contraction_of(core: Dot) -> Contraction:
    """The product at the core of a kernel, as the tiled code generator takes it."""
    m, n, a, b = core.m, core.n, core.a.index, core.b.index
    return Contraction(
        m.size if m else 1, n.size if n else 1, core.k.size, REGISTER[core.a.dtype],
        (_stride(a, m), _stride(a, core.k)), (_stride(b, core.k), _stride(b, n)),
        lanes=lanes_of_product(core), halved=core.halved, carried=core.carried is not None,
        inner=tuple(Inner(var.size, _stride(a, var), _stride(b, var)) for var in core.inner),
    )  # fmt: skip


def batch_of(kernel: Kernel, core: Dot) -> tuple[Var, ...]:
    """The loops around the product."""
    return tuple(var for var in kernel.loops if var not in (core.m, core.n))


def touched(kernel: Kernel, core: Dot, arguments: Arguments) -> tuple[Touched, ...]:
    """What follows on a product reads and writes (True) along its rows: node and index, each place once."""
    found: dict[tuple[str, Expr], Touched] = {}
    stores = [(store.node, store.index, True) for store in kernel.stores]
    for node, index, write in stores + [(load.node, load.index, False) for load in kernel.loads()]:
        plain = all(isinstance(atom, Var) for atom in index.terms)
        if plain and core.m and core.n and index.coefficient(core.n) == 1 and index.coefficient(core.m):
            found.setdefault(arguments.at(node, index), (node, index, write))
    return tuple(found.values())


def _stride(index: Expr, var: Var | None) -> int:
    return (index.coefficient(var) or 0) if var is not None else 0
