"""Rules about the signals: activations on their way forward, gradients on their way back."""

from __future__ import annotations

import math
from collections.abc import Callable

from chainrule.explain.diagnosis.evidence import Activity, Evidence, Look
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules.rule import Suspicion, first, room, room_held_out, rule

DEAD = 0.5  # of a layer's units
SATURATED = 0.5  # of a layer's values
VANISHED = 1e-2  # the gradient of the first weight over that of the last
EXPLODED = 1e2  # the other way round, or the gradient's root mean square times the weights' number
DRAWN, RECTIFIED = Remedy(init=True), Remedy(activation="relu")


def _worst(moment: Look, share: str, kinds: tuple[str, ...]) -> Activity | None:
    chosen = [a for a in moment.activities if a.kind in kinds]
    return max(chosen, key=lambda a: float(getattr(a, share)), default=None)


def _over(share: str, kinds: tuple[str, ...], bound: float) -> Callable[[Look], bool]:
    def holds(moment: Look) -> bool:
        worst = _worst(moment, share, kinds)
        return worst is not None and float(getattr(worst, share)) >= bound

    return holds


@rule(
    "dead_units",
    "Units are dead: 0 for every row, so that no gradient reaches their weights",
    (DRAWN, Remedy(activation="leakyrelu")),
    3,
    "either",
    why="A unit that is 0 for every row has gradient 0 for every row: it never comes back.",
    change="Draw the weights anew (biases 0), lower the learning rate, or take nn.LeakyReLU() for nn.ReLU().",
)
def dead_units(e: Evidence) -> Suspicion | None:
    """Half of a rectified layer or more gives 0 for every row looked at.

    Source: Maas, Hannun, Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013; Lu, Shin,
    Su, Karniadakis, "Dying ReLU and initialization", 2019; the bound is ours, tuned.
    """
    found = first(e, _over("dead", ("relu",), DEAD))
    worst = _worst(found, "dead", ("relu",)) if found is not None else None
    if found is None or worst is None or not room_held_out(e):
        return None
    return Suspicion(f"{worst.dead:.0%} of its units are 0 for every row", worst.name, found.step, late=found.step > 0)


@rule(
    "saturation",
    "Activations are saturated, where their slope is nearly 0",
    (DRAWN, RECTIFIED),
    2.5,
    "either",
    why="At its ends an activation's slope is nearly 0, and with it every gradient that passes.",
    change="Draw the weights smaller (nn.init.xavier_uniform_), standardise the inputs, or take nn.ReLU().",
)
def saturation(e: Evidence) -> Suspicion | None:
    """Half of the values of a sigmoid or tanh layer lie in the outer twentieth of its range.

    Source: Glorot, Bengio, "Understanding the difficulty of training deep feedforward networks", 2010, section 3.
    """
    found = first(e, _over("saturated", ("tanh", "sigmoid"), SATURATED))
    worst = _worst(found, "saturated", ("tanh", "sigmoid")) if found is not None else None
    if found is None or worst is None or not room_held_out(e):
        return None
    return Suspicion(
        f"{worst.saturated:.0%} of its values lie at an end of its range", worst.name, found.step, late=found.step > 0
    )


def _ratio(moment: Look) -> float:
    """The gradient of the first weight over that of the last, root mean squares."""
    gradients = [p.gradient for p in moment.movements if p.weight and math.isfinite(p.gradient)]
    if len(gradients) < 3:
        return 1.0
    return gradients[0] / gradients[-1] if gradients[-1] > 0 else (math.inf if gradients[0] > 0 else 1.0)


@rule(
    "vanishing_gradients",
    "The gradient vanishes on its way to the first layers",
    (RECTIFIED, DRAWN, Remedy(activation="tanh")),
    rank=3,
    why="Every layer multiplies the gradient by its weights and slopes; factors below 1 leave nothing for the first layers.",
    change="Take nn.ReLU() for the activations, with weights drawn for it (nn.init.kaiming_uniform_), or fewer layers.",
)
def vanishing_gradients(e: Evidence) -> Suspicion | None:
    """The first weight's gradient is under a hundredth of the last one's.

    Source: Bengio, Simard, Frasconi, "Learning long-term dependencies with gradient descent is difficult", 1994;
    Glorot, Bengio, 2010; the bound is ours, tuned.
    """
    found = first(e, lambda m: _ratio(m) < VANISHED)
    if found is None or not room(e):
        return None
    name = next(p.name for p in found.movements if p.weight)
    return Suspicion(f"its gradient is {_ratio(found):.2g} of the last weight's", name, found.step, late=found.step > 0)


@rule(
    "exploding_gradients",
    "The gradient explodes",
    (Remedy(clip=1.0), DRAWN),
    rank=3,
    why="Every layer multiplies the gradient by its weights and slopes; factors above 1 make steps that throw the weights about.",
    change="Trainer(..., max_norm=1.0), or draw the weights smaller.",
)
def exploding_gradients(e: Evidence) -> Suspicion | None:
    """The first weight's gradient is a hundred times the last one's, or a weight's is a hundred times too large.

    Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013 (with the
    remedy, clipping the norm); the bounds are ours, tuned.
    """
    found = first(e, lambda m: _ratio(m) > EXPLODED or not all(_bounded(p.gradient) for p in m.movements))
    if found is None or not room(e):
        return None
    worst = max(found.movements, key=lambda p: p.gradient if math.isfinite(p.gradient) else math.inf)
    return Suspicion(
        f"its gradient has a root mean square of {worst.gradient:.3g}", worst.name, found.step, found.step > 0
    )


def _bounded(gradient: float) -> bool:
    return math.isnan(gradient) or gradient < EXPLODED
