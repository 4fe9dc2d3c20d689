"""Callbacks: your own code, and what most trainings want, while `fit` runs.

>>> from chainrule.callbacks import EarlyStopping
>>> stopping = EarlyStopping(monitor="val_loss", patience=5, restore_best_weights=True)
"""

from chainrule.training.callbacks.base import Callback, EpochFunction, Watching, as_callbacks, begin
from chainrule.training.callbacks.checkpoint import Checkpoint
from chainrule.training.callbacks.stopping import EarlyStopping
from chainrule.training.monitor import Monitor

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "EpochFunction", "Monitor", "Watching", "as_callbacks", "begin"]
