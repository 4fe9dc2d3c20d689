"""Time travel: a recorded training, and any moment of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.errors import DamagedFileError, DataError, GradientError, ReplayError, SettingError
from chainrule.explain.addresses import largest, parse, position
from chainrule.explain.birth import Birth, birth
from chainrule.explain.derivation import Derivation
from chainrule.explain.difference import Difference, difference
from chainrule.explain.flow import Flow
from chainrule.explain.ledger import Ledger
from chainrule.explain.moment import Moment, held
from chainrule.explain.replay import Replay
from chainrule.explain.scene import of_graph
from chainrule.explain.whatif import Change, Inputs, Labels, Weights, WhatIf, what_if
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import numbers
from chainrule.training.record import Record, digest
from chainrule.training.trainer import Trainer
from chainrule.training.weights import Classes

Array = np.ndarray[Any, Any]


Predicate = Callable[[Moment], bool]


class Run:
    """A recorded training: every step of it can be brought back, to the bit.

    ``trainer.run`` after ``fit(..., record=...)``, or ``cr.load_run(folder)``. Steps count from 0; step `s` starts
    from the weights that `s` updates have made.

    Args:
        trainer: built as it was for the training.
        record: what ``fit`` wrote.
        x, y: the rows it was trained on.
        weight: of each row in the loss; None: they weighed alike.

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

    def __init__(self, trainer: Trainer, record: Record, x: Array, y: Array, weight: Array | None = None) -> None:
        self.trainer, self.record = trainer, record
        self.replay = Replay(trainer, record, x, y, weight)
        self._moments: dict[int, Moment] = {}

    # ---------------------------------------------------------------- what was recorded

    @property
    def folder(self) -> str:
        """Where the record is."""
        return os.fspath(self.record.folder)

    @property
    def first_step(self) -> int:
        """The first recorded step: 0, or where a resumed training went on."""
        return self.replay.first

    @property
    def losses(self) -> Array:
        """The loss of each step from the first on, before its update; float64 (steps,), NaN where a step is missing."""
        return np.asarray(self.replay.log["loss"])

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The stretches that were trained without the record: the first step of each, and the one behind its last."""
        return self.replay.missing()

    def __len__(self) -> int:
        """How many steps the record spans, those that are missing among them."""
        return len(self.replay.log)

    def __repr__(self) -> str:
        last = f", loss {self.losses[0]:.4g} -> {self.losses[-1]:.4g}" if len(self) else ""
        lost = sum(stop - start for start, stop in self.missing)
        gaps = f", {lost} of them missing" if lost else ""
        return f"<Run: {len(self)} steps from step {self.first_step} on{gaps}{last}; {self.folder}>"

    # ---------------------------------------------------------------- any moment of it

    def at(self, step: int) -> Moment:
        """The training at `step`: the weights before it, its batch, loss, gradients and activations, and its update.

        Args:
            step: from ``run.first_step`` to its end (there: the step that would follow); negative counts from the end.

        Raises:
            ReplayError: there is no such step, no readable checkpoint before it, or it does not repeat.
        """
        chosen = self._step(step)
        if chosen not in self._moments:
            with self.replay.lent() as program:
                program.prepare_watch()
                self.replay.go_to(chosen, program)
                before = held(self.trainer.model)
                watched = program.watch(self.replay.rows(chosen))
                moment = Moment(self.replay, chosen, watched, before)
            self._moments = {chosen: moment}  # only the latest: one holds every value of the step
        return self._moments[chosen]

    def __getitem__(self, step: int) -> Moment:
        """``run[step]``: `at`."""
        return self.at(step)

    def __iter__(self) -> Iterator[Moment]:
        """Every recorded moment, one after the other."""
        return (self.at(step) for step in range(self.first_step, self.replay.end) if self.replay.recorded(step))

    def explain(self, address: str, step: int = -1) -> Derivation:
        """The chain rule for one weight's gradient at a step, with every number as the training computed it.

        Args:
            address: a parameter's name and an index, ``"0.weight[3, 7]"``; without an index, the element of largest
                gradient.
            step: as for `at`.

        Raises:
            UnknownNameError, IndexRangeError, SettingError: no such weight; the nearest names are named.
            ReplayError: as for `at`.

        Example:
            >>> import chainrule as cr
            >>> import chainrule.nn.functional as F
            >>> _ = cr.manual_seed(0)
            >>> model = cr.nn.Linear(64, 10)
            >>> trainer = cr.Trainer(model, F.cross_entropy, cr.optim.SGD(model.parameters(), lr=0.1))
            >>> _ = trainer.fit(*cr.data.load("digits").train, epochs=1, progress=False, record=True)
            >>> trainer.explain("weight[3, 20]", step=10).adds_up
            True
        """
        shapes = {name: p.shape for name, p in self.trainer.model.named_parameters()}
        name, position = parse(address, shapes)
        return self.at(step).explain(name, position)

    def ledger(self, address: str, step: int = -1) -> Ledger:
        """Why a weight moved as it did at a step: gradient, clipping, decay, momentum, second moment, schedule.

        Args:
            address, step: as for `explain`.

        Raises:
            UnknownNameError, IndexRangeError, SettingError, ReplayError: as `explain`.
            GradientError: no update moves this weight.

        Example:
            >>> import chainrule as cr
            >>> import chainrule.nn.functional as F
            >>> _ = cr.manual_seed(0)
            >>> model = cr.nn.Linear(64, 10)
            >>> trainer = cr.Trainer(model, F.cross_entropy, cr.optim.AdamW(model.parameters(), lr=0.01))
            >>> _ = trainer.fit(*cr.data.load("digits").train, epochs=1, progress=False, record=True)
            >>> [part.name for part in trainer.ledger("weight[3, 20]", step=10).parts]
            ['gradient', 'momentum', 'second moment', 'weight decay']
        """
        name, position = parse(address, {name: p.shape for name, p in self.trainer.model.named_parameters()}, "ledger")
        moment = self.at(step)
        return Ledger(moment, name, moment.explain(name, position).position)

    def gradient_flow(self, name: str | None = None, step: int = -1) -> Flow:
        """Where the gradient went on its way from the loss to a parameter at a step: `chainrule.gradient_flow` of it.

        The forward values are the program's own; the gradients are computed from them once more, op by op, so the
        total agrees with the recorded gradient (before clipping) to rounding.

        Args:
            name: a parameter's; None: the first, which is farthest from the loss.
            step: as for `at`.

        Raises:
            UnknownNameError, SettingError, ReplayError: as `explain`.
            GradientError: the loss does not depend on it, or its gradient is zero or not finite.

        Example:
            >>> import chainrule as cr
            >>> import chainrule.nn.functional as F
            >>> _ = cr.manual_seed(0)
            >>> model = cr.nn.Sequential(cr.nn.Linear(64, 16), cr.nn.Sigmoid(), cr.nn.Linear(16, 10))
            >>> trainer = cr.Trainer(model, F.cross_entropy, cr.optim.SGD(model.parameters(), lr=0.1))
            >>> _ = trainer.fit(*cr.data.load("digits").train, epochs=1, progress=False, record=True)
            >>> flow = trainer.gradient_flow("0.weight", step=10)
            >>> flow.by("kind")["activation"] < -1  # the slope of a sigmoid is at most 1/4
            True
        """
        shapes = {name: p.shape for name, p in self.trainer.model.named_parameters()}
        return self.at(step).gradient_flow(
            parse(name, shapes, "gradient_flow")[0] if name is not None else next(iter(shapes))
        )

    def weights(self, step: int) -> dict[str, Array]:
        """The parameters and buffers before `step`; at the end of the run, the final ones."""
        chosen = self._step(step)
        with self.replay.lent() as program:
            self.replay.go_to(chosen, program)
            return {name: numbers(t) for name, t in self.trainer.model.state_dict().items()}

    # ---------------------------------------------------------------- searching and comparing

    def diff(self, a: int, b: int, count: int = 5) -> Difference:
        """What changed between the weights before step `a` and those before step `b`; `count` elements of each.

        ``run.diff(0, len(run))`` is the whole training.
        """
        return difference(self._step(a), self._step(b), self.weights(a), self.weights(b), count)

    def first(
        self, predicate: Predicate, start: int | None = None, stop: int | None = None, monotone: bool = False
    ) -> Moment | None:
        """The first moment for which `predicate(moment)` holds, or None.

        For what the record has anyway (``run.losses``, an array) NumPy is quicker.

        Args:
            predicate: a function of a `Moment`.
            start, stop: search these steps (default: all that are recorded).
            monotone: once it holds it holds for ever, so that bisection finds it in a few replays.

        Example:
            >>> import chainrule as cr
            >>> import chainrule.nn.functional as F
            >>> _ = cr.manual_seed(0)
            >>> model = cr.nn.Linear(64, 10)
            >>> trainer = cr.Trainer(model, F.cross_entropy, cr.optim.SGD(model.parameters(), lr=0.1))
            >>> _ = trainer.fit(*cr.data.load("digits").train, epochs=2, progress=False, record=True)
            >>> trainer.run.first(lambda moment: moment.loss < 2).loss < 2
            True
        """
        if not callable(predicate):
            raise SettingError(
                f"first: predicate must be a function of a moment, got {predicate!r}. Pass one such as "
                f"lambda moment: moment.loss < 1; for the moment at one step, run.at(step)."
            )
        low = self.first_step if start is None else self._step(start)
        high = self.replay.end if stop is None else self._step(stop)
        if not monotone:
            known = (step for step in range(low, high) if self.replay.recorded(step) or step == self.replay.end)
            return next((m for m in map(self.at, known) if predicate(m)), None)
        end = high
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if predicate(self.at(middle)) else (middle + 1, high)
        return self.at(low) if low < end else None

    def birth(self) -> Birth | None:
        """Where the NaN or infinity that ended the training was born; None where there is none.

        The training stops before a step that would spoil the weights, so it is the step after the last recorded one.
        """
        return birth(self.at(self.replay.end))

    def what_if(
        self,
        step: int,
        steps: int = 20,
        weights: Weights | None = None,
        inputs: Inputs | None = None,
        labels: Labels | None = None,
        lr: float | None = None,
        follow: Sequence[str] = (),
    ) -> WhatIf:
        """Replay from `step` on as it was, and with something changed, on the same batches and random numbers.

        Args:
            step: where they part.
            steps: how many steps to take.
            weights: new values before the step, ``{"0.weight[3, 7]": 0.5}``.
            inputs: new values in the training rows, ``{(row, feature): 0.0}``.
            labels: new targets of training rows, ``{row: 3}``.
            lr: the learning rate from there on (schedules aside).
            follow: addresses of weights to follow, beside those changed.

        Raises:
            UnknownNameError, IndexRangeError, SettingError: what is to be changed is not there.
            ReplayError: as for `at`.
        """
        change = Change(weights or {}, inputs or {}, labels or {}, lr)
        return what_if(self.replay, self._step(step), steps, change, follow)

    def _step(self, step: int) -> int:
        first, end = self.first_step, self.replay.end
        whole = isinstance(step, (int, np.integer)) and not isinstance(step, bool)
        chosen = int(step + end if step < 0 else step) if whole else -1
        if not first <= chosen <= end:
            raise ReplayError(
                f"{self.folder}: the record has the steps {first} to {end - 1} (and {end}, which would follow), "
                f"got {step!r}. Name one of them; negative ones count from the end."
            )
        if chosen < end and not self.replay.recorded(chosen):
            raise self.replay.gap(chosen)
        return chosen


@takes_keywords("torch")
def explain(loss: Tensor, tensor: Tensor, index: tuple[int, ...] | int | None = None) -> Derivation:
    """The chain rule for one number of an eager graph: how d loss / d tensor[index] comes about.

    Args:
        loss: one number, before ``backward`` freed its history.
        tensor: what it depends on, with requires_grad.
        index: one integer for each axis; None: the element of largest gradient.

    Raises:
        GradientError: the loss has no history, or does not depend on the tensor.
        IndexRangeError: no such element.

    Example:
        >>> import chainrule as cr
        >>> x = cr.tensor([3.0, 4.0], requires_grad=True)
        >>> print(cr.explain((x * x).sum(), x, 0))
        dL/d tensor[0] = 6  (float32)
        <BLANKLINE>
        is the sum of 2 terms dL/dY * dY/dx, one for each element Y that reads it:
          Y       dL/dY     dY/dx
          mul[0]      1  *  b = 3  =  3
          mul[0]      1  *  a = 3  =  3
          That is 6: the stored bits.
        <BLANKLINE>
        Strongest paths to the loss, and the product of derivatives along each:
          3
            -> mul[0]  *  b = 3
            -> loss    *  1
          3
            -> mul[0]  *  a = 3
            -> loss    *  1
          0 is what all other paths add (the gradient less these, exactly).
    """
    scene = of_graph(loss)
    scene.names.setdefault(tensor._node, "tensor")
    gradient = scene.gradient(tensor._node)
    if gradient is None:
        raise GradientError(
            "explain: the loss does not depend on this tensor, or it does not require grad. Name a tensor with "
            "requires_grad=True that the loss was computed from."
        )
    if index is None:
        return Derivation(scene, tensor._node, largest(gradient))
    given = (index,) if isinstance(index, int) else tuple(index)
    return Derivation(scene, tensor._node, position("tensor", given, tensor.shape))


# -- how a run is found -------------------------------------------------------------------------


def run_of(trainer: Trainer) -> Run:
    """The run that the trainer's latest fit recorded."""
    recorder = trainer.recorder
    if recorder is None or recorder.data is None:
        raise ReplayError(
            "Trainer.run: the latest fit kept no record. Train with fit(..., record=True), or name a folder to keep "
            "it in: fit(..., record='runs/mine')."
        )
    if recorder.opened is None or len(recorder.opened) != len(recorder.steps()):
        recorder.opened = Run(trainer, recorder, *recorder.data)
    run: Run = recorder.opened
    return run


