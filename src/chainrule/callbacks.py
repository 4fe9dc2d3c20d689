"""Callbacks for `Trainer.fit`: ``from chainrule.callbacks import EarlyStopping``."""

from chainrule.training.callbacks import *  # noqa: F403 - all of them, also those that come
