"""Rules about where the training starts."""

from __future__ import annotations

import math

from chainrule.explain.diagnosis.evidence import Evidence
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules.rule import Suspicion, room, room_held_out, rule

LARGE, SMALL = 3.0, 0.12  # times 1 / sqrt(fan_in); usual starts have 0.58 to 1.41
DRAWN = Remedy(init=True)


@rule(
    "symmetric_initialisation",
    "The units of a layer start alike and stay alike",
    DRAWN,
    rank=0,
    why="Units with equal weights get equal gradients, so they stay equal: the layer counts as a single unit.",
    change="Leave {where} as the layer draws it, or draw it at random: nn.init.kaiming_uniform_(weight).",
)
def symmetric_initialisation(e: Evidence) -> Suspicion | None:
    """A weight whose rows are all equal (constant or zero): its units get the same gradient forever.

    Source: Goodfellow, Bengio, Courville, "Deep learning", 2016, section 8.4 (break symmetry).
    """
    alike = [p.name for p in e.start.movements if p.alike]
    if not alike or not room(e):
        return None
    return Suspicion(f"all rows of {len(alike)} weight(s) are equal before the first step", alike[0])


@rule(
    "initialisation_too_large",
    "The weights start too large",
    DRAWN,
    2,
    "either",
    why="Signals grow from layer to layer, activations run to their ends, and the first losses are far too large.",
    change="Leave {where} as the layer draws it, or draw it with nn.init.kaiming_uniform_ or xavier_uniform_.",
)
def initialisation_too_large(e: Evidence) -> Suspicion | None:
    """A standard deviation of several times 1 / sqrt(fan_in).

    Source: Glorot, Bengio, 2010; He, Zhang, Ren, Sun, 2015 (1 to 1.41); the bound is ours, tuned.
    """
    weights = [p for p in e.start.movements if p.weight]
    worst = max(weights, key=lambda p: p.scale, default=None)
    if worst is None or worst.scale < LARGE or not room_held_out(e):
        return None
    return Suspicion(
        f"its standard deviation is {worst.scale:.3g} / sqrt(fan_in) before the first step; 0.58 to 1.41 is usual",
        worst.name,
    )


@rule(
    "initialisation_too_small",
    "The weights start too small",
    DRAWN,
    2,
    "either",
    why="Signals and gradients shrink from layer to layer, so that the first layers hardly move.",
    change="Leave {where} as the layer draws it, or draw it with nn.init.kaiming_uniform_ or xavier_uniform_.",
)
def initialisation_too_small(e: Evidence) -> Suspicion | None:
    """A standard deviation of a small part of 1 / sqrt(fan_in).

    Source: as for too large.
    """
    weights = [p for p in e.start.movements if p.weight and not p.alike]
    worst = min(weights, key=lambda p: p.scale, default=None)
    if worst is None or worst.scale > SMALL or not room_held_out(e):
        return None
    return Suspicion(
        f"its standard deviation is {worst.scale:.3g} / sqrt(fan_in) before the first step; 0.58 to 1.41 is usual",
        worst.name,
    )


@rule(
    "loss_at_start",
    "The first loss is far above that of a network that knows nothing",
    (DRAWN, Remedy(init=True, inputs=True)),
    rank=5,
    why="The network begins by being sure of wrong answers, and has to unlearn them first.",
    change="Draw the last layer's weights smaller, or standardise the inputs.",
)
def loss_at_start(e: Evidence) -> Suspicion | None:
    """A first loss of more than twice ln K for K equally frequent classes.

    Source: Karpathy, "A recipe for training neural networks", 2019 (verify the loss at initialisation).
    """
    if e.task.loss != "cross_entropy" or not room(e):
        return None
    expected = math.log(max(2, e.task.classes))
    if not e.start.eval_mode_loss > 2 * expected:
        return None
    return Suspicion(
        f"the loss before the first step is {e.start.eval_mode_loss:.3g}; ln {e.task.classes} = {expected:.3g}"
    )
