"""Reductions: what a loop carries from turn to turn, and how it moves on."""

from __future__ import annotations

from chainrule import dtypes
from chainrule.compiler.codegen import scalars
from chainrule.compiler.codegen.body import Body
from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of, vector
from chainrule.compiler.codegen.scalars import Scalars
from chainrule.compiler.plan.target import REGISTER
from chainrule.compiler.schedule.index import linear
from chainrule.compiler.schedule.kernels import Check, Reduce
from chainrule.ops import reduction


class Fold:
    """What a loop carries, and how it moves on."""

    width = 1  # values that it carries

    def start(self, e: Emitter, lanes: int) -> list[Register]:
        raise NotImplementedError

    def step(self, body: Body, values: list[Register]) -> list[Register]:
        raise NotImplementedError


class PlainFold(Fold):
    """sum, amax, amin: one value, combined as the op declares."""

    def __init__(self, core: Reduce) -> None:
        self.core = core
        self.dtype = core.dtype
        self.begin, self.fold = core.op.lower

    def start(self, e: Emitter, lanes: int) -> list[Register]:
        return [self.begin(Scalars(e, self.dtype, lanes))]

    def step(self, body: Body, values: list[Register]) -> list[Register]:
        value = body.spread(body.value(self.core.value))
        value = scalars.cast(body.e, value, self.core.value.dtype, self.dtype)
        if body.mask is not None:
            neutral = self.start(body.e, body.lanes)[0]
            value = body.e.select(body.mask, value, neutral)
        return [self.combine(body.e, body.lanes, values[0], value)]

    def combine(self, e: Emitter, lanes: int, a: Register, b: Register) -> Register:
        result: Register = self.fold(Scalars(e, self.dtype, lanes), a, b)
        return result

    def halved(self, e: Emitter, lanes: int, values: list[Register]) -> Register:
        """Values, a power of two of them, as one: in the order of `horizontal`."""
        while len(values) > 1:
            half = len(values) // 2
            values = [self.combine(e, lanes, a, b) for a, b in zip(values[:half], values[half:], strict=True)]
        return values[0]

    def horizontal(self, e: Emitter, value: Register) -> Register:
        """All lanes as one, halving each time: a fixed order on every CPU."""
        lanes = lanes_of(value.type)
        scalar = REGISTER[self.dtype]
        while lanes > 1:
            lanes //= 2
            halves = []
            for first in (0, lanes):
                picks = ", ".join(f"i32 {first + i}" for i in range(lanes))
                text = f"shufflevector {value.typed}, {value.type} poison, <{lanes} x i32> <{picks}>"
                half = e.assign(f"<{lanes} x {scalar}>", text)
                if lanes == 1:
                    half = e.assign(scalar, f"extractelement {half.typed}, i64 0")
                halves.append(half)
            value = self.combine(e, lanes, *halves)
        return value


class ArgFold(Fold):
    """argmax, argmin: the best value so far, and where it stood first."""

    width = 2

    def __init__(self, core: Reduce) -> None:
        self.core = core
        self.dtype = core.value.dtype

    def start(self, e: Emitter, lanes: int) -> list[Register]:
        kind = Scalars(e, self.dtype, lanes)
        worst = kind.lowest() if self.core.op is reduction.argmax else kind.highest()
        return [worst, e.const(-1, vector("i64", lanes))]

    def step(self, body: Body, values: list[Register]) -> list[Register]:
        e, (best, where) = body.e, values
        value = body.spread(body.value(self.core.value))
        position = body.spread(body.index(linear(self.core.dims)))
        better = Scalars(e, self.dtype, body.lanes).compare(self.core.op.lower, value, best)
        first = e.compare("slt", where, e.const(0, where.type))
        better = e.binary("or", better, first)
        if self.dtype.is_floating_point:  # the first NaN is the extremum
            is_nan, was_nan = e.compare("uno", value, value), e.compare("uno", best, best)
            new_nan = e.binary("and", is_nan, e.binary("xor", was_nan, e.const(1, was_nan.type)))
            better = e.binary("or", better, new_nan)
        return [e.select(better, value, best), e.select(better, position, where)]


class CheckFold(Fold):
    """Has any index been outside its axis?"""

    def __init__(self, core: Check) -> None:
        self.core = core

    def start(self, e: Emitter, lanes: int) -> list[Register]:
        return [e.const(False, "i1")]

    def step(self, body: Body, values: list[Register]) -> list[Register]:
        e, dtype = body.e, self.core.value.dtype
        wide = scalars.cast(e, body.value(self.core.value), dtype, dtypes.int64)
        shifted = e.binary("sub", wide, e.const(self.core.least, "i64"))
        bad = e.compare("uge", shifted, e.const(self.core.size - self.core.least, "i64"))
        return [e.binary("or", values[0], bad)]


def fold_of(core: Reduce | Check) -> Fold:
    """The fold that a reduction or a check asks for."""
    if isinstance(core, Check):
        return CheckFold(core)
    return ArgFold(core) if core.op in (reduction.argmax, reduction.argmin) else PlainFold(core)
