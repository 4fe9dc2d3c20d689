"""Rules about learning rates of 0: nothing moves, or a part of the parameters, or from some step on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from chainrule.explain.diagnosis.evidence import Evidence
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules.rule import Suspicion, room, rule

USUAL = (1e-3, 1e-2, 1e-1)  # rates to try where the run has none
LONG = 0.25  # of the steps; a schedule may end at 0, or warm up from it


def _others(e: Evidence) -> Iterable[Remedy]:
    """The largest rate of the run, and a tenth of it."""
    largest = float(e.lab.used_rates.max())
    return [Remedy(rate=float(f"{largest * part:.3g}")) for part in (1.0, 0.1)]


def _weights(e: Evidence, group: int) -> list[str]:
    """The names of a group's parameters, as the model has them."""
    members = {id(p) for p in e.lab.optimizer.param_groups[group]["params"]}
    return [name for name, p in e.lab.model.named_parameters() if id(p) in members]


@rule(
    "learning_rate_zero",
    "The learning rate is 0",
    tuple(Remedy(rate=rate) for rate in USUAL),
    rank=0,
    why="A step is the learning rate times a direction: with 0 no parameter moves, whatever the gradient.",
    change="optim.{optimizer}(model.parameters(), lr={rate:.3g}).",
)
def learning_rate_zero(e: Evidence) -> Suspicion | None:
    """Every group of the optimizer has learning rate 0 at every step.

    Source: our own; a fact about the program rather than a threshold.
    """
    rates = e.lab.used_rates
    if rates.any() or not room(e):
        return None
    return Suspicion(f"the learning rate is 0 at all {len(rates)} steps, so no parameter moves")


@rule(
    "group_with_rate_zero",
    "A group of the optimizer has learning rate 0",
    _others,
    rank=0,
    why="The parameters of such a group keep the values they began with; the others must do without them.",
    change='Give the group of {where} a rate of its own: {{"params": ..., "lr": {rate:.3g}}}.',
)
def group_with_rate_zero(e: Evidence) -> Suspicion | None:
    """One group of the optimizer has learning rate 0 at every step, and another has not.

    Source: our own; a fact about the program rather than a threshold.
    """
    rates = e.lab.used_rates
    if not rates.any() or not room(e):
        return None
    still = [(i, _weights(e, i)) for i in np.flatnonzero(~rates.any(axis=0)).tolist()]
    found = next(((i, names) for i, names in still if names), None)
    if found is None:
        return None
    group, names = found
    return Suspicion(
        f"group {group} of {rates.shape[1]}, with {len(names)} parameter(s) of the model, has learning rate 0 at all "
        f"{len(rates)} steps; the largest rate of the others is {rates.max():.3g}",
        names[0],
    )


@rule(
    "schedule_at_zero",
    "The schedule holds the learning rate at 0 for a large part of the run",
    _others,
    rank=0,
    why="The steps at rate 0 change nothing: the run is as long as the others.",
    change="Let the schedule last as long as fit ({epochs} epochs: T_max, total_iters), or end above 0 (eta_min, end_factor); "
    "measured with a rate of {rate:.3g} in its place.",
)
def schedule_at_zero(e: Evidence) -> Suspicion | None:
    """A group that moves has learning rate 0 in a quarter of the steps or more.

    Source: our own; usual schedules are at 0 for a step or an epoch, at their end or where they begin.
    """
    rates = e.lab.used_rates
    moving = rates[:, rates.any(axis=0)]
    if not moving.size or not room(e):
        return None
    zero = moving[:, int(np.argmax((moving == 0).sum(axis=0)))] == 0
    if zero.mean() < LONG:
        return None
    first, count = int(np.argmax(zero)), int(zero.sum())
    return Suspicion(
        f"the learning rate is 0 at {count} of {len(zero)} steps, first at step {first + 1}; its largest is {moving.max():.3g}",
        step=first,
    )
