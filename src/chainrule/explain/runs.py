"""Time travel: a recorded training, and any moment of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.compiler.watch import Watched
from chainrule.errors import DataError, ReplayError
from chainrule.explain.replay import Replay
from chainrule.graph import Node
from chainrule.tensor import Tensor
from chainrule.training import inputs
from chainrule.training.record import Groups, Record, digest
from chainrule.training.steps import Measured
from chainrule.training.trainer import Trainer

Array = np.ndarray[Any, Any]


class Run:
    """A recorded training: every step of it can be brought back, to the bit.

    ``trainer.run`` after ``fit(..., record=...)``, or ``cr.load_run(folder)``. Steps count from 0; step `s` starts
    from the weights that `s` updates have made.

    Args:
        trainer: built as it was for the training.
        record: what ``fit`` wrote.
        x, y: the rows it was trained on.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> _ = cr.manual_seed(0)
        >>> model = cr.nn.Linear(64, 10)
        >>> trainer = cr.Trainer(model, F.cross_entropy, cr.optim.Adam(model.parameters(), lr=0.01))
        >>> _ = trainer.fit(*cr.data.load("digits").train, epochs=2, progress=False, record=True)
        >>> len(trainer.run), trainer.run.at(30).epoch
        (46, 1)
    """

    def __init__(self, trainer: Trainer, record: Record, x: Array, y: Array) -> None:
        self.trainer, self.record = trainer, record
        self.replay = Replay(trainer, record, x, y)
        self._moments: dict[int, Moment] = {}

    # ---------------------------------------------------------------- what was recorded

    @property
    def folder(self) -> str:
        """Where the record is."""
        return os.fspath(self.record.folder)

    @property
    def first(self) -> int:
        """The first recorded step: 0, or where a resumed training went on."""
        return self.replay.first

    @property
    def losses(self) -> Array:
        """The loss of each recorded step, before its update; float64 (steps,)."""
        return np.asarray(self.replay.log["loss"])

    def __len__(self) -> int:
        """How many steps are recorded."""
        return len(self.replay.log)

    def __repr__(self) -> str:
        last = f", loss {self.losses[0]:.4g} -> {self.losses[-1]:.4g}" if len(self) else ""
        return f"<Run: {len(self)} steps from step {self.first} on{last}; {self.folder}>"

    # ---------------------------------------------------------------- any moment of it

    def at(self, step: int) -> Moment:
        """The training at `step`: the weights before it, its batch, loss, gradients and activations, and its update.

        Args:
            step: from ``run.first`` to its end (there: the step that would follow); negative counts from the end.

        Raises:
            ReplayError: there is no such step, no readable checkpoint before it, or it does not repeat.
        """
        chosen = self._step(step)
        if chosen not in self._moments:
            with self.replay.lent() as program:
                self.replay.go_to(chosen, program)
                watched = program.watch(self.replay.rows(chosen))
                moment = Moment(self, chosen, watched)
            self._moments = {chosen: moment}  # only the latest: one holds every value of the step
        return self._moments[chosen]

    def weights(self, step: int) -> dict[str, Array]:
        """The parameters and buffers before `step`; at the end of the run, the final ones."""
        chosen = self._step(step)
        with self.replay.lent() as program:
            self.replay.go_to(chosen, program)
            return {name: t.detach().numpy() for name, t in self.trainer.model.state_dict().items()}

    def _step(self, step: int) -> int:
        first, end = self.first, self.replay.end
        chosen = step + end if step < 0 else step
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or not first <= chosen <= end:
            raise ReplayError(
                f"{self.folder}: the record has the steps {first} to {end - 1} (and {end}, which would follow), "
                f"got {step!r}. Name one of them; negative ones count from the end."
            )
        return int(chosen)


class Moment:
    """One step of a training: everything it read, computed and changed.

    Attributes:
        step, epoch: which one, from 0.
        rows: the row numbers of its batch.
        proved: the replay gave the recorded loss and weights, to the bit (False at the end of the run, where
            nothing is recorded to compare with).
        groups: the optimizer's settings.
        watched: every value by node of the traced step, for those who walk its graph.
    """

    def __init__(self, run: Run, step: int, watched: Watched) -> None:
        self.run, self.step, self.watched = run, step, watched
        replay = run.replay
        self.epoch = step // replay.per_epoch
        self.rows = replay.rows(step)
        self.groups: Groups = replay.groups(step)
        self.proved = step < replay.end
        model = run.trainer.model
        self._handles: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._slots: dict[str, dict[str, Tensor]] = {
            name: dict(run.trainer.optimizer.state.get(p, {})) for name, p in model.named_parameters()
        }
        self._now = {id(t): t.detach().numpy() for t in self._all()}  # what the step left, unless it read nothing
        if self.proved:
            values = np.array([[self.loss]])
            replay.check(step, Measured(values, self.watched.value(watched.trace.notes["print"])[None]))

    def _all(self) -> list[Tensor]:
        return [*self._handles.values(), *(t for slots in self._slots.values() for t in slots.values())]

    # ---------------------------------------------------------------- the numbers

    @property
    def loss(self) -> float:
        """The loss of the batch under the weights before the update."""
        return float(self._noted("loss"))

    @property
    def x(self) -> Array:
        """The batch's rows, shape (batch, ...)."""
        return self._noted("input")

    @property
    def y(self) -> Array:
        """The batch's targets."""
        return self._noted("target")

    @property
    def output(self) -> Array:
        """What the model made of them."""
        return self._noted("output")

    @property
    def weights(self) -> dict[str, Array]:
        """Parameters and buffers before the update, by name."""
        return {name: self._before(handle) for name, handle in self._handles.items()}

    @property
    def after(self) -> dict[str, Array]:
        """Parameters and buffers after the update."""
        return {name: self._now[id(handle)] for name, handle in self._handles.items()}

    @property
    def gradients(self) -> dict[str, Array]:
        """The gradient of each parameter as the optimizer received it (clipped, if it was)."""
        notes = self.watched.trace.notes
        return {
            name: self.watched.value(notes["gradient", name])
            for name, _ in self.run.trainer.model.named_parameters()
            if ("gradient", name) in notes
        }

    @property
    def optimizer(self) -> dict[str, dict[str, Array]]:
        """The optimizer's state before the update: by parameter, then by PyTorch's name (``exp_avg``, ...)."""
        return {name: {k: self._before(t) for k, t in slots.items()} for name, slots in self._slots.items()}

    @property
    def optimizer_after(self) -> dict[str, dict[str, Array]]:
        """The optimizer's state after the update."""
        return {name: {k: self._now[id(t)] for k, t in slots.items()} for name, slots in self._slots.items()}

    @property
    def activations(self) -> dict[str, Array]:
        """The output of each layer that computes something, by its name."""
        return {name: self.watched.value(node) for name, node in self.layers.items()}

    @property
    def activation_gradients(self) -> dict[str, Array]:
        """The gradient of the loss with respect to the output of each layer."""
        found = self.watched.trace.gradients
        return {name: self.watched.value(found[node]) for name, node in self.layers.items() if node in found}

    @property
    def layers(self) -> dict[str, Node]:
        """The node that is each layer's output, in the order of computation."""
        forward = self.watched.forward()
        model = self.run.trainer.model
        known = {f"{type(model).__name__}.{name}".rstrip("."): name for name, _ in model.named_modules()}
        return {known.get(n.layer, n.layer): n for n in forward if n.layer and n.inputs}

    def _noted(self, key: str) -> Array:
        return self.watched.value(self.watched.trace.notes[key])

    def _before(self, handle: Tensor) -> Array:
        node = self.watched.before(handle)
        stored = None if node is None else self.watched.stored.get(node)
        return self._now[id(handle)] if stored is None else stored

    def __repr__(self) -> str:
        return f"<Moment: step {self.step} (epoch {self.epoch}), {len(self.rows)} rows, loss {self.loss:.6g}>"


