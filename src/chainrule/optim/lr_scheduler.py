"""The schedules under PyTorch's address: ``from chainrule.optim.lr_scheduler import StepLR``."""

from chainrule.names import module_getattr
from chainrule.optim.schedules import *  # noqa: F403 - all of them, also those that come

__getattr__ = module_getattr("lr_scheduler", __name__)
