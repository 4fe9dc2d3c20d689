"""What keywords of other libraries' ``fit``, ``evaluate`` and ``predict`` are called here."""

from __future__ import annotations

from typing import Final

_DATA: Final = {
    "x": "The rows are X.",
    "data": "The rows are X.",
    "targets": "The targets are y.",
    "labels": "The targets are y.",
}
FIT: Final = {
    **_DATA,
    "verbose": "Use progress=False for silence, progress=True for a bar.",
    "nb_epoch": "Use epochs.",
    "n_epochs": "Use epochs.",
    "num_epochs": "Use epochs.",
    "max_epochs": "Use epochs.",
    "random_state": "Use seed.",
    "eval_set": "Use validation_data=(X, y).",
    "lr": "The learning rate is the optimizer's.",
}
MEASURE: Final = {**_DATA, "verbose": "Nothing is shown: leave it out."}
