"""Where a training stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeGuard

from chainrule.files.document import LARGEST, Fields, is_number
from chainrule.training.stretch import Batching


@dataclass(frozen=True)
class Position:
    """Where a training stands: `epoch` epochs and `step` steps of the next are done.

    Attributes:
        drop_last: an epoch leaves its last batch out where that is short.
        micro_batches: in how many parts a step goes over its batch.
        sums: of the measures over the rows of the unfinished epoch.
        rates: of each parameter group, in the latest step.
        told: how many of the callbacks have heard that the epoch before is over; None once all have.
    """

    rows: int
    batch_size: int
    seed: int
    shuffle: bool
    epoch: int = 0
    step: int = 0
    sums: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    told: int | None = None
    drop_last: bool = False
    micro_batches: int = 1

    @cached_property
    def batching(self) -> Batching:
        """How its epochs are cut into batches."""
        return Batching(self.rows, self.batch_size, self.drop_last)

    @property
    def steps(self) -> int:
        """The steps of an epoch; the last may be on a short batch."""
        return self.batching.steps

    @property
    def done(self) -> int:
        """The steps done since the very first."""
        return self.epoch * self.steps + self.step

    @classmethod
    def read(cls, saved: Fields, groups: int) -> Position:
        """What `dataclasses.asdict` made of a position, by way of a file.

        Raises:
            DamagedFileError: it is none, of an optimizer with so many groups, or one where no training can stand.
        """
        saved.names(cls.__dataclass_fields__.keys())
        rows = saved.whole("rows", 1)
        batch_size = saved.whole("batch_size", 1, rows)
        drop_last = saved.has("drop_last") and saved.flag("drop_last")
        sums = saved.items("sums", _is_float, "a list of numbers")
        rates = saved.items("rates", _is_float, "a list of numbers")
        if len(rates) not in (0, groups):
            saved.refuse("rates", f"a list of {groups} rates, or none", rates)
        found = cls(
            rows, batch_size, saved.whole("seed", 0, 2**64 - 1), saved.flag("shuffle"), saved.whole("epoch"),
            saved.whole("step", 0, Batching(rows, batch_size, drop_last).steps), tuple(sums), tuple(rates),
            saved.whole("told") if saved.has("told") else None, drop_last,
            saved.whole("micro_batches", 1) if saved.has("micro_batches") else 1,
        )  # fmt: skip
        found._check(saved)
        return found

    def _check(self, saved: Fields) -> None:
        """Every field fits the others."""
        if bool(self.sums) != bool(self.step):
            saved.refuse("sums", "numbers in the middle of an epoch, and none between two", list(self.sums))
        if self.sums and not math.isfinite(self.sums[0]):
            saved.refuse("sums", "finite in its first, which is of the losses", list(self.sums))
        if any(map(math.isinf, self.rates)):
            saved.refuse("rates", "finite numbers", list(self.rates))
        if not is_power_of_two(self.micro_batches):
            saved.refuse("micro_batches", "a power of two", self.micro_batches)
        if self.told is not None and (self.step or not self.epoch):
            saved.refuse("told", f"null after {self.epoch} epochs and {self.step} steps", self.told)
        if self.done > LARGEST:
            saved.refuse("epoch", f"so small that the steps can be counted, {self.steps} an epoch", self.epoch)


def is_power_of_two(value: object) -> TypeGuard[int]:
    """Is it a whole number, 1, 2, 4, ...?"""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0 and not value & value - 1


def _is_float(value: object) -> bool:
    return isinstance(value, float) or is_number(value)
