"""Evidence: what is measured of a run before anything is suspected.

The run is replayed once and stopped at a few steps; there one batch goes through the model eagerly, and every
activation, weight, gradient and update is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.explain.diagnosis.experiment import AS_IT_WAS, Laboratory, Rerun
from chainrule.explain.diagnosis.labels import Labels, cross_fit
from chainrule.explain.diagnosis.task import Score, Task
from chainrule.graph import Node, toposort
from chainrule.nn.module import Module
from chainrule.tensor.core import numbers
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.tensor.random import drawing_from
from chainrule.training import inputs

Array = np.ndarray[Any, Any]
ROWS = 256  # of a look into the model
LOOKS = (0.0, 0.02, 0.1, 0.25, 0.5, 1.0)  # at these shares of the run, and after the first step
GLANCES = tuple(0.7**k for k in range(1, 14))  # at rows held out only
SATURATED = 0.95  # of a sigmoid's or tanh's range, as in Glorot and Bengio 2010, figure 2: where its slope is gone
WATCHED = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
DENORMAL = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Activity:
    """One activation function over a batch.

    Attributes:
        name, kind: the layer, and "relu", "tanh" or "sigmoid".
        dead: the share of units that are 0 (or at one end of their range) for every row.
        saturated: the share of values in the outer twentieth of the range (0 for relu).
        spread: the standard deviation over rows, mean over units.
    """

    name: str
    kind: str
    dead: float
    saturated: float
    spread: float


@dataclass(frozen=True)
class Movement:
    """One parameter, its gradient and the update of the next step.

    Attributes:
        scale: for weights the standard deviation times sqrt(fan_in): 1 for Glorot's, 1.41 for He's, 0.58 for
            the default start; for vectors the largest absolute value.
        gradient: the root mean square of the gradient's elements; NaN where there is none.
        update: the norm of the update over the norm of the parameter.
        alike: the units (rows) of a weight all hold the same numbers.
        denormal: the share of the gradient's elements that are not 0 but smaller than normal numbers.
        trained: it receives gradients and the optimizer knows it.
    """

    name: str
    weight: bool
    scale: float
    gradient: float
    update: float
    alike: bool
    denormal: float
    trained: bool


@dataclass(frozen=True)
class Look:
    """A look into the model after `step` steps."""

    step: int
    loss: float
    activities: list[Activity]
    movements: list[Movement]
    output_spread: float  # of the outputs over the rows, relative to their size
    turn: float  # the cosine between the gradient here and after the next step, on the same rows
    train: Score
    val: Score
    norm: float  # of the gradient by everything that is optimized, before clipping
    train_mode_loss: float  # of the same rows and loss, with dropout as in training
    eval_mode_loss: float


@dataclass
class Evidence:
    """Everything the rules look at."""

    task: Task
    moments: list[Look]
    replay: Rerun
    trained: Score  # of the model as the run left it
    tested: Score  # the same on the rows held out (of the replay, where the run was trained on them)
    exact: bool  # the replay ended in the bits of the run
    lab: Laboratory = field(repr=False)
    course: list[tuple[int, Score]] = field(default_factory=list)  # steps, and the score on rows held out after them

    @property
    def start(self) -> Look:
        """Before the first step."""
        return self.moments[0]

    @property
    def end(self) -> Look:
        """After the last step that was replayed with finite values."""
        return self.moments[-1]

    @property
    def poor(self) -> float:
        """The share of what there is to learn on the training rows that the run did not learn."""
        return 1 - max(self.trained.learned, self.replay.train.learned if not self.lab.cut else -1.0)

    @cached_property
    def labels(self) -> Labels:
        """What cross-fitting says of the labels, found out when asked; the laboratory then knows which rows it doubts."""
        found = cross_fit(self.lab)
        self.lab.suspicious = found.suspicious
        return found


def gather(lab: Laboratory) -> Evidence:
    """Replay the run as it was, with looks into the model on the way."""
    with inputs.evaluating(lab.model):
        lab.predictor = lab.trainer.predictor
        trained = lab.score(AS_IT_WAS, lab.x[lab.sampled], lab.y[lab.sampled])
        tested = lab.score(AS_IT_WAS, lab.x_val, lab.y_val)
    final = [np.array(numbers(p)) for p in lab.model.parameters()]
    course: list[tuple[int, Score]] = []
    moments = list(_moments(lab, course))
    replay = lab.replay()
    if not lab.validated:  # the run itself was trained on the rows that are held out of its replays
        tested = replay.val
    same = lab.validated and not lab.cut and all(map(np.array_equal, final, replay.weights))
    return Evidence(lab.task, moments, replay, trained, tested, same, lab, course)


def _moments(lab: Laboratory, course: list[tuple[int, Score]]) -> Iterator[Look]:
    """A look at each wanted step; the scores on rows held out, there and at more steps, are put into `course`."""
    looks, glances = ({round(share * (lab.steps - 1)) for share in shares} for shares in (LOOKS, GLANCES))
    wanted = sorted({0, 1, *looks, *glances})
    index = lab.rows[np.linspace(0, len(lab.rows) - 1, min(ROWS, len(lab.rows))).astype(int)]
    with lab.prepared(AS_IT_WAS) as run:
        step, loss = 0, math.nan
        for rates, part in lab.batches(AS_IT_WAS, 0, lab.rows):
            while len(part):
                ahead = [w - step for w in wanted if w >= step]
                if ahead and ahead[0] == 0:
                    with inputs.evaluating(lab.model):
                        course.append((step, lab.glance()))
                    before = _Look(lab, index, course[-1][1]) if step in {0, 1, *looks} else None
                    loss = float(run(rates[:1], part[:1])[0])
                    if before is not None:
                        yield before.moment(step, loss)
                        if not before.finite:
                            return
                    step, part, rates = step + 1, part[1:], rates[1:]
                    continue
                count = min(len(part), ahead[0] if ahead else len(part))
                run(rates[:count], part[:count])
                step, part, rates = step + count, part[count:], rates[count:]
        with inputs.evaluating(lab.model):
            course.append((step, lab.glance()))


class _Look:
    """The model at one step; `moment` is called after the next step, so that the update is known."""

    def __init__(self, lab: Laboratory, index: Array, val: Score) -> None:
        self.lab, self.index = lab, index
        self.x, self.y = lab.x[index], lab.y[index]
        self.values = {name: np.array(numbers(p)) for name, p in lab.model.named_parameters()}
        self.finite = all(np.isfinite(v).all() for v in self.values.values())
        with np.errstate(all="ignore"):
            self.activities, self.gradients, self.output, self.eval_loss = look(lab, self.x, self.y)
        self.train_loss = _training_mode_loss(lab, self.x, self.y)
        with inputs.evaluating(lab.model):
            self.train = lab.score(AS_IT_WAS, self.x, self.y)
        self.val = val

    def moment(self, step: int, loss: float) -> Look:
        """All of it as one record, the next step taken."""
        with np.errstate(all="ignore"):
            after = look(self.lab, self.x, self.y)[1] if self.finite else {}
            movements = [self._movement(name, p) for name, p in self.lab.model.named_parameters()]
            squares = (float((g.astype(np.float64) ** 2).sum()) for g in self.gradients.values())
            spread = float(self.output.std(axis=0).mean() / (np.abs(self.output).mean() + 1e-30))
            return Look(
                step, loss, self.activities, movements, spread, _cosine(self.gradients, after), self.train, self.val,
                math.sqrt(sum(squares)),
                self.train_loss, self.eval_loss,
            )  # fmt: skip

    def _movement(self, name: str, parameter: Any) -> Movement:
        value, now = self.values[name].astype(np.float64), np.asarray(numbers(parameter), np.float64)
        gradient = self.gradients.get(name)
        optimized = any(parameter is p for g in self.lab.optimizer.param_groups for p in g["params"])
        weight = value.ndim >= 2
        fan_in = math.prod(value.shape[1:])
        rows = value.reshape(value.shape[0] if value.ndim else 1, -1)
        return Movement(
            name=name,
            weight=weight,
            scale=float(value.std() * math.sqrt(fan_in)) if weight else float(np.abs(value).max(initial=0)),
            gradient=float(np.sqrt((gradient.astype(np.float64) ** 2).mean())) if gradient is not None else math.nan,
            update=float(np.linalg.norm(now - value) / (np.linalg.norm(value) + 1e-30)),
            alike=weight and len(rows) > 1 and bool((rows == rows[0]).all()),
            denormal=float(((gradient != 0) & (np.abs(gradient) < DENORMAL)).mean()) if gradient is not None else 0.0,
            trained=gradient is not None and optimized,
        )


def look(lab: Laboratory, x: Array, y: Array) -> tuple[list[Activity], dict[str, Array], Array, float]:
    """One eager pass: activations, gradients by parameter, outputs, loss."""
    with inputs.evaluating(lab.model):
        lab.model.zero_grad()
        output = lab.model(tensor(x))
        loss = lab.trainer.loss(output, tensor(y))
        activities = _activities(lab.model, loss._node)
        values = np.array(numbers(output))
        loss.backward()
    gradients = {name: np.array(numbers(p._grad)) for name, p in lab.model.named_parameters() if p._grad is not None}
    lab.model.zero_grad()
    return activities, gradients, values, float(numbers(loss))


def _training_mode_loss(lab: Laboratory, x: Array, y: Array) -> float:
    """The loss with dropout on, without using up the random numbers of the run."""
    stream = lab.session.random
    before = stream.get_state()
    with drawing_from(stream), no_grad(), np.errstate(all="ignore"):
        value = lab.trainer.loss(lab.model(tensor(x)), tensor(y))
    stream.set_state(before)
    return float(numbers(value))


def _activities(model: Module, loss: Node) -> list[Activity]:
    """Every activation on the way to the loss; the steps of a recurrent layer count as further rows of it."""
    kinds = {f"{type(model).__name__}.{name}" if name else "": type(m) for name, m in model.named_modules()}
    found: dict[tuple[str, str, int], list[Array]] = {}
    for node in toposort([loss]):
        kind = node.op.name
        owner = kinds.get(node.layer)
        if kind in WATCHED and node.shape and (owner is None or owner is WATCHED[kind] or not _is_activation(owner)):
            value = node.value.reshape(-1, node.shape[-1])
            found.setdefault((node.layer, kind, node.shape[-1]), []).append(value)
    return [_activity(layer, kind, np.concatenate(values)) for (layer, kind, _), values in found.items()]


def _is_activation(owner: type[Module]) -> bool:
    return owner.__module__ == "chainrule.nn.activations"


def _activity(layer: str, kind: str, values: Array) -> Activity:
    wide = values.astype(np.float64)
    low, high = {"relu": (0.0, math.inf), "tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}[kind]
    edge = (1 - SATURATED) * (high - low) / 2 if kind != "relu" else 0.0
    at_low, at_high = wide <= low + edge, wide >= high - edge
    dead = at_low.all(axis=0) | at_high.all(axis=0)
    name = layer.partition(".")[2] or layer or "the model"
    saturated = 0.0 if kind == "relu" else float((at_low | at_high).mean())
    return Activity(name, kind, float(dead.mean()), saturated, float(wide.std(axis=0).mean()))


def _cosine(a: dict[str, Array], b: dict[str, Array]) -> float:
    pairs = [(a[k].ravel().astype(np.float64), b[k].ravel().astype(np.float64)) for k in a if k in b]
    size = math.sqrt(sum(float(x @ x) for x, _ in pairs) * sum(float(y @ y) for _, y in pairs))
    return sum(float(x @ y) for x, y in pairs) / size if size > 0 and math.isfinite(size) else math.nan
