"""Judging epochs: each who watches a measure gets its values, and the weights where it keeps them.

Epochs of one native call are judged together where all who watch can do that later: those that certainly come, or a few that
most likely do, which are undone where one before them was the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from chainrule.compiler.frontend.loop import Loop
from chainrule.compiler.runtime.copies import Copies
from chainrule.tensor import Tensor
from chainrule.training import snapshot
from chainrule.training.callbacks import Watching
from chainrule.training.measures import Averaged, Measures, no_rows
from chainrule.training.session import Session
from chainrule.training.snapshot import Snapshots, Weights
from chainrule.training.stretch import Judges, Stretch

Array = np.ndarray[Any, Any]

TOGETHER = 128  # epochs that are judged together, at most: what that costs beside each of them is then shared by many
ROOM = 1 << 20  # bytes of the weights after each of these, at most: they should stay in the cache
TRIED = 32  # of so many epochs that are done, one may be tried in vain


class Judging:
    """Those who watch a measure, while a call of `fit` runs.

    Args:
        watching: they; each has a monitor.
        session: the training.
        epoch: the first of this call, counted from 0.
    """

    def __init__(self, watching: Sequence[Watching], session: Session, epoch: int) -> None:
        self.session, self._first = session, epoch
        self._watching = [(callback, callback.monitor.name) for callback in watching if callback.monitor is not None]
        self._later = all(callback.judges_later for callback in watching)
        self._keeps = any(callback.keeps_weights for callback in watching)
        self._memory: Array | None = None  # of the snapshots of the stretch before

    def __bool__(self) -> bool:
        return bool(self._watching)

    @property
    def stopped(self) -> bool:
        """Did one of them end the training?"""
        return any(callback.stopped for callback, _ in self._watching)

    def one(self, epoch: int, value: Callable[[str], float], weights: Callable[[], Weights] | None = None) -> bool:
        """An epoch (counted from 0) is over now; does one of them end the training?"""
        kept = cache(weights or self.weights)  # one copy for all who keep them
        for callback, name in self._watching:
            callback.judge(epoch + 1, value(name), kept)
        return self.stopped

    def several(self, epoch: int, values: Callable[[str], list[float]], weights: Callable[[int], Weights]) -> int:
        """As many as `together` said, of which this is the first, are over; how many of them there are to be."""
        kept, count = cache(weights), None
        # Only the first can end the training before the last of these epochs.
        for callback, name in self._by_certainty(epoch):
            count = callback.judge_all(epoch + 1, values(name)[:count], kept)
        return count or 0

    def together(self, epoch: int) -> tuple[int, bool]:
        """How many epochs, of which this is the first, may be judged together; may the last be one before their end?"""
        least, *others = (callback.certain(epoch + 1) for callback, _ in self._by_certainty(epoch))
        tried = min(*others, (epoch - self._first) // TRIED) if others else (epoch - self._first) // TRIED
        return max(least, tried), tried > least

    def _by_certainty(self, epoch: int) -> list[tuple[Watching, str]]:
        return sorted(self._watching, key=lambda one: one[0].certain(epoch + 1))

    def room(self, most: int) -> int:
        """So many of so many epochs may be judged together."""
        if not self._later:
            return 1
        size = sum(math.prod(t.shape) * t.dtype.itemsize for t in self.handles().values()) if self._keeps else 0
        return max(1, min(most, TOGETHER, ROOM // max(size, 1)))

    def snapshots(self, loop: Loop, most: int) -> Snapshots | None:
        """Of so many epochs, where somebody keeps weights."""
        if not self._keeps or most < 2:
            return None
        found = Snapshots(self.handles(), loop, most, self._memory)
        self._memory = found.copies.memory
        return found

    def weights(self) -> Weights:
        """Those of now, also in the middle of a stretch."""
        return Weights.of(self.handles())

    def handles(self) -> Mapping[str, Tensor]:
        """What they are the values of: the parameters, or what is validated in their place; and the rest."""
        attributes = self.session.standing.attributes if self.session.standing is not None else None
        same = attributes is not None and not attributes.values and attributes.same()
        found = self.session.named() if same else snapshot.handles(self.session)
        others = {id(parameter): other for other, parameter in self.session.instead()}
        return {name: others.get(id(handle), handle) for name, handle in found.items()} if others else found


class Judge(Judges):
    """Judges the epochs of one stretch.

    Args:
        judging: who watches.
        stretch: the laps.
        measures: of a step of training.
        carried: the sums of the measures that the first of the laps goes on from.
    """

    def __init__(self, judging: Judging, stretch: Stretch, measures: Measures, carried: Sequence[float]) -> None:
        self.judging, self.stretch, self.measures, self.carried = judging, stretch, measures, carried
        self._most = 1
        self._kept: Snapshots | None = None

    @property
    def stopped(self) -> bool:
        """Does somebody end the training?"""
        return self.judging.stopped

    def begin(self, loop: Loop) -> Copies | None:
        """Before a native call of all laps, of which this loop is part; what copies the weights after each, if anything does."""
        self._most = self.judging.room(int(self.stretch.closed.sum()))
        self._kept = self.judging.snapshots(loop, self._most)
        return None if self._kept is None else self._kept.copies

    def together(self, number: int) -> tuple[int, bool]:
        """How many laps, of which this is the first, may be judged together; may the last be one before their end?"""
        first = self.stretch.laps[number]
        whole = int(
            self.stretch.closed[number : number + self._most].sum()
        )  # only the very last may leave its epoch open
        if whole < 2 or first.start:
            return 1, False
        size, tried = self.judging.together(first.epoch)
        return max(1, min(size, whole)), tried

    def lap(self, number: int) -> bool:
        """The epoch of this lap is over now; does somebody end the training?"""
        lap = self.stretch.laps[number]
        carried = () if number or self.stretch.counted else self.carried
        return self.judging.one(lap.epoch, lambda name: self._values(name, number, 1, carried)[0])

    def laps(self, number: int, count: int) -> int:
        """Those of so many laps, of which this is the first, are; how many there are to be."""
        kept = self._kept
        at = kept.at if kept is not None else lambda _: self.judging.weights()
        return self.judging.several(self.stretch.laps[number].epoch, lambda name: self._values(name, number, count), at)

    def _values(self, name: str, number: int, count: int, carried: Sequence[float] = ()) -> list[float]:
        stretch = self.stretch
        if name.startswith("val_") and stretch.passes is not None:
            return stretch.passes.latest(count, [name[4:]])[name[4:]]
        widths = stretch.program.widths

        def mean(measure: int) -> Any:
            of = _of_measure(carried, measure, widths) if carried else None
            return stretch.sums(number, count, measure, of) / stretch.batching.visited

        return self.measures.of(Averaged(count, widths, mean, no_rows), [name])[name]


def _of_measure(sums: Sequence[float], measure: int, widths: Sequence[int]) -> Any:
    """The sums of one measure, by its number in what a step gives."""
    before = sum(widths[:measure]) if measure >= 0 else len(sums) - sum(widths[measure:])
    return sums[before] if widths[measure] == 1 else np.asarray(sums[before : before + widths[measure]])
