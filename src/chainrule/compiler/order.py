<<<<<<< HEAD
"""In which order a kernel adds: what reproduces a sum bit for bit outside the program.

A kernel's tiles decide how the terms of one output element are added; every element of it is added alike,
whatever the tile and the thread. `order_of` asks the stages that decide, and `Order.total` is the scalar
reference of what they write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from chainrule.compiler import contraction
from chainrule.compiler.contraction import Target
from chainrule.compiler.kernels import Dot, Kernel, Reduce
from chainrule.compiler.lower import contraction_of, lanes_across
from chainrule.ops import reduction

Scalar = Any  # a NumPy float32 or float64


@dataclass(frozen=True)
class Order:
    """How the terms of one sum are added.

    Lane i of `lanes` adds the terms i, i + lanes, ... from zero on, and the lanes are then added in halves. With
    `split`, what does not fill all the lanes is a sum of its own, in as few lanes as hold it, added last. `fused`:
    a product and its addition are rounded once.
    """

    count: int
    lanes: int = 1
    fused: bool = False
    split: bool = False

    def __str__(self) -> str:
        how = "one after the other" if self.lanes == 1 else f"in {self.lanes} lanes, which are then added in halves"
        return f"{how}, {'each product and addition rounded once' if self.fused else 'each addition rounded'}"

    def total(self, a: Sequence[Scalar], b: Sequence[Scalar]) -> Scalar:
        """The sum of the products a[l] b[l], with the bits that the kernel gives it."""
        with np.errstate(all="ignore"):
            return self._total(a, b)

    def _total(self, a: Sequence[Scalar], b: Sequence[Scalar]) -> Scalar:
        whole = self.count - self.count % self.lanes if self.split else self.count
        parts = [self._lanes(a[:whole], b[:whole], self.lanes)] if whole else []
        if whole < self.count:
            parts.append(self._lanes(a[whole:], b[whole:], 1 << (self.count - whole - 1).bit_length()))
        total = parts[0]
        for part in parts[1:]:
            total = _flushed(total + part)
        return total

    def _lanes(self, a: Sequence[Scalar], b: Sequence[Scalar], lanes: int) -> Scalar:
        sums = [a[0].dtype.type(0)] * lanes
        for l in range(len(a)):  # noqa: E741 - the summed index of a product
            lane = l % lanes
            x, y = _flushed(a[l]), _flushed(b[l])
            sums[lane] = fma(x, y, sums[lane]) if self.fused else _flushed(sums[lane] + _flushed(x * y))
        while len(sums) > 1:
            half = len(sums) // 2
            sums = [_flushed(x + y) for x, y in zip(sums[:half], sums[half:], strict=True)]
        return sums[0]


def order_of(kernel: Kernel, target: Target) -> Order | None:
    """The order of the sum at a kernel's core; None where it has none."""
    core = kernel.core
    if isinstance(core, Dot):
        chosen = contraction.plan(contraction_of(kernel, core), target)
        return Order(core.k.size, chosen.lanes if chosen.dot else 1, fused=True)
    if isinstance(core, Reduce) and core.op is reduction.sum:
        return _of_reduction(kernel, core, target)
    return None


def _of_reduction(kernel: Kernel, core: Reduce, target: Target) -> Order | None:
    lanes = lanes_across(kernel, core, target)
    if lanes is not None and len(core.dims) > 1:
        return None  # the lanes run through the other axes as well
    return Order(prod(var.size for var in core.dims), lanes or 1, split=lanes is not None)


def fma(x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """x y + z, rounded once; denormals are zero, as in a compiled program.

    A product of two float32 is exact in float64; its sum with z is rounded to odd there, and so rightly once more
    (Boldo, Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Transactions on Computers, 2008).
    """
    kind = type(x)
    if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z)):
        with np.errstate(all="ignore"):
            return kind(x * y + z)
    if kind is np.float32:
        product, term = float(x) * float(y), float(z)
        total = product + term
        other = total - product
        error = (product - (total - other)) + (term - other)
        if error and not np.float64(total).view(np.int64) & 1:
            total = float(np.nextafter(total, np.inf if error > 0 else -np.inf))
        return _flushed(np.float32(total))
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    return _flushed(kind(float(exact))) if exact else kind(x * y + z)


def _flushed(x: Scalar) -> Scalar:
    """Zero of the same sign for a denormal."""
    return np.copysign(type(x)(0), x) if abs(x) < np.finfo(type(x)).tiny else x
=======
"""Which of several kernels must come before which."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable


class Order:
    """A partial order of the numbers 0, 1, ..., each with the set of all that come before it, as bits.

    What changes for one number is carried to those that wait for it and no further, so that a chain of n
    kernels costs n steps to build and not n for each.
    """

    def __init__(self) -> None:
        self._before: list[int] = []
        self._needs: list[set[int]] = []  # those it waits for directly
        self._users: list[set[int]] = []  # those that wait for it directly

    def __len__(self) -> int:
        return len(self._before)

    def add(self, earlier: Iterable[int] = ()) -> int:
        """A further number, after those given."""
        self._before.append(0)
        self._needs.append(set())
        self._users.append(set())
        number = len(self._before) - 1
        self.put(number, earlier)
        return number

    def put(self, number: int, earlier: Iterable[int]) -> None:
        """`number` comes after each of `earlier` (itself aside)."""
        bits = 0
        for other in earlier:
            if other != number:
                self._needs[number].add(other)
                self._users[other].add(number)
                bits |= self._before[other] | 1 << other
        self._grow(number, bits)

    def _grow(self, number: int, bits: int) -> None:
        waiting = [(number, bits)]
        while waiting:
            at, more = waiting.pop()
            if more & ~self._before[at]:
                self._before[at] |= more
                if self._before[at] >> at & 1:
                    raise ValueError("the kernels wait for each other; this is a bug in chainrule")
                waiting += [(user, self._before[at]) for user in self._users[at]]

    def merge(self, number: int, other: int) -> None:
        """`other` becomes part of `number`: who waits for it waits for both, and nothing else is left of it."""
        self.put(number, self._needs[other])
        for user in list(self._users[other]):
            self.put(user, [number])

    def after(self, later: int, earlier: int) -> bool:
        """Must `later` wait for `earlier`?"""
        return bool(self._before[later] >> earlier & 1)

    def missing(self, number: int, done: set[int]) -> set[int]:
        """What it waits for directly beyond what is done."""
        return self._needs[number] - done

    def depth(self, number: int) -> int:
        """How many it must wait for."""
        return self._before[number].bit_count()

    def linear(self, urgent: Callable[[int], Iterable[int]] = lambda number: ()) -> list[int]:
        """All numbers in one row, each after those before it, otherwise ascending.

        Those that `urgent` names when a number has had its turn go ahead of the others, once they can.
        """
        left = [len(needs) for needs in self._needs]
        ready = [(1, number) for number, count in enumerate(left) if not count]
        hurried: set[int] = set()
        done: set[int] = set()
        result: list[int] = []
        while ready:
            _, number = heapq.heappop(ready)
            if number in done:
                continue
            done.add(number)
            result.append(number)
            for user in self._users[number]:
                left[user] -= 1
                if not left[user]:
                    heapq.heappush(ready, (user not in hurried, user))
            for other in urgent(number):
                hurried.add(other)
                if not left[other]:
                    heapq.heappush(ready, (0, other))
        return result
>>>>>>> main
