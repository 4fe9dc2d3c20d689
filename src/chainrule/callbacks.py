"""Callbacks for `Trainer.fit`: ``from chainrule.callbacks import EarlyStopping``."""

from chainrule.names import module_getattr
from chainrule.training.callbacks import *  # noqa: F403 - all of them, also those that come

__getattr__ = module_getattr("callbacks", __name__)
