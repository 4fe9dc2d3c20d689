"""What if: a training replayed from some step on, with something changed, beside itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import IndexRangeError, SettingError
from chainrule.explain.addresses import parse, position
from chainrule.graph import Array
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.training import inputs, state
from chainrule.training.steps import Program

if TYPE_CHECKING:
    from chainrule.explain.runs import Run

Weights = Mapping[str, float]
Inputs = Mapping[tuple[int, ...], float]
Labels = Mapping[int, Any]


@dataclass(frozen=True)
class Course:
    """One way the training goes on.

    Attributes:
        losses: of each step, before its update.
        followed: each followed weight, before the first step and after every one.
        weights: parameters and buffers at the end.
        before, outputs: what the model makes of the rows of the first batch, before the first step and at the end.
    """

    losses: Array
    followed: dict[str, Array]
    weights: dict[str, Array]
    before: Array
    outputs: Array


@dataclass(frozen=True)
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
                "before": one.before.tolist(), "outputs": one.outputs.tolist(),
            }  # fmt: skip

        return {
            "step": self.step, "changes": self.changes, "rows": self.rows.tolist(), "distance": self.distance(),
            "original": course(self.original), "changed": course(self.changed),
        }  # fmt: skip

    def __str__(self) -> str:
        from chainrule.explain.text import whatif_text

        return whatif_text(self)


def what_if(
    run: Run, step: int, steps: int, weights: Weights, inputs: Inputs, labels: Labels, lr: float | None,
    follow: tuple[str, ...],
) -> WhatIf:  # fmt: skip
    """Replay `steps` steps from `step` on, as they were and with the changes."""
    _check(steps, lr)
    shapes = {name: p.shape for name, p in run.trainer.model.named_parameters()}
    targets = {address: _target(address, shapes) for address in [*weights, *follow]}
    followed = {address: targets[address] for address in dict.fromkeys([*weights, *follow])}
    x, y = _changed_rows(run.replay.x, run.replay.y, inputs, labels)
    replay = run.replay
    with replay.lent() as program:
        replay.go_to(step, program)
        start = state.snapshot(run.trainer.model, run.trainer.optimizer)
        original = _course(run, program, step, steps, followed, None)
        state.restore(start)
        program.feed.take(x, y)
        try:
            _write(run, {targets[address]: value for address, value in weights.items()})
            changed = _course(run, program, step, steps, followed, lr, proved=False)
        finally:
            program.feed.take(replay.x, replay.y)
    return WhatIf(step, _words(weights, inputs, labels, lr), replay.rows(step), original, changed)


def _check(steps: int, lr: float | None) -> None:
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise SettingError(f"what_if: steps must be a whole number, 1 or more, got {steps!r}.")
    if lr is not None and not (isinstance(lr, (int, float)) and lr >= 0):
        raise SettingError(f"what_if: lr must be a number of 0 or more, got {lr!r}.")


def _target(address: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    name, at = parse(address, shapes)
    if at is None:
        raise SettingError(
            f"what_if: name one number, such as '{name}[{', '.join('0' * len(shapes[name]))}]', got {address!r}."
        )
    return name, at


def _changed_rows(x: Array, y: Array, inputs: Inputs, labels: Labels) -> tuple[Array, Array]:
    x, y = x.copy(), y.copy()
    for index, value in inputs.items():
        x.reshape(-1)[position("X", tuple(index), x.shape)] = value
    for row, label in labels.items():
        if not -len(y) <= row < len(y):
            raise IndexRangeError(f"what_if: there are the rows 0 to {len(y) - 1}, got {row}. Name one of them.")
        y[row] = label
    return x, y


def _write(run: Run, values: Mapping[tuple[str, int], float]) -> None:
    parameters = dict(run.trainer.model.named_parameters())
    for (name, at), value in values.items():
        changed = parameters[name].detach().numpy().copy()
        changed.reshape(-1)[at] = value
        with no_grad():
            parameters[name].copy_(tensor(changed))


def _course(
    run: Run, program: Program, step: int, steps: int, followed: Mapping[str, tuple[str, int]], lr: float | None,
    proved: bool = True,
) -> Course:  # fmt: skip
    """Take the steps from where the lent trainer stands."""
    trainer, replay = run.trainer, run.replay
    parameters = dict(trainer.model.named_parameters())
    rows = replay.rows(step)
    losses = []
    tracks: dict[str, list[float]] = {address: [] for address in followed}

    def look() -> None:
        for address, (name, at) in followed.items():
            tracks[address].append(float(parameters[name].detach().numpy().reshape(-1)[at]))

    before = _outputs(run, program, rows)
    look()
    for at in range(step, step + steps):
        replay.set_groups(replay.groups(at))
        for group in trainer.optimizer.param_groups:
            group["lr"] = group["lr"] if lr is None else lr
        found = program.run(replay.rows(at)[None])
        if proved:
            replay.check(at, found)
        losses.append(found.values[0, 0])
        look()
    weights = {name: t.detach().numpy() for name, t in trainer.model.state_dict().items()}
    tracked = {address: np.array(track) for address, track in tracks.items()}
    return Course(np.array(losses), tracked, weights, before, _outputs(run, program, rows))


def _outputs(run: Run, program: Program, rows: Array) -> Array:
    """What the model makes of these rows, in evaluation mode."""
    with inputs.mode(run.trainer.model, False), no_grad():
        return np.asarray(run.trainer.model(tensor(program.feed.x.detach().numpy()[rows])).numpy())


def _words(weights: Weights, inputs: Inputs, labels: Labels, lr: float | None) -> list[str]:
    words = [f"{address} = {value:.9g}" for address, value in weights.items()]
    words += [f"X[{', '.join(map(str, index))}] = {value:.9g}" for index, value in inputs.items()]
    words += [f"y[{row}] = {label}" for row, label in labels.items()]
    return words + ([f"lr = {lr:.9g}"] if lr is not None else [])
