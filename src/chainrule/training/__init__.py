"""Training: the Trainer, what it measures, shows and saves."""

from chainrule.training.callbacks import Callback, Checkpoint, EarlyStopping
from chainrule.training.checkpoints import load_file, save_file
from chainrule.training.history import History
from chainrule.training.metrics import METRICS
from chainrule.training.trainer import Trainer

__all__ = [
    "METRICS",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "Trainer",
    "load_file",
    "save_file",
]
