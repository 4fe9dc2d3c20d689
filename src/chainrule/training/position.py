"""Where a training stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chainrule.training.stretch import Cut


@dataclass(frozen=True)
class Position:
    """Where a training stands: `epoch` epochs and `step` steps of the next are done.

    Attributes:
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

    @property
    def cut(self) -> Cut:
        """How its epochs are cut into batches."""
        return Cut(self.rows, self.batch_size)

    @property
    def steps(self) -> int:
        """The steps of an epoch; the last may be on a short batch."""
        return self.cut.steps

    @property
    def done(self) -> int:
        """The steps done since the very first."""
        return self.epoch * self.steps + self.step

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Position:
        """What `dataclasses.asdict` made of a position, perhaps by way of JSON."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
        return cls(**plain)
