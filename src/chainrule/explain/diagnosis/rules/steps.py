"""Rules about the steps: learning rate, batches, what is trained, what holds training back."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from chainrule import nn
from chainrule.explain.diagnosis.evidence import Evidence, Look
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules.rule import WORTH, Suspicion, first, room, room_held_out, rule
from chainrule.explain.diagnosis.task import Score

GOOD_UPDATE = 1e-3
USUAL_RATE = 1e-3  # Adam's default; where SGD learns too, if slowly
STRONG = 0.8  # dropout
TIGHT = 10.0  # times the norm that gradients are clipped to


def update(moment: Look) -> float:
    """The median update of the weights, relative to the weights."""
    ratios = [p.update for p in moment.movements if p.weight and p.trained and math.isfinite(p.update)]
    return float(np.median(ratios)) if ratios else math.nan


def _typical(e: Evidence) -> float:
    """The median over the moments; NaN if there is none."""
    ratios = [ratio for ratio in map(update, e.moments) if math.isfinite(ratio)]
    return float(np.median(ratios)) if ratios else math.nan


def _lower(e: Evidence) -> Iterable[Remedy]:
    """Three decades down, or as many as lead to a usual rate."""
    rate = float(np.max(e.lab.used_rates, initial=0.0))
    decades = math.ceil(math.log10(rate / USUAL_RATE) - 1e-9) if 0 < rate < math.inf else 0
    return [Remedy(lr=float(f"1e-{k}")) for k in range(1, max(3, decades) + 1)]


@rule(
    "learning_rate_too_high",
    "The learning rate is too high",
    _lower,
    4,
    "either",
    why="A step goes beyond the valley it is to descend into, so the loss jumps about or grows.",
    change="optim.{optimizer}(model.parameters(), lr={rate:.3g}).",
)
def learning_rate_too_high(e: Evidence) -> Suspicion | None:
    """Updates of more than a hundredth of the weights, a loss that rises above its start, or one not finite.

    A run that fits its training rows all the same is suspect only from a tenth of the weights on.

    Source: Karpathy, notes to CS231n, 2015 (ratio of updates to weights about 1e-3); the bounds are ours, tuned.
    """
    if not room_held_out(e):
        return None
    losses = e.replay.losses
    if not e.replay.finite:
        step = int(np.argmax(~np.isfinite(losses))) if not np.isfinite(losses).all() else len(losses) - 1
        return Suspicion(f"the training stops being finite at step {step + 1}", step=step)
    large = (10 if room(e) else 100) * GOOD_UPDATE
    found = first(e, lambda m: update(m) > large or m.eval_mode_loss > 1.5 * e.start.eval_mode_loss > 0)
    if found is None:
        return None
    return Suspicion(
        f"at step {found.step + 1} an update is {update(found):.2g} of the weights (1e-3 is usual), "
        f"and the loss {found.eval_mode_loss:.3g} (before training {e.start.eval_mode_loss:.3g})",
        step=found.step,
    )


@rule(
    "learning_rate_too_low",
    "The learning rate is too low",
    tuple(Remedy(lr=factor) for factor in (10.0, 100.0, 1000.0)),
    rank=4,
    why="Steps so short do not get anywhere in the number there are.",
    change="optim.{optimizer}(model.parameters(), lr={rate:.3g}).",
)
def learning_rate_too_low(e: Evidence) -> Suspicion | None:
    """Updates of less than a thousandth of the weights while much is left to learn.

    Source: as for too high.
    """
    if e.poor < 0.3 or not e.replay.finite or not e.lab.used_rates.any():  # no multiple of 0 is longer
        return None
    ratio = _typical(e)
    if not ratio < 3 * GOOD_UPDATE:
        return None
    return Suspicion(
        f"a typical update is {ratio:.2g} of the weights (1e-3 is usual) and {e.poor:.0%} is left to learn"
    )


def _towards_usual(e: Evidence) -> Iterable[Remedy]:
    ratio = _typical(e)
    return (Remedy(lr=float(f"{GOOD_UPDATE / ratio:.1g}")),) if ratio > 0 else ()


@rule(
    "update_to_weight_ratio",
    "Updates have the wrong size for the weights",
    _towards_usual,
    rank=5,
    why="A weight should move by about a thousandth of itself in a step.",
    change="optim.{optimizer}(model.parameters(), lr={rate:.3g}).",
)
def update_to_weight_ratio(e: Evidence) -> Suspicion | None:
    """A typical update beyond a factor of thirty of a thousandth of the weights.

    Source: Karpathy, notes to CS231n, 2015 (about 1e-3).
    """
    ratio = _typical(e)
    if not room(e) or not ratio > 0 or GOOD_UPDATE / 30 < ratio < GOOD_UPDATE * 30:
        return None
    return Suspicion(f"a typical update is {ratio:.2g} of the weights; about 1e-3 is usual")


@rule(
    "gradient_oscillation",
    "The gradient turns back and forth",
    (Remedy(lr=0.3), Remedy(lr=0.1)),
    rank=5,
    why="Steps jump from one side of a valley to the other, and not along it.",
    change="optim.{optimizer}(model.parameters(), lr={rate:.3g}).",
)
def gradient_oscillation(e: Evidence) -> Suspicion | None:
    """After a step the gradient of the same rows points against the one before, at two moments or more.

    Source: LeCun, Bottou, Orr, Mueller, "Efficient BackProp", 1998, section 5 (beyond twice the optimal rate
    gradient descent diverges, between it oscillates).
    """
    turned = [m for m in e.moments if m.turn < -0.3]
    if len(turned) < 2 or not room(e):
        return None
    return Suspicion(
        f"at {len(turned)} of {len(e.moments)} moments the next gradient points the other way (cosine {turned[0].turn:.2f})",
        step=turned[0].step,
    )


def _other_batches(e: Evidence) -> Iterable[Remedy]:
    size, rows = e.lab.position.batch_size, len(e.lab.rows)
    return [Remedy(batch=b) for b in ((16, 64) if size >= 64 else (32,)) if b <= rows]


@rule(
    "bad_batch_size",
    "The batch size is wrong for these data",
    _other_batches,
    rank=4,
    why="Large batches leave few steps, and a gradient of one or two rows is mostly chance.",
    change="fit(..., batch_size={batch}).",
)
def bad_batch_size(e: Evidence) -> Suspicion | None:
    """So large that an epoch has few steps, or so small that every gradient is noise.

    Source: Masters, Luschi, "Revisiting small batch training for deep neural networks", 2018 (2 to 32 do best).
    """
    size, rows = e.lab.position.batch_size, len(e.lab.rows)
    if not room(e) or not (size > rows / 4 or size <= 2):
        return None
    return Suspicion(f"a batch has {size} of {rows} rows, the run took {e.lab.steps} steps")


@rule(
    "frozen_parameters",
    "Parameters are not trained",
    Remedy(thaw=True),
    rank=0,
    why="A weight that no step moves keeps its first, random value.",
    change="Give every parameter to the optimizer (optim.{optimizer}(model.parameters(), ...)) and leave requires_grad on.",
)
def frozen_parameters(e: Evidence) -> Suspicion | None:
    """A weight without a gradient, or one that the optimizer was not given.

    Source: our own; a fact about the program rather than a threshold.
    """
    frozen = [p.name for p in e.start.movements if p.weight and not p.trained]
    if not frozen or not room(e):
        return None
    return Suspicion(f"{len(frozen)} weight(s) get no gradient or are not among the optimizer's parameters", frozen[0])


@rule(
    "train_eval_difference",
    "Dropout is so strong that the network cannot learn under it",
    (Remedy(dropout=0.0), Remedy(dropout=0.2)),
    rank=3,
    why="Units left out at random are noise that the network has to learn through; too much of it drowns the signal.",
    change="nn.Dropout({dropout:g}).",
)
def train_eval_difference(e: Evidence) -> Suspicion | None:
    """With dropout on, the loss is a tenth higher than with it off; or dropout leaves a fifth of the units.

    Source: Srivastava et al., "Dropout", 2014, section 7.3 (0.5 for hidden units, 0.2 for inputs is usual).
    """
    strongest = max((m.p for m in e.lab.model.modules() if isinstance(m, nn.Dropout)), default=0.0)
    found = first(e, lambda m: m.train_mode_loss > 1.1 * m.eval_mode_loss or strongest >= STRONG)
    if strongest == 0 or found is None or not room(e):
        return None
    return Suspicion(
        f"dropout is {strongest:g}; the loss of the same rows is {found.train_mode_loss:.3g} with it and "
        f"{found.eval_mode_loss:.3g} without",
        step=found.step,
    )


@rule(
    "regularisation_too_strong",
    "Weight decay is so strong that little is learned",
    Remedy(decay=0.0),
    rank=4,
    why="Decay pulls every weight to 0 at every step; above some strength it wins against the loss.",
    change="optim.{optimizer}(..., weight_decay={decay:g}).",
)
def regularisation_too_strong(e: Evidence) -> Suspicion | None:
    """A weight decay above 1e-3 while much is left to learn on the training rows.

    Source: Goodfellow, Bengio, Courville, "Deep learning", 2016, section 7.1; the bound is ours.
    """
    decay = max(float(g.get("weight_decay", 0.0)) for g in e.lab.optimizer.param_groups)
    if decay < 1e-3 or not room(e):
        return None
    return Suspicion(f"weight decay is {decay:g} and {e.poor:.0%} is left to learn on the training rows")


@rule(
    "clipping_too_tight",
    "Gradients are clipped to so small a norm that little is learned",
    (Remedy(clip=math.inf), Remedy(clip=1.0)),
    rank=3.5,
    why="Gradients cut to so small a norm make steps of one small length, whatever the slope.",
    change="Trainer(..., max_norm={norm}).",
)
def clipping_too_tight(e: Evidence) -> Suspicion | None:
    """At most moments the gradient's norm is ten times the norm that it is clipped to.

    Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013, section 3.2 (a
    threshold of half to ten times the average norm); the bound is ours.
    """
    limit = e.lab.start.settings.max_norm
    norms = [m.norm for m in e.moments if math.isfinite(m.norm)]
    if limit is None or not norms or not room(e) or float(np.median(norms)) < TIGHT * limit:
        return None
    return Suspicion(f"gradients are clipped to norm {limit:g}; without, their norm is {float(np.median(norms)):.3g}")


def _stops(e: Evidence) -> Iterable[Remedy]:
    step, _ = _peak(e)
    dropouts = any(isinstance(m, nn.Dropout) for m in e.lab.model.modules())
    yield Remedy(stop=max(step, 1) / e.lab.steps)
    if any("weight_decay" in g for g in e.lab.optimizer.param_groups):
        yield Remedy(decay=0.01)
    if dropouts:
        yield Remedy(dropout=0.5)


def _peak(e: Evidence) -> tuple[int, Score]:
    """The step after which rows held out did best, and how well."""
    return max(e.course, key=lambda glance: glance[1].learned)


@rule(
    "overfitting",
    "The run learns its training rows by heart",
    _stops,
    rank=4,
    measure="held_out",
    why="The network has enough weights to learn each training row by heart, which says nothing of other rows.",
    change="Stop earlier (fewer epochs), regularise (nn.Dropout, weight_decay), take a smaller network, or more rows.",
)
def overfitting(e: Evidence) -> Suspicion | None:
    """Rows held out do worse at the end than on the way, and worse than the training rows.

    Worse is meant in what is learned, the mean of likelihood and accuracy: a likelihood that falls a little while as
    many rows are right as before is a network that became too sure, and no reason to stop it.

    Source: Prechelt, "Early stopping - but when?", 1998 (the loss on held-out rows rises above its minimum); the
    bounds are ours. The moment to stop is chosen on the same rows that measure the effect.
    """
    step, best = _peak(e)
    end = e.course[-1][1]
    if e.replay.train.learned - e.replay.val.learned < WORTH or best.learned - end.learned < WORTH:
        return None
    return Suspicion(
        f"the rows held out were at their best ({best}) after step {step} and end at {end}, "
        f"while the training rows end at {e.end.train}",
        step=step,
    )


_FRESH = tuple(Remedy(init=True, inputs=True, lr=factor) for factor in (1.0, 0.1, 10.0))


@rule(
    "loss_not_falling",
    "The loss does not fall",
    _FRESH,
    rank=5,
    why="No single cause was found for it.",
    change="Start from weights drawn anew, standardised inputs and another learning rate, and change one thing at a time.",
)
def loss_not_falling(e: Evidence) -> Suspicion | None:
    """The loss after training is within two parts in a hundred of the loss before.

    Source: our own; the symptom that every published tool reports.
    """
    before, after = e.start.eval_mode_loss, e.end.eval_mode_loss
    if not room(e) or after < 0.98 * before:
        return None
    return Suspicion(f"the loss of the same rows was {before:.4g} before and is {after:.4g} after training")


@rule(
    "cannot_overfit_one_batch",
    "The network cannot even learn one batch by heart",
    _FRESH,
    rank=5,
    why="A network that cannot learn 16 rows has a fault of its own: in the layers, the loss or the step.",
    change="Start from weights drawn anew, standardised inputs and another learning rate, and change one thing at a time.",
)
def cannot_overfit_one_batch(e: Evidence) -> Suspicion | None:
    """Trained on 16 rows alone for eight hundred steps, it does not learn nine tenths of them.

    Source: Karpathy, "A recipe for training neural networks", 2019 (overfit one batch).
    """
    if e.poor < 0.5:
        return None
    learned = e.lab.one_batch().learned
    if learned > 0.9:
        return None
    return Suspicion(f"trained on 16 rows alone it learns {max(0.0, learned):.0%} of them")
