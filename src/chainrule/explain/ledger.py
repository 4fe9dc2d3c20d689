"""The ledger of an update: why a weight moved by just that much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from chainrule.dtypes import limits
from chainrule.errors import GradientError
from chainrule.explain.moment import Moment
from chainrule.explain.text import number, sentence, table
from chainrule.optim import rules
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad

NAMES = {
    "ascent": "maximize", "decay": "weight decay", "momentum": "momentum", "nesterov": "momentum",
    "dampened momentum": "momentum", "rms": "second moment", "centered rms": "second moment",
    "adagrad": "second moment", "adadelta": "second moment", "adamax": "moments", "radam": "moments", "nadam": "moments",
}  # fmt: skip


HOW = {
    "ascent": "the gradient's sign turned", "decay": "-lr0 weight_decay w", "momentum": "-lr0 (b - g)",
    "nesterov": "-lr0 (g + momentum b - g)", "dampened momentum": "-lr0 (b - g)",
    "rms": "-lr0 g (1 / (sqrt(v) + eps) - 1)", "centered rms": "-lr0 g (1 / (sqrt(v - a^2) + eps) - 1)",
    "adagrad": "-lr0 g (1 / (sqrt(s) + eps) - 1)", "adadelta": "-lr0 g (sqrt(a + eps) / sqrt(v + eps) - 1)",
    "adamax": "-lr0 (m / (c1 u) - g)", "radam": "-lr0 (r (m / c1) / (sqrt(v / c2) + eps) - g)",
    "nadam": "-lr0 (d / (sqrt(v / c2) + eps) - g)",
}  # fmt: skip


ROUNDING = 0.01  # of the parts' sizes; single precision leaves less than a hundredth of that


@dataclass(frozen=True)
class Part:
    """One cause of the move: how much of it, and how that is computed."""

    name: str
    amount: float
    how: str


@dataclass(frozen=True)
class Pull:
    """One sample of the batch: its part of the gradient, and the move that plain gradient descent makes of it."""

    row: int
    gradient: float
    amount: float


class Ledger:
    """The move of one weight at one step, ``after - before``, split into its causes.

    The optimizer's own chain of rules runs on this one element in float64, link by link; what a link changes is its
    part. So the parts are, as far as the optimizer has them: the plain gradient step ``-lr0 g``, clipping, weight decay,
    momentum, second moment, and the schedule (lr less the lr0 that the training began with). ``rounding``, what the
    training's own float32 arithmetic adds to that, makes the sum exact: ``sum(parts) + rounding == after - before``.
    The rate is the one that the step used, as the optimizer's ``settings`` gave it.

    Args:
        moment: the step.
        name: the parameter.
        position: the element, in row-major order.
    """

    def __init__(self, moment: Moment, name: str, position: int) -> None:
        self.moment, self.derivation = moment, moment.explain(name, position)
        self.before = float(moment.weights[name].reshape(-1)[self.derivation.position])
        self.after = float(moment.after[name].reshape(-1)[self.derivation.position])
        self.move = Fraction(self.after) - Fraction(self.before)
        self._handle = dict(moment.replay.trainer.model.named_parameters())[name]
        self._slots = {
            slot: float(array if not array.ndim else array.reshape(-1)[self.derivation.position])
            for slot, array in moment.optimizer[name].items()
        }
        self.parameter = name
        self.lr, self.lr0 = self._rates()
        self.parts = list(self._split())
        self._check()

    @property
    def name(self) -> str:
        """The weight: ``0.weight[3, 7]``."""
        return self.derivation.name

    @property
    def rounding(self) -> Fraction:
        """The move less the parts, exactly."""
        return self.move - sum((Fraction(part.amount) for part in self.parts), Fraction(0))

    def __getitem__(self, name: str) -> float:
        """The amount of the parts of that name; 0 where there are none."""
        return sum(part.amount for part in self.parts if part.name == name)

    # ---------------------------------------------------------------- the causes

    def _group(self) -> tuple[int, dict[str, Any]]:
        groups = self.moment.replay.trainer.optimizer.param_groups
        number = next((i for i, group in enumerate(groups) if any(p is self._handle for p in group["params"])), None)
        if number is None:
            raise GradientError(
                f"ledger: {self.parameter} is not among the optimizer's parameters, so no update moves it. "
                f"Name a weight that is trained."
            )
        saved = {k: tuple(v) if isinstance(v, list) else v for k, v in self.moment.groups[number].items()}
        return number, {**groups[number], **saved}

    def _rates(self) -> tuple[float, float]:
        """The rate that the step used, as the step itself noted it, and the one that the training began with."""
        number, group = self._group()
        first = self.moment.replay.groups(self.moment.replay.first)[number]
        chosen = {**group, "lr": group["initial_lr"] if "initial_lr" in group else first["lr"]}
        began = self.moment.replay.trainer.optimizer.settings(chosen, _one(1.0).reshape(()))["lr"]
        return self.moment.rate(self.parameter), float(began.item() if isinstance(began, Tensor) else began)

    def _check(self) -> None:
        """Raise where the parts leave more than rounding can: then something moved the weight that is not among them."""
        _, group = self._group()
        told = any(rule is rules.CENTERED_RMS for rule in self.moment.replay.trainer.optimizer.rules(group))
        parts = sum(abs(part.amount) for part in self.parts)
        epsilon = limits(self._handle.dtype).eps
        # A difference of averages that nearly cancel has no digit to be held to.
        most = (1.0 if told else ROUNDING) * parts + 4 * epsilon * (abs(self.before) + abs(self.after))
        if abs(self.rounding) > most + limits(self._handle.dtype).tiny:
            optimizer = type(self.moment.replay.trainer.optimizer).__name__
            raise GradientError(
                f"ledger: {self.name} moved by {float(self.move):.6g} at step {self.moment.step}, and what {optimizer} "
                f"says of itself (its rules, settings and rates) explains {float(self.move - self.rounding):.6g}. "
                f"Give {optimizer} rules() and settings() that say all that its step does."
            )

    def _split(self) -> Iterator[Part]:
        d = self.derivation
        received = float(self.moment.gradients[self.parameter].reshape(-1)[d.position])
        yield Part("gradient", -self.lr0 * float(d.gradient), "-lr0 g")
        if received != float(d.gradient):
            yield Part("clipping", -self.lr0 * (received - float(d.gradient)), "-lr0 (clipped g - g)")
        direction = received
        for name, following, how in self._links(received):
            yield Part(name, -self.lr0 * (following - direction), how)
            direction = following
        if self.lr != self.lr0:
            yield Part("schedule", -(self.lr - self.lr0) * direction, f"-(lr - lr0) d, lr = {self.lr:.6g}")

    def _links(self, gradient: float) -> Iterator[tuple[str, float, str]]:
        """For each link of the optimizer's chain: what it is called, the direction after it, and what it does."""
        optimizer = self.moment.replay.trainer.optimizer
        _, group = self._group()
        state = {slot: _one(value) for slot, value in self._slots.items()}
        step = _one(self._slots.get("step", 0.0) + 1).reshape(())
        with no_grad():
            settings = optimizer.settings(group, step)
            direction, param, scale = _one(gradient), _one(self.before), 1.0
            for rule in optimizer.rules(group):
                following, changed = rule.apply(direction, param, state, settings)
                if rule in (rules.ADAM, rules.AMSGRAD):
                    scale = float(settings["scale"].item())
                    mean = changed["exp_avg"] / settings["correction1"]
                    yield "momentum", float(mean.item()), "-lr0 (m / c1 - g)"
                    yield (
                        "second moment",
                        float(following.item()) / scale,
                        "-lr0 (m / c1) (1 / (sqrt(v / c2) + eps) - 1)",
                    )
                else:
                    yield NAMES.get(rule.name, rule.name), float(following.item()) / scale, HOW.get(rule.name, "")
                direction = following

    # ---------------------------------------------------------------- the samples

    def samples(self) -> list[Pull]:
        """The rows of the batch, the one that pulls most first; their gradients add up to the weight's.

        Raises:
            GradientError: the weight is not read once for each row of the batch.
        """
        rows = self.moment.rows
        pulls = dict.fromkeys(range(len(rows)), Fraction(0))
        for term in self.derivation.terms:
            if not term.index or term.node.shape[0] != len(rows):
                raise GradientError(
                    f"ledger: what reads {self.parameter} ({term.name}) has no axis for the {len(rows)} rows of the batch, "
                    f"so its gradient cannot be told apart by rows."
                )
            pulls[term.index[0]] += term.exact
        found = [Pull(int(rows[i]), float(g), float(-self.lr0 * g)) for i, g in pulls.items()]
        return sorted(found, key=lambda pull: -abs(pull.gradient))

    # ---------------------------------------------------------------- showing

    def as_dict(self, samples: int | None = None) -> dict[str, Any]:
        """Plain numbers and texts; with `samples`, that many of the strongest rows."""
        found: dict[str, Any] = {
            "name": self.name, "step": self.moment.step, "before": self.before, "after": self.after,
            "move": float(self.move), "lr": self.lr, "lr0": self.lr0, "gradient": float(self.derivation.gradient),
            "parts": [vars(part).copy() for part in self.parts], "rounding": float(self.rounding),
        }  # fmt: skip
        if samples is not None:
            found["samples"] = [vars(pull).copy() for pull in self.samples()[:samples]]
        return found

    def text(self, samples: int = 0) -> str:
        """What `print` shows, and the rows of the batch that pull most."""
        return _text(self, samples)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Ledger of {self.name} at step {self.moment.step}: {float(self.move):.9g}>"


