"""The schedules under PyTorch's address: ``from chainrule.optim.lr_scheduler import StepLR``."""

from chainrule.names import classes_take_keywords, module_getattr
from chainrule.optim.schedules import *  # noqa: F403 - all of them, also those that come
from chainrule.optim.schedules import LRScheduler, ReduceLROnPlateau

_LRScheduler = LRScheduler  # its name before PyTorch 2.0, which scripts derive from
_KINDS = [kind for kind in list(globals().values()) if isinstance(kind, type) and issubclass(kind, LRScheduler)]
classes_take_keywords("lr_scheduler", [*_KINDS, ReduceLROnPlateau])
__getattr__ = module_getattr("lr_scheduler", __name__)
