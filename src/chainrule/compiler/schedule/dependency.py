"""Which of several kernels must come before which."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence


class Dependencies:
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

    def linear(self, rank: Sequence[int], urgent: Callable[[int], Iterable[int]] = lambda number: ()) -> list[int]:
        """All numbers in one row, each after those before it, otherwise by rank, and those of one rank ascending.

        Those that `urgent` names when a number has had its turn go ahead of the others, once they can.
        """
        left = [len(needs) for needs in self._needs]
        ready = [(1, rank[number], number) for number, count in enumerate(left) if not count]
        heapq.heapify(ready)
        hurried: set[int] = set()
        done: set[int] = set()
        result: list[int] = []
        while ready:
            *_, number = heapq.heappop(ready)
            if number in done:
                continue
            done.add(number)
            result.append(number)
            for user in self._users[number]:
                left[user] -= 1
                if not left[user]:
                    heapq.heappush(ready, (user not in hurried, rank[user], user))
            for other in urgent(number):
                hurried.add(other)
                if not left[other]:
                    heapq.heappush(ready, (0, rank[other], other))
        return result
