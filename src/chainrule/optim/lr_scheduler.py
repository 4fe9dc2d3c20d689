"""The schedules under PyTorch's address: ``from chainrule.optim.lr_scheduler import StepLR``."""

from chainrule.names import classes_take_keywords, module_getattr
from chainrule.optim.composed import ChainedScheduler, SequentialLR
from chainrule.optim.cycles import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from chainrule.optim.schedules import (
    ConstantLR,
    CosineAnnealingLR,
    CosLogLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosLogLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

_LRScheduler = LRScheduler  # its name before PyTorch 2.0, which scripts derive from
classes_take_keywords("lr_scheduler", [globals()[name] for name in __all__])
__getattr__ = module_getattr("lr_scheduler", __name__)
