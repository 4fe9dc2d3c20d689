"""Units of machine code: object files, and which kernels each of them holds for other programs too.

A program is linked from several: the loop of steps, which is the same for all; its step; and the kernels. Two programs
with equal kernels (a training on whole and on short batches, networks that differ in their first layer) compile them
once in a process: see `Pool`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from chainrule.compiler.runtime.recent import Recent

MOST = 32 << 20  # bytes of code that a process keeps for programs to come
PROGRAMS = 24  # whose code a process keeps; a training has three or four
SOME = 16  # one part in so many, by which the code that is kept may grow before all of it is looked at again
LARGE = 1 << 18  # bytes of a unit that is not linked for some of its kernels alone


@dataclass(frozen=True, eq=False)
class Unit:
    """An object file, the kernels in it that depend on their names alone, and the units whose functions they call."""

    code: bytes
    names: tuple[str, ...] = ()
    needs: tuple[Unit, ...] = ()


def linked(units: Iterable[Unit]) -> list[Unit]:
    """The units and those that they need, which come before them; none of whose functions all are there."""
    found: list[Unit] = []
    there: set[str] = set()
    for unit in units:
        for need in unit.needs:
            if not there.issuperset(need.names):
                found.append(need)
                there.update(need.names)
        found.append(unit)
    return found


def packed(units: Sequence[Unit]) -> bytes:
    """`linked` units as an entry of the cache: a line that says what follows, then their code."""
    number = {name: number for number, unit in enumerate(units) for name in unit.names}
    head = json.dumps([
        [len(unit.code), unit.names, sorted({number[name] for need in unit.needs for name in need.names})] for unit in units
    ])  # fmt: skip
    return b"".join([head.encode(), b"\n", *(unit.code for unit in units)])


def unpacked(data: bytes) -> list[Unit]:
    """The units of an entry, which was found to be whole.

    Raises:
        ValueError: it is none.
    """
    head, found, rest = data.partition(b"\n")
    listed = json.loads(head) if found else []
    if not listed or sum(size for size, *_ in listed) != len(rest):
        raise ValueError("these are no units of machine code")
    units: list[Unit] = []
    start = 0
    for size, names, needs in listed:
        units.append(Unit(rest[start : start + size], tuple(names), tuple(units[i] for i in needs)))
        start += size
    return units


class Pool:
    """The units whose kernels other programs of this process may need, up to `MOST` bytes; the oldest go.

    Beside them what was made of whole programs, of the latest `PROGRAMS`.

    Threads may use it at once: each line below leaves it in order, and what one of them does not find it compiles.
    """

    def __init__(self) -> None:
        self._holders: dict[str, Unit] = {}
        self.programs: Recent[Any] = Recent(PROGRAMS)
        self._since = 0  # bytes that came since all was looked at

    def holding(self, names: Iterable[str]) -> list[Unit]:
        """Units that hold some of the kernels, none of them twice."""
        chosen: list[Unit] = []
        there: set[str] = set()
        wanted = dict.fromkeys(names)
        for name in wanted:
            unit = self._holders.get(name)
            if unit is not None and there.isdisjoint(unit.names) and self._worth(unit, wanted):
                chosen.append(unit)
                there.update(unit.names)
        return chosen

    @staticmethod
    def _worth(unit: Unit, wanted: dict[str, None]) -> bool:
        return len(unit.code) <= LARGE or 2 * sum(name in wanted for name in unit.names) >= len(unit.names)

    def add(self, units: Iterable[Unit]) -> None:
        """Keep them for programs to come; to look at all that is there takes milliseconds, so it is not done for each."""
        for unit in units:
            self._since += len(unit.code)
            for name in unit.names:
                self._holders.setdefault(name, unit)
        if self._since > MOST // SOME:
            self._since = 0
            self._prune(MOST - MOST // SOME)

    def _prune(self, most: int) -> None:
        kept = list(dict.fromkeys(list(self._holders.values())))
        size = sum(len(unit.code) for unit in kept)
        for unit in kept:
            if size <= most:
                return
            size -= len(unit.code)
            self._forget(unit)

    def _forget(self, unit: Unit) -> None:
        for name in unit.names:
            if self._holders.get(name) is unit:
                self._holders.pop(name, None)
