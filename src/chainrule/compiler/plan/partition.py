"""Partition: along which loops threads can share one kernel, and where those may be divided.

A `Cut` fixes where a loop may be divided (whole tiles, whole vectors), so which thread computes an element never changes
how.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from chainrule.compiler.plan import tiling
from chainrule.compiler.plan.cut import ENOUGH, Cut
from chainrule.compiler.plan.product import batch_of, contraction_of
from chainrule.compiler.plan.target import Target
from chainrule.compiler.schedule.index import Var
from chainrule.compiler.schedule.kernels import Check, Dot, Kernel
from chainrule.compiler.schedule.loops import Nest, independent

# iterations, from which on many threads should find work; in smaller kernels they share the outermost loop
LARGE = 1 << 14


class Share(NamedTuple):
    """The loop that threads share, where it may be divided, and how the code generator counts along it."""

    var: Var
    cut: Cut
    by: str  # batch, rows, columns (of a product), loop
    own: Cut  # the code's own units; `cut` has the same or coarser ones, that begin where some of these do

    @classmethod
    def of(cls, var: Var, cut: Cut, by: str) -> Share:
        return cls(var, cut, by, cut)

    def agreeing(self, other: Cut | None) -> Share:
        """Divided as another kernel divides the same axis, if the code's own units allow it."""
        own = self.own
        if other is None or own.large != own.units or other.rows < own.rows:
            return self
        fits = all(other.start(unit) % own.rows == 0 for unit in range(other.units))
        return self._replace(cut=other) if fits else self


def shares(kernel: Kernel, nest: Nest, target: Target) -> list[Share]:
    """Every way in which threads can divide the kernel, the preferred first: with enough units, and the outermost."""
    if isinstance(kernel.core, Check) or not math.prod(var.size for var in kernel.loops):
        return []
    if isinstance(kernel.core, Dot):
        return sorted(_product_shares(kernel, kernel.core, target), key=_units, reverse=True)
    if any(store.combine is not None for store in kernel.stores):
        return []  # positions are data: two threads might write the same one
    found = [Share.of(loop.var, Cut.even(loop.var.size, loop.lanes), "loop") for loop in independent(nest)]
    if math.prod(var.size for var in kernel.loops) >= LARGE:
        found.sort(key=_units, reverse=True)
    return [share for share in found[:1] if share.cut.units > 1]


def _units(share: Share) -> int:
    """How many threads it keeps about equally busy, as far as that matters."""
    return min(share.cut.units, ENOUGH)


def _product_shares(kernel: Kernel, core: Dot, target: Target) -> list[Share]:
    """By the loops around it, by rows of tiles or by strips of columns."""
    spec = contraction_of(kernel, core)
    chosen = tiling.plan(spec, target)
    m, n = (core.n, core.m) if chosen.turned else (core.m, core.n)
    found = [Share.of(var, Cut.even(var.size), "batch") for var in batch_of(kernel, core)]
    if m is not None and chosen.row_tiles > 1:
        found.append(Share.of(m, Cut(m.size, chosen.row_tiles, chosen.rows, chosen.large), "rows"))
    if n is not None and chosen.column_strips > 1:
        cut = Cut(n.size, chosen.column_strips, chosen.vectors * chosen.lanes, chosen.wide_strips, chosen.lanes)
        found.append(Share.of(n, cut, "columns"))
    return found
