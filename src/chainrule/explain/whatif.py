"""What if: a training replayed from some step on, with something changed, beside itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from chainrule.compiler.frontend.watch import Watched
from chainrule.data.checks import as_number
from chainrule.errors import IndexRangeError, SettingError
from chainrule.explain.addresses import parse, position
from chainrule.explain.replay import Replay
from chainrule.explain.text import number, sentence, table
from chainrule.graph import Array
from chainrule.tensor.core import numbers
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.training import inputs
from chainrule.training.session import Rows
from chainrule.training.steps import StepProgram

Weights = Mapping[str, float]
Inputs = Mapping[tuple[int, ...], float]
Labels = Mapping[int, Any]


@dataclass(frozen=True)
class Change:
    """What is different: new values of weights, of inputs and labels of training rows, another learning rate."""

    weights: Weights = field(default_factory=dict)
    inputs: Inputs = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    lr: float | None = None

    def words(self) -> list[str]:
        """The changes, each as one assignment."""
        words = [f"{address} = {value:.9g}" for address, value in self.weights.items()]
        words += [f"X[{', '.join(map(str, index))}] = {value:.9g}" for index, value in self.inputs.items()]
        words += [f"y[{row}] = {label}" for row, label in self.labels.items()]
        return words + ([f"lr = {self.lr:.9g}"] if self.lr is not None else [])


@dataclass(frozen=True, repr=False)
class Course:
    """One way the training goes on.

    Attributes:
        losses: of each step, before its update.
        followed: each followed weight, before the first step and after every one.
        gradients: of each followed weight, at the first step.
        weights: parameters and buffers at the end.
        before, outputs: what the model makes of the rows of the first batch, before the first step and at the end.
    """

    losses: Array
    followed: dict[str, Array]
    gradients: dict[str, float]
    weights: dict[str, Array]
    before: Array
    outputs: Array

    def __repr__(self) -> str:
        return f"<Course: {len(self.losses)} steps, loss {self.losses[0]:.6g} to {self.losses[-1]:.6g}>"


@dataclass(frozen=True, repr=False)
class WhatIf:
    """The original and the changed course, side by side.

    Attributes:
        step: the step they part at.
        changes: what was changed, in words.
        rows: the rows that ``outputs`` are of.
    """

    step: int
    changes: list[str]
    rows: Array
    original: Course
    changed: Course

    @property
    def gap(self) -> Array:
        """How much larger the changed course's loss is, step by step."""
        return np.asarray(self.changed.losses - self.original.losses)

    def distance(self) -> dict[str, float]:
        """For each parameter, the norm of the difference at the end."""
        return {
            name: float(np.linalg.norm(np.asarray(self.changed.weights[name], np.float64) - array))
            for name, array in self.original.weights.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""

        def course(one: Course) -> dict[str, Any]:
            return {
                "losses": one.losses.tolist(), "followed": {k: v.tolist() for k, v in one.followed.items()},
                "gradients": one.gradients, "before": one.before.tolist(), "outputs": one.outputs.tolist(),
            }  # fmt: skip

        return {
            "step": self.step, "changes": self.changes, "rows": self.rows.tolist(), "distance": self.distance(),
            "original": course(self.original), "changed": course(self.changed),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<WhatIf: from step {self.step} on, {', '.join(self.changes) or 'nothing changes'}>"

    def __str__(self) -> str:
        return _text(self)


def _text(w: WhatIf) -> str:
    """Both courses: the loss at some steps, the followed weights, how far apart the parameters end."""
    count = len(w.original.losses)
    shown = sorted({0, 1, 2, *(count * i // 8 for i in range(1, 8)), count - 1} & set(range(count)))
    rows = [["step", "loss", "loss if", "difference"]]
    for i in shown:
        losses = w.original.losses[i], w.changed.losses[i]
        rows.append([str(w.step + i), *map(number, losses), f"{w.gap[i]:+.3g}"])
    lines = [
        sentence(f"what if from step {w.step} on: {', '.join(w.changes) or 'nothing changes'}"),
        *table(rows, right=(0, 1, 2, 3)),
    ]
    for address, track in w.original.followed.items():
        gradients = w.original.gradients[address], w.changed.gradients[address]
        ends = number(track[-1]), number(w.changed.followed[address][-1])
        lines.append(
            sentence(f"{address} has the gradient {number(gradients[0])}, and {number(gradients[1])} if", "  ")
        )
        lines.append(sentence(f"{address} ends at {ends[0]}, and at {ends[1]} if", "  "))
    far = [[name, f"{distance:.6g}"] for name, distance in w.distance().items()]
    return "\n".join([*lines, "  how far apart the parameters end:", *table(far, right=(1,), indent="    ")])


def what_if(replay: Replay, step: int, steps: int, change: Change, follow: Sequence[str] = ()) -> WhatIf:
    """Replay `steps` steps from `step` on, as they were and with the change."""
    (found,) = alternatives(replay, step, steps, [change], follow)
    return found


def alternatives(
    replay: Replay, step: int, steps: int, changes: Sequence[Change], follow: Sequence[str] = ()
) -> Iterator[WhatIf]:
    """What follows from each of several changes at one step, beside what followed without any."""
    for change in changes:
        _check(steps, change.lr)
        _check_kinds(change)
    if isinstance(follow, str):
        follow = [follow]
    if not isinstance(follow, Sequence):
        raise SettingError(f"what_if: follow must be addresses such as ['0.weight[3, 7]'], got {follow!r}.")
    shapes = {name: p.shape for name, p in replay.trainer.model.named_parameters()}
    addresses = dict.fromkeys(address for change in changes for address in [*change.weights, *follow])
    targets = {address: _target(address, shapes) for address in addresses}
    Rows(replay.x, replay.y).check_single("what_if")
    with replay.lent() as program:
        replay.go_to(step, program)
        start = replay.trainer.session.now()
        original = _course(replay, program, step, steps, targets)
        for change in changes:
            x, y = _changed_rows(replay, change)
            replay.trainer.session.go_to(start)
            program.feed.take(x, y, replay.weight)
            try:
                _write(replay, {targets[address]: value for address, value in change.weights.items()})
                followed = {address: targets[address] for address in dict.fromkeys([*change.weights, *follow])}
                changed = _course(replay, program, step, steps, followed, change.lr, proved=False)
            finally:
                program.feed.take(replay.x, replay.y, replay.weight)
            yield WhatIf(step, change.words(), replay.rows(step), _only(original, followed), changed)


def _only(course: Course, addresses: Mapping[str, Any]) -> Course:
    """The course with nothing followed but these."""
    followed = {address: course.followed[address] for address in addresses}
    return replace(course, followed=followed, gradients={address: course.gradients[address] for address in addresses})


def _check(steps: int, lr: float | None) -> None:
    if not _whole(steps) or steps < 1:
        raise SettingError(f"what_if: steps must be a whole number, 1 or more, got {steps!r}.")
    if lr is not None and not (isinstance(lr, (int, float, np.number)) and 0 <= lr < np.inf):
        raise SettingError(f"what_if: lr must be a number of 0 or more, got {lr!r}.")


def _check_kinds(change: Change) -> None:
    for name, example in (("weights", "{'0.weight[3, 7]': 0.5}"), ("inputs", "{(7, 2): 0.0}"), ("labels", "{7: 3}")):
        given = getattr(change, name)
        if not isinstance(given, Mapping):
            raise SettingError(
                f"what_if: {name} must be a dict from what is changed to its new value, got {type(given).__name__}. "
                f"Pass one such as {example}."
            )
    for index in change.inputs:
        if not isinstance(index, tuple) or not all(map(_whole, index)):
            raise SettingError(
                f"what_if: inputs are named by tuples (row, feature, ...) of whole numbers, got {index!r}. "
                f"Pass one such as {{(7, 2): 0.0}}."
            )
    for row in change.labels:
        if not _whole(row):
            raise SettingError(
                f"what_if: labels are named by the numbers of their rows, got {row!r}. Pass one such as {{7: 3}}."
            )


def _whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _target(address: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    name, at = parse(address, shapes, "what_if")
    if at is None:
        raise SettingError(
            f"what_if: name one number, such as '{name}[{', '.join('0' * len(shapes[name]))}]', got {address!r}."
        )
    return name, at


def _changed_rows(replay: Replay, change: Change) -> tuple[Array, Array]:
    """The training rows with the change, each number converted and checked as `fit` does it."""
    trainer, x, y = replay.trainer, replay.x, replay.y
    x, y = x.copy() if change.inputs else x, y.copy() if change.labels else y
    for index, value in change.inputs.items():
        where = position("X", index, x.shape, "what_if")
        x.reshape(-1)[where] = as_number(value, x.dtype, f"what_if: X[{', '.join(map(str, index))}]")
    for row, label in change.labels.items():
        if not -len(y) <= row < len(y):
            raise IndexRangeError(f"what_if: there are the rows 0 to {len(y) - 1}, got {row}. Name one of them.")
        given = label if np.ndim(label) else np.broadcast_to(label, y.shape[1:])
        y[row] = inputs.target(trainer.model, trainer.loss, trainer.meaning, x[row][None], given, f"what_if: y[{row}]")
    return x, y


def _write(replay: Replay, values: Mapping[tuple[str, int], float]) -> None:
    parameters = dict(replay.trainer.model.named_parameters())
    for (name, at), value in values.items():
        changed = numbers(parameters[name]).copy()
        changed.reshape(-1)[at] = as_number(value, changed.dtype, f"what_if: the new value of {name}")
        with no_grad():
            parameters[name].copy_(tensor(changed))


def _course(
    replay: Replay, program: StepProgram, step: int, steps: int, followed: Mapping[str, tuple[str, int]],
    lr: float | None = None, proved: bool = True,
) -> Course:  # fmt: skip
    """Take the steps from where the lent trainer stands."""
    trainer = replay.trainer
    parameters = dict(trainer.model.named_parameters())
    rows = replay.rows(step)
    losses: list[float] = []
    tracks: dict[str, list[float]] = {address: [] for address in followed}
    gradients: dict[str, float] = {}

    def look() -> None:
        for address, (name, at) in followed.items():
            tracks[address].append(float(numbers(parameters[name]).reshape(-1)[at]))

    before = _outputs(replay, program, rows)
    look()
    while len(losses) < steps:
        at = step + len(losses)
        replay.shape(at)
        for group in trainer.optimizer.param_groups:
            group["lr"] = group["lr"] if lr is None else lr
        # What is followed is seen between steps; where nothing is, one native call takes many.
        batches = replay.stretch(at, at + 1 if followed else step + steps)
        rates = replay.rates(at, len(batches)) if lr is None else None
        if followed and at == step:
            loss, prints, gradients = _watched(program.watch(rows, None if rates is None else rates[0]), followed)
            found = np.array([loss])
        else:
            measured = program.run(batches, rates)
            found, prints = measured.values[:, 0], measured.prints
        if proved:
            replay.check(at, found, prints)
        losses += found.tolist()
        look()
    weights = {name: numbers(t) for name, t in trainer.model.state_dict().items()}
    tracked = {address: np.array(track) for address, track in tracks.items()}
    return Course(np.array(losses), tracked, gradients, weights, before, _outputs(replay, program, rows))


def _watched(
    watched: Watched, followed: Mapping[str, tuple[str, int]]
) -> tuple[float, Array | None, dict[str, float]]:  # fmt: skip
    """The loss and the fingerprint of a step, and the gradient of each followed weight on the way."""
    notes = watched.trace.notes
    gradients = {
        address: float(watched.numbers(notes["gradient", name]).reshape(-1)[at]) if ("gradient", name) in notes else 0.0
        for address, (name, at) in followed.items()
    }
    return float(watched.numbers(notes["loss"])), watched.numbers(notes["print"])[None], gradients


def _outputs(replay: Replay, program: StepProgram, rows: Array) -> Array:
    """What the model makes of these rows, in evaluation mode."""
    found: Array = replay.trainer.predict(numbers(program.feed.x)[rows])
    return found
