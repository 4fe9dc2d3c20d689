"""What compiling may cost: a loop whose steps are ever new to each other must not wait for programs that hardly run."""

from __future__ import annotations

import time

from chainrule.tape.segments import Compiled, Interpreted

# Seconds that programs may take to compile in any case, and the share of the time that has passed since; a guess at what one
# operation takes, until it is known.
FREE, SHARE, GUESS = 0.5, 0.1, 2e-3
# A loop comes by again where a segment does after at most so many others, so many times one after the other.
NEAR, TIMES = 3, 3


class Budget:
    """One tape's."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.spent, self.operations = 0.0, 0
        self.clock = 0  # segments so far

    def allows(self, segment: Interpreted) -> bool:
        """Is it worth its time to compile this one, which came by before?"""
        if segment.near >= TIMES:
            return True
        each = self.spent / self.operations if self.operations else GUESS
        cost, passed = each * len(segment.order), time.perf_counter() - self.began - self.spent
        return segment.seconds >= cost or self.spent + cost <= FREE + SHARE * passed

    def met(self, segment: Interpreted) -> None:
        """It came by."""
        segment.near = segment.near + 1 if 0 < self.clock - segment.last <= NEAR + 1 else 0
        segment.last = self.clock

    def took(self, program: Compiled) -> None:
        """It was compiled."""
        self.spent += program.compiling
        self.operations += program.operations
