"""Callbacks: your own code, and what most trainings want, while `fit` runs.

>>> from chainrule.callbacks import EarlyStopping
>>> stopping = EarlyStopping(monitor="val_loss", patience=5, restore_best_weights=True)
"""

from chainrule.names import classes_take_keywords
from chainrule.training.callbacks.averaging import EMA
from chainrule.training.callbacks.base import Callback, EpochFunction, Watching
from chainrule.training.callbacks.base import as_callbacks as as_callbacks
from chainrule.training.callbacks.base import asks_for_the_end as asks_for_the_end
from chainrule.training.callbacks.base import begin as begin
from chainrule.training.callbacks.base import riders as riders
from chainrule.training.callbacks.checkpoint import Checkpoint
from chainrule.training.callbacks.checkpoint import with_checkpoints as with_checkpoints
from chainrule.training.callbacks.limits import Freeze, TimeLimit
from chainrule.training.callbacks.logs import CSVLogger, EpochLog, MLflow, TensorBoard, WandB
from chainrule.training.callbacks.stopping import EarlyStopping
from chainrule.training.monitor import Monitor

classes_take_keywords("", [EMA, CSVLogger, Freeze, MLflow, Monitor, TensorBoard, TimeLimit, Watching])

__all__ = [
    "EMA", "CSVLogger", "Callback", "Checkpoint", "EarlyStopping", "EpochFunction", "EpochLog", "Freeze", "MLflow", "Monitor",
    "TensorBoard", "TimeLimit", "WandB", "Watching",
]  # fmt: skip