# -- how a run is found -------------------------------------------------------------------------


def run_of(trainer: Trainer) -> Run:
    """The run that the trainer's latest fit recorded."""
    recorder = trainer.recorder
    if recorder is None or recorder.data is None:
        raise ReplayError(
            "Trainer.run: the latest fit kept no record. Train with fit(..., record=True), or name a folder to keep "
            "it in: fit(..., record='runs/mine')."
        )
    return Run(trainer, recorder, *recorder.data)


def load_run(folder: str | os.PathLike[str], trainer: Trainer | None = None, X: object = None, y: object = None) -> Run:
    """The recorded training in a run folder.

    Args:
        folder: what ``chainrule train`` or ``fit(..., record=folder)`` wrote.
        trainer: built as it was for the training; left out for runs of ``chainrule train``, which describe themselves.
        X, y: the training rows; left out likewise.

    Raises:
        DamagedFileError: there is no record, it cannot be read, or another version wrote it.
        ReplayError: trainer or data are needed.
        DataError: these are not the rows it was trained on.
    """
    record = Record(folder)
    if trainer is None:
        trainer, X, y = _rebuilt(record)
    x_array, y_array = inputs.rows(trainer.model, trainer.loss, trainer.metrics, X, y, "load_run")
    if digest(x_array, y_array) != record.header["data"]:
        raise DataError(
            f"load_run: these are not the rows that {folder} was trained on (their hash differs). Pass X and y as they "
            f"were given to fit, without the rows that were held out."
        )
    return Run(trainer, record, x_array, y_array)


def _rebuilt(record: Record) -> tuple[Trainer, object, object]:
    from chainrule.data import load
    from chainrule.training.configuration import build, read_config

    path = record.folder / "config.json"
    if not path.exists():
        raise ReplayError(
            f"load_run: {record.folder} was not made by `chainrule train`, so its model cannot be rebuilt from it. "
            f"Pass the trainer as it was built, and the data: load_run(folder, trainer, X, y)."
        )
    config = read_config(path)
    return build(config), *load(config["dataset"]).train


Predicate = Callable[[Moment], bool]
