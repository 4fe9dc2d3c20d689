"""Partition: along which loops threads can share one kernel, and where those may be divided.

A `Cut` fixes where a loop may be divided (whole tiles, whole vectors), so which thread computes an element never changes
how.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from chainrule.compiler.plan.cut import ENOUGH, Cut
from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import Chain, Check, Dot, Kernel, Reduce, RowFolds
from chainrule.compiler.schedule.loops import Contract, For, Nest, independent

# iterations, from which on many threads should find work; in smaller kernels they share the outermost loop
LARGE = 1 << 14


class Share(NamedTuple):
    """What threads share, where it may be divided, and how the code generator counts along it.

    `loops` has the loops that are run through as one, the outermost first; `var` is that one: itself where it is alone.
    """

    var: Var
    cut: Cut
    by: str  # batch, rows, columns (of a product), loop
    own: Cut  # the code's own units; `cut` has the same or coarser ones, that begin where some of these do
    loops: tuple[Var, ...]

    @classmethod
    def of(cls, var: Var, cut: Cut, by: str, loops: tuple[Var, ...] = ()) -> Share:
        return cls(var, cut, by, cut, loops or (var,))

    def agreeing(self, other: Cut | None) -> Share:
        """Divided as another kernel divides the same axis, if the code's own units allow it."""
        own = self.own
        if other is None or own.large != own.units or other.rows < own.rows:
            return self
        fits = all(other.start(unit) % own.rows == 0 for unit in range(other.units))
        return self._replace(cut=other) if fits else self


def shares(kernel: Kernel, nest: Nest) -> list[Share]:
    """Every way in which threads can divide the kernel, the preferred first: with enough units, and the outermost."""
    if isinstance(kernel.core, Check) or not math.prod(var.size for var in kernel.loops):
        return []
    carried = {var for loop in _carried(kernel) for var in loop.vars()}
    loops = [loop for loop in independent(nest) if loop.var not in carried]
    large = math.prod(var.size for var in kernel.loops) >= LARGE
    if isinstance(kernel.core, Dot):
        found = _of_loops(loops, "batch", kernel) + _of_tiles(nest.products[0])
        return sorted(found, key=_units, reverse=True)
    if any(store.combine is not None for store in kernel.stores):
        return []  # positions are data: two threads might write the same one
    found = _of_loops(loops, "loop", kernel if large or kernel.core is not None else None)
    if large or isinstance(kernel.core, Chain):
        found.sort(key=_units, reverse=True)
    return [share for share in found[:1] if share.cut.units > 1]


def _carried(kernel: Kernel) -> list[Expr]:
    """Where sums go on from one iteration to the next, so that threads cannot share these."""
    parts = kernel.core.parts if isinstance(kernel.core, Chain) else []
    return [part.core.carried for part in parts if isinstance(part.core, Dot) and part.core.carried is not None]


def _units(share: Share) -> int:
    """How many threads it keeps about equally busy, as far as that matters."""
    return min(share.cut.units, ENOUGH)


def _of_loops(loops: list[For], by: str, kernel: Kernel | None) -> list[Share]:
    """By each loop; where none of them has enough units, first by several (of `kernel`) together."""
    alone = [Share.of(loop.var, Cut.even(loop.var.size, loop.lanes), by) for loop in loops]
    if kernel is None or any(share.cut.units >= ENOUGH for share in alone):
        return alone
    together = _outermost([loop.var for loop in loops if loop.lanes == 1])
    if len(together) < 2:
        return alone
    size = math.prod(var.size for var in together)
    return [Share.of(Var(_unused(kernel), size), Cut.even(size), by, together), *alone]


def _outermost(loops: Sequence[Var]) -> tuple[Var, ...]:
    """As many of the outermost loops as have enough iterations together."""
    count = 0
    while count < len(loops) and math.prod(var.size for var in loops[:count]) < ENOUGH:
        count += 1
    return tuple(loops[:count])


def _unused(kernel: Kernel) -> int:
    """A number that no variable of the kernel has."""
    core = kernel.core
    if isinstance(core, Chain):
        return max(map(_unused, core.parts))  # theirs come behind those of the loops around them
    folded = core.dims if isinstance(core, (Reduce, RowFolds)) else core.summed if isinstance(core, Dot) else ()
    return 1 + max(var.number for var in (*kernel.loops, *folded))


def _of_tiles(product: Contract) -> list[Share]:
    """By rows of a product's tiles, or by panels of columns."""
    chosen, core, found = product.tiles.plan, product.core, []
    m, n = (core.n, core.m) if chosen.transposed else (core.m, core.n)
    if m is not None and chosen.row_tiles > 1:
        found.append(Share.of(m, chosen.cut_of_rows(m.size), "rows"))
    if n is not None and chosen.column_panels > 1:
        found.append(Share.of(n, chosen.cut_of_columns(n.size), "columns"))
    return found
