"""Exact replay: a training brought back to any step, through the program that ran it, and proven by its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule.compiler.watch import Watched
from chainrule.data.batches import shuffled_indices
from chainrule.errors import DamagedFileError, ReplayError
from chainrule.training import inputs, state
from chainrule.training.record import Groups, Record
from chainrule.training.steps import Measured, Program
from chainrule.training.trainer import Trainer

Array = np.ndarray[Any, Any]
CHUNK = 512  # steps a native call of a replay


class Replay:
    """A trainer lent to the past: inside ``with replay.lent():`` it stands at some recorded step.

    Args:
        trainer: built as it was when the record was written.
        record: the record.
        x, y: the rows it was trained on, as the compiled step takes them.
    """

    def __init__(self, trainer: Trainer, record: Record, x: Array, y: Array) -> None:
        self.trainer, self.record, self.x, self.y = trainer, record, x, y
        self.log = record.steps()
        self.settings = record.settings()
        self.first: int = record.header["first"]
        self.damaged: dict[int, str] = {}  # checkpoints that could not be read, and why
        self._orders: dict[int, Array] = {}
        self._at: tuple[int, state.Snapshot] | None = None  # where the last replay ended

    # ---------------------------------------------------------------- what a step worked on

    @property
    def end(self) -> int:
        """The number of the first step that is not recorded."""
        return self.first + len(self.log)

    @property
    def per_epoch(self) -> int:
        """Steps an epoch."""
        header = self.record.header
        return -(-int(header["rows"]) // int(header["batch_size"]))

    def rows(self, step: int) -> Array:
        """The row numbers of a step's batch."""
        header = self.record.header
        epoch, place = divmod(step, self.per_epoch)
        if epoch not in self._orders:
            shuffled = header["shuffle"]
            self._orders[epoch] = (
                shuffled_indices(header["rows"], header["seed"], epoch) if shuffled else np.arange(header["rows"])
            )
        size = header["batch_size"]
        return self._orders[epoch][place * size : (place + 1) * size]

    def groups(self, step: int) -> Groups:
        """The optimizer's settings at a step."""
        known = [start for start in self.settings if start <= step]
        return self.settings[max(known)] if known else []

    # ---------------------------------------------------------------- lending

    @contextmanager
    def lent(self) -> Iterator[Program]:
        """The recorded program, free to run; afterwards the trainer is as it was."""
        trainer = self.trainer
        before = state.snapshot(trainer.model, trainer.optimizer)
        groups = [dict(group) for group in trainer.optimizer.param_groups]
        kept = {name: getattr(trainer, name) for name in ("position", "history", "start")}
        program = trainer._program("recorded", self.x, self.y)
        try:
            with inputs.mode(trainer.model, True):
                yield program
        finally:
            state.restore(before)
            for group, saved in zip(trainer.optimizer.param_groups, groups, strict=True):
                group.update(saved)
            for name, value in kept.items():
                setattr(trainer, name, value)

    # ---------------------------------------------------------------- moving

    def go_to(self, step: int, program: Program) -> None:
        """Bring the lent trainer to where it stood before `step`."""
        at = self._load_before(step)
        while at < step:
            at += self._advance(at, step, program)
        self._at = (step, state.snapshot(self.trainer.model, self.trainer.optimizer))
        self.set_groups(self.groups(step))

    def _load_before(self, step: int) -> int:
        """Take over the nearest state at or before `step`: a checkpoint, or where the last replay ended."""
        for found in reversed([s for s in self.record.checkpoints() if s <= step]):
            if self._at is not None and found <= self._at[0] <= step:
                state.restore(self._at[1])
                return self._at[0]
            try:
                self.trainer.load(self.record.checkpoint(found))
                return found
            except DamagedFileError as error:
                self.damaged[found] = str(error)
        raise ReplayError(
            f"{self.record.folder}: no checkpoint at or before step {step} can be read"
            f"{' (' + '; '.join(self.damaged.values()) + ')' if self.damaged else ''}. "
            f"Copy the run folder again, or train again."
        )

    def _advance(self, at: int, step: int, program: Program) -> int:
        """Some steps in one native call, checked against the record; gives how many."""
        self.set_groups(self.groups(at))
        until = min([step, at + CHUNK, *(start for start in self.settings if start > at)])
        batches = [self.rows(at)]
        while at + len(batches) < until and len(following := self.rows(at + len(batches))) == len(batches[0]):
            batches.append(following)
        self.check(at, program.run(np.stack(batches)))
        return len(batches)

    def watch(self, step: int, program: Program) -> Watched:
        """Take the step where the trainer stands, and see every value on the way."""
        return program.watch(self.rows(step))

    def check(self, at: int, found: Measured) -> None:
        """Raise unless these steps, from step `at` on, gave the bits that the record has."""
        if found.prints is None:
            raise ReplayError("a replay needs the recorded program; this is a bug in chainrule")
        known = self.log[at - self.first : at - self.first + len(found.prints)]
        wrong = (known["print"] != found.prints[: len(known)]) | (
            known["loss"].view(np.int64) != found.values[: len(known), 0].view(np.int64)
        )
        if wrong.any():
            raise self.differs(at + int(wrong.argmax()))

    def differs(self, step: int) -> ReplayError:
        """The error for a step that does not repeat."""
        return ReplayError(
            f"{self.record.folder}: step {step} does not replay to the recorded bits. The model, the loss or the "
            f"optimizer is not built as it was (chainrule {self.record.header['chainrule']} recorded it), or the "
            f"processor computes differently, or the record was changed. Build everything as it was for the training."
        )

    def set_groups(self, groups: Groups) -> None:
        """Give the lent optimizer these settings."""
        for group, saved in zip(self.trainer.optimizer.param_groups, groups, strict=False):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})
