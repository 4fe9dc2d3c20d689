"""Exact replay: a training brought back to any step, through the program that ran it, and proven by its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule.compiler.frontend.watch import Watched
from chainrule.data.batches import shuffled_indices
from chainrule.errors import DamagedFileError, ReplayError
from chainrule.files.document import Fields
from chainrule.training import saved
from chainrule.training.record import Groups, Record, digest
from chainrule.training.session import Rows
from chainrule.training.standing import Standing
from chainrule.training.steps import StepProgram
from chainrule.training.stretch import Batching
from chainrule.training.trainer import Trainer

Array = np.ndarray[Any, Any]
CHUNK = 512  # steps a native call of a replay


class Replay:
    """A trainer lent to the past: inside ``with replay.lent():`` it stands at some recorded step.

    Args:
        trainer: built as it was when the record was written.
        record: the record.
        x, y: the rows it was trained on, as the compiled step takes them.
        weight: of each row in the loss; None: they weighed alike.
    """

    def __init__(self, trainer: Trainer, record: Record, x: Array, y: Array, weight: Array | None = None) -> None:
        self.trainer, self.record, self.x, self.y, self.weight = trainer, record, x, y, weight
        self.log = record.steps()
        self.settings = record.settings()
        self.first: int = record.header["first"]
        self.damaged: dict[int, str] = {}  # checkpoints that could not be read, and why
        self._orders: dict[int, Array] = {}
        self._at: tuple[int, Standing] | None = None  # where the last replay ended

    def recorded(self, step: int) -> bool:
        """Is this step in the record?"""
        return self.first <= step < self.end and bool(self.log["known"][step - self.first])

    def whole(self, start: int, stop: int) -> bool:
        """Is none of these steps missing? Those behind the end are not."""
        return all(b <= start or a >= stop for a, b in self.missing())

    def missing(self) -> list[tuple[int, int]]:
        """The stretches of steps that are missing in the record: the first step of each, and the one behind its last."""
        edges = np.flatnonzero(np.diff(self.log["known"].astype(np.int8), prepend=1, append=1)) + self.first
        return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]

    # ---------------------------------------------------------------- what a step worked on

    @property
    def end(self) -> int:
        """The number of the first step that is not recorded."""
        return self.first + len(self.log)

    @property
    def batching(self) -> Batching:
        """How an epoch is cut into batches."""
        header = self.record.header
        return Batching(header["rows"], header["batch_size"], header["drop_last"])

    @property
    def per_epoch(self) -> int:
        """Steps an epoch."""
        return self.batching.steps

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

    def shaped_by(self, step: int) -> dict[str, Any]:
        """What shaped a step beside its tensors: ``groups``, ``modules``, ``trained``, ``max_norm``."""
        known = [start for start in self.settings if start <= step]
        return self.settings[max(known)] if known else {}

    def groups(self, step: int) -> Groups:
        """The optimizer's settings at a step, the rates of schedules of every step among them."""
        groups: Groups = [dict(group) for group in self.shaped_by(step).get("groups", [])]
        rates = self.rates(step)
        for group, rate in zip(groups, [] if rates is None else rates[0].tolist(), strict=False):
            group["lr"] = rate
        return groups

    def rates(self, step: int, count: int = 1) -> Array | None:
        """The rates that schedules of every step gave these steps; None where there were none."""
        at = step - self.first
        found = self.log["given"][at : at + count]
        return None if len(found) < count or np.isnan(found).any() else found

    # ---------------------------------------------------------------- lending

    @contextmanager
    def lent(self) -> Iterator[StepProgram]:
        """The recorded program, free to run; afterwards the trainer is as it was."""
        session = self.trainer.session
        with session.lent():
            program = session.program("recorded", self.x, self.y, self.weight)
            with session.training():
                yield program

    # ---------------------------------------------------------------- moving

    def go_to(self, step: int, program: StepProgram) -> None:
        """Bring the lent trainer to where it stood before `step`."""
        at = self._load_before(step)
        while at < step:
            at += self._advance(at, step, program)
        self._at = (step, self.trainer.session.now())
        self.shape(step)

    def _load_before(self, step: int) -> int:
        """Take over the nearest state at or before `step`: a checkpoint, or where the last replay ended."""
        for found in reversed([s for s in self.record.checkpoints() if s <= step]):
            if self._at is not None and found <= self._at[0] <= step:
                self.trainer.session.go_to(self._at[1])
                return self._at[0]
            try:
                saved.load(self.trainer.session, self.record.checkpoint(found), recorded=True)
                self._check_place(found)
                self.trainer.session.wear(self.trainer.session.modes or {})
                return found
            except DamagedFileError as error:
                self.damaged[found] = str(error)
        raise ReplayError(
            f"{self.record.folder}: no checkpoint at or before step {step} can be read"
            f"{' (' + '; '.join(self.damaged.values()) + ')' if self.damaged else ''}. "
            f"Copy the run folder again, or train again."
        )

    def _check_place(self, step: int) -> None:
        """The checkpoint that was loaded is of this training, and of this step: its name alone says nothing."""
        session, path = self.trainer.session, self.record.checkpoint(step)
        stands = session.position.done if session.position is not None else 0
        if stands != step or session.known_as != self.record.header["training"]:
            whose = "this" if session.known_as == self.record.header["training"] else "another"
            raise DamagedFileError(
                f"{path}: it is of step {stands} of {whose} training. Copy it again, or train again."
            )

    def _advance(self, at: int, step: int, program: StepProgram) -> int:
        """Some steps in one native call, checked against the record; gives how many."""
        self.shape(at)
        batches = self.stretch(at, step)
        found = program.run(batches, self.rates(at, len(batches)))
        self.check(at, found.values[:, 0], found.prints)
        return len(batches)

    def stretch(self, at: int, stop: int) -> Array:
        """The row numbers (steps, batch) of those steps from `at` on, before `stop`, that one native call can take."""
        edges = [*self.settings, *(start for start, _ in self.missing()), self.end]
        until = min([stop, at + CHUNK, *(edge for edge in edges if edge > at)])
        batches = [self.rows(at)]
        while at + len(batches) < until and len(following := self.rows(at + len(batches))) == len(batches[0]):
            batches.append(following)
        return np.stack(batches)

    def watch(self, step: int, program: StepProgram) -> Watched:
        """Take the step where the trainer stands, and see every value on the way."""
        return program.watch(self.rows(step), self._one(step))

    def _one(self, step: int) -> Array | None:
        rates = self.rates(step)
        return None if rates is None else rates[0]

    def check(self, at: int, losses: Array, prints: Array | None) -> None:
        """Raise unless steps with these losses and fingerprints, from step `at` on, are the bits that the record has."""
        if prints is None:
            raise ReplayError("a replay needs the recorded program; this is a bug in chainrule")
        known = self.log[at - self.first : at - self.first + len(prints)]
        wrong = (known["print"] != prints[: len(known)]) | (
            known["loss"].view(np.int64) != losses[: len(known)].astype(np.float64).view(np.int64)
        )
        if wrong.any():
            raise self.differs(at + int(wrong.argmax()))

    def differs(self, step: int) -> ReplayError:
        """The error for a step that does not repeat."""
        start = f"{self.record.folder}: step {step} does not replay to the recorded bits"
        if digest(*Rows(self.x, self.y, weight=self.weight).arrays) != self.record.header["data"]:
            return ReplayError(
                f"{start}, because the rows are not those that were trained on (their hash differs): X, y or weights were "
                f"changed in place since fit. Put back what stood there, or call fit again, on copies: fit(X.copy(), y.copy())."
            )
        return ReplayError(
            f"{start}. The model, the loss or the "
            f"optimizer is not built as it was (chainrule {self.record.header['chainrule'][:40]} recorded it), or the "
            f"processor computes differently, or the record was changed. Build everything as it was for the training."
        )

    def shape(self, step: int) -> None:
        """Everything that shapes a step as it was at this one."""
        session, found = self.trainer.session, self.shaped_by(step)
        if self.first <= step < self.end and not self.recorded(step):
            raise self.gap(step)
        if found:
            shaped = {**found, "groups": self.groups(step), "schedules": session.schedules.state()}
            session.put_settings(session.fitting(Fields(shaped, f"{self.record.root / 'settings.jsonl'}: step {step}")))

    def gap(self, step: int) -> ReplayError:
        """The error for a step that is missing."""
        start, stop = next(((a, b) for a, b in self.missing() if a <= step < b), (step, step + 1))
        return ReplayError(
            f"{self.record.folder}: the steps {start} to {stop - 1} are missing in the record: they were trained without it, "
            f"or a failure of the disk took them. Ask for a step before or after them."
        )