def _one(value: float) -> Tensor:
    return tensor(np.array([value], np.float64))


def _text(ledger: Ledger, samples: int) -> str:
    """A ledger: the move, its parts, the rows that pulled most."""
    head = (
        f"{ledger.name} at step {ledger.moment.step}: {number(ledger.before)} -> {number(ledger.after)}, "
        f"a move of {number(float(ledger.move))}"
    )
    rows = [[part.name, number(part.amount), part.how] for part in ledger.parts]
    rows.append(["rounding", number(float(ledger.rounding)), "of the training's own arithmetic"])
    rows.append(["together", number(float(ledger.move)), "exactly the move"])
    given = f"  g = {number(float(ledger.derivation.gradient))}, lr0 = {ledger.lr0:.6g}"
    return "\n".join([sentence(head), "", *table(rows, right=(1,)), "", given, *_pulls(ledger, samples)])


def _pulls(ledger: Ledger, count: int) -> list[str]:
    if not count:
        return []
    pulls = ledger.samples()
    rows = [[f"row {p.row}", number(p.gradient), number(p.amount)] for p in pulls[:count]]
    if rest := pulls[count:]:
        others = sum(p.gradient for p in rest), sum(p.amount for p in rest)
        rows.append([f"the {len(rest)} others", *map(number, others)])
    return ["", f"The {len(pulls)} rows of the batch, their part of g, and -lr0 times it:", *table(rows, right=(1, 2))]
