"""Which loop of a kernel runs over the lanes of vectors, and how many lanes there are: what sets the bits of its sums."""

from __future__ import annotations

import math

from chainrule.compiler.plan.target import Target, power_of_two_above
from chainrule.compiler.schedule.fusion import SHORT
from chainrule.compiler.schedule.index import Var
from chainrule.compiler.schedule.kernels import Dot, Kernel, Number, Position, Reduce, RowFolds, Value
from chainrule.ops import reduction

WIDE = 4  # vectors in flight in a sum down columns: hides the latency of an addition
# lanes that share a sum along a row, or of a product along k, whatever the registers: its bits are the same on every target
ALONG = 16
HELD = 4  # vectors of a row that are held in registers


class Vectorization:
    """The vectors of one kernel on one machine."""

    def __init__(self, kernel: Kernel, target: Target) -> None:
        self.kernel, self.target = kernel, target

    def lanes(self, var: Var, wide: int = 1, count: int | None = None) -> int:
        """Lanes for a loop: whole registers of the widest float that differs along it, a few of them if it is long."""
        differ = [value.dtype for value in self._values() if var in value.vars()]
        floats = [dtype for dtype in differ if dtype.is_floating_point]  # a wide integer among them takes two registers
        size = max((dtype.itemsize for dtype in floats or differ), default=4)
        lanes = self.target.vector_bytes // max(4, size)
        count = count or var.size
        while wide > 1 and count < lanes * wide:
            wide //= 2
        return min(lanes * wide, power_of_two_above(count))

    def _values(self) -> list[Value]:
        return [value for value in self.kernel.values() if not isinstance(value, (Number, Position))]

    def lanes_along(self) -> tuple[Var | None, int]:
        """The loop whose neighbours are the lanes of a vector, and how many there are (1: it is a plain loop)."""
        core, loops = self.kernel.core, self.kernel.loops
        if core is None:
            along = loops[-1] if loops and self.vectorises(loops[-1]) else None
            return along, self.lanes(along) if along else 1
        if isinstance(core, RowFolds):
            return self.lanes_of_rows(core.dims)
        if not isinstance(core, Reduce):
            return None, 1
        along = self.best(core, loops, core.dims)
        if core.op in (reduction.argmax, reduction.argmin):
            along = along if along in loops else (loops[-1] if loops else None)
            return along, self.lanes(along) if along and self.vectorises(along) else 1
        if along is None or along in loops:
            wide = 1 if lanes_of_sum(core) != 1 else WIDE
            return along, self.lanes(along, wide) if along and self.vectorises(along) else 1
        return self.lanes_of_rows(core.dims)

    def lanes_of_rows(self, dims: tuple[Var, ...]) -> tuple[Var | None, int]:
        """Short rows lie side by side, one a lane; the lanes of longer ones are no loop of the kernel's own."""
        loops = self.kernel.loops
        lanes = self.lanes(loops[-1]) if loops else 1
        short = math.prod(var.size for var in dims) <= SHORT
        return (loops[-1], lanes) if loops and short and loops[-1].size >= lanes > 1 else (None, 1)

    def vectorises(self, var: Var) -> bool:
        """Do neighbouring iterations write neighbouring elements (and never the same one)?"""
        return all(store.index.coefficient(var) == 1 for store in self.kernel.stores)

    def best(self, core: Reduce, outer: tuple[Var, ...], inner: tuple[Var, ...]) -> Var | None:
        """The loop to vectorise: the one along which most loads are contiguous, of those that leave a sum its order."""
        loads = Kernel((), [], core).loads()

        def score(var: Var) -> tuple[int, int, int]:
            contiguous = sum(load.index.coefficient(var) == 1 for load in loads)
            return contiguous, int(var in inner), var.size

        if core.ordered:
            inner = inner[-1:] if core.along else ()
        eligible = [var for var in (*inner, *(v for v in outer if self.vectorises(v))) if var.size > 1]
        return max(eligible, key=score, default=None)

    def holds(self, dims: tuple[Var, ...]) -> bool:
        """Does a row stay in registers from the first fold to the last store?"""
        return len(dims) == 1 and dims[0].size <= HELD * self.lanes(dims[-1])


def lanes_of_sum(core: Reduce) -> int:
    """In how many lanes each sum of a reduction is added, before the lanes are: of the shape alone, wherever its terms lie.

    Lane i adds the terms i, i + lanes, ... of the last axis.
    """
    if not core.ordered or not core.along or core.elements <= SHORT:
        return 1
    return min(ALONG, power_of_two_above(core.dims[-1].size))


def lanes_of_product(core: Dot) -> int:
    """In how many lanes each sum of a product is added (1: its terms in order): of the shape alone, see `in_lanes`.

    Lane i adds the terms i, i + lanes, ... of k by fused multiply-adds, and then the lanes are added in halves.
    """
    return ALONG if core.along else 1
