"""Whether the rates of a schedule can be worked out before their time."""

from __future__ import annotations

from chainrule.optim import schedules as s
from chainrule.optim.composed import ChainedScheduler, SequentialLR
from chainrule.optim.cycles import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR

_BY_COUNT = frozenset(
    {
        s.MultiStepLR, s.StepLR, s.ExponentialLR, s.ConstantLR, s.LinearLR, s.PolynomialLR, s.CosineAnnealingLR, s.CosLogLR,
        CosineAnnealingWarmRestarts, OneCycleLR, CyclicLR,
    }
)  # fmt: skip


def is_ahead(schedule: object) -> bool:
    """Does it ask for nothing but how often it was stepped, and write nothing but rates?

    Not where a function of the user's or a measure has a say, nor in a class that overrides one of these.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.optim.lr_scheduler import LambdaLR, StepLR
        >>> opt = cr.optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0)
        >>> is_ahead(StepLR(opt, 10)), is_ahead(LambdaLR(opt, lambda epoch: 1.0))
        (True, False)
    """
    if isinstance(schedule, (SequentialLR, ChainedScheduler)):
        return type(schedule) in (SequentialLR, ChainedScheduler) and all(map(is_ahead, schedule.schedules))
    if isinstance(schedule, s.LRScheduler) and schedule.writes_momentum():
        return False
    return type(schedule) in _BY_COUNT and getattr(schedule, "scale_fn", None) is None