@takes_keywords("torch")
def load_run(
    folder: str | os.PathLike[str], trainer: Trainer | None = None, X: object = None, y: object = None,
    sample_weight: object = None, class_weight: Classes | None = None,
) -> Run:  # fmt: skip
    """The recorded training in a run folder.

    Args:
        folder: what ``chainrule train`` or ``fit(..., record=folder)`` wrote.
        trainer: built as it was for the training; left out for runs of ``chainrule train``, which describe themselves.
        X, y: the training rows; left out likewise.
        sample_weight, class_weight: as they were given to ``fit``.

    Raises:
        DamagedFileError: there is no record, it cannot be read, or another version wrote it.
        ReplayError: trainer or data are needed.
        DataError: these are not the rows it was trained on.
    """
    record = Record(folder)
    record.check_whole()
    if trainer is None:
        trainer, X, y = _rebuilt(record)
    rows = trainer.checked.rows(X, y, "load_run", sample_weight, class_weight)
    if digest(*rows.arrays) != record.header["data"]:
        raise DataError(
            f"load_run: these are not the rows that {folder} was trained on (their hash differs). Pass X and y (and their "
            f"weights) as they were given to fit, without the rows that were held out."
        )
    if record.header["rows"] != rows.count:
        raise DamagedFileError(
            f"{record.root / 'record.json'}: rows must be {rows.count}, as many as the data have, got "
            f"{record.header['rows']}. Copy the run again, or train again."
        )
    return Run(trainer, record, *rows.parts)


def _rebuilt(record: Record) -> tuple[Trainer, object, object]:
    from chainrule.training.configuration import read_config
    from chainrule.training.rebuilt import rebuild

    path = record.folder / "config.json"
    if not path.exists():
        raise ReplayError(
            f"load_run: {record.folder} was not made by `chainrule train`, so its model cannot be rebuilt from it. "
            f"Pass the trainer as it was built, and the data: load_run(folder, trainer, X, y)."
        )
    trainer, data = rebuild(read_config(path), record.folder)
    return trainer, *data.train
