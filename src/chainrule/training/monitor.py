"""Which measure is watched, and which of two of its values is the better one."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from chainrule.errors import SettingError
from chainrule.training.metrics import METRICS, direction

MODES = ("auto", "min", "max")


class Monitor:
    """One measure of the history, watched.

    Args:
        name: as in the history: ``"val_loss"``.
        mode: ``"min"`` where less is better, ``"max"`` where more is; ``"auto"`` knows it of the loss and of metrics
            that were given by name.
        min_delta: what is better by no more than this is not better.

    Raises:
        SettingError: an argument that cannot be.

    Example:
        >>> watched = Monitor("val_loss", min_delta=0.01)
        >>> watched.better(0.5, None), watched.better(0.48, 0.5), watched.better(0.495, 0.5)
        (True, True, False)
    """

    def __init__(self, name: str, mode: str = "auto", min_delta: float = 0.0, who: str = "Monitor") -> None:
        if not isinstance(name, str):
            raise SettingError(f"{who}: monitor must be the name of a measure such as 'val_loss', got {name!r}.")
        if mode not in MODES:
            raise SettingError(f"{who}: mode must be 'auto', 'min' or 'max', got {mode!r}.")
        self.name, self.who = name, who
        self.min_delta = abs(as_number(min_delta, who, "min_delta"))
        found = direction(name.removeprefix("val_")) if mode == "auto" else mode
        if found is None:
            full = [known for known in METRICS if known.startswith(name.removeprefix("val_").lower())]
            meant = f" Did you mean {'val_' * name.startswith('val_')}{full[0]}?" if len(full) == 1 else ""
            raise SettingError(
                f"{who}: whether more or less of {name!r} is better is not known.{meant} Say it with mode='max' or mode='min'."
            )
        self.mode = found

    def better(self, value: float, than: float | None) -> bool:
        """Is the value better than the other by more than `min_delta`? Better than none is any but NaN."""
        if than is None:
            return not math.isnan(value)
        # NaN is neither above nor below anything.
        return value - self.min_delta > than if self.mode == "max" else value + self.min_delta < than

    def no_worse(self, value: float, than: float | None) -> bool:
        """Is the value as good as the other, or better by however little? No worse than none is any but NaN."""
        if than is None or math.isnan(value):
            return not math.isnan(value)
        return value >= than if self.mode == "max" else value <= than

    def check(self, names: Collection[str]) -> None:
        """Raise `SettingError` unless the training measures it; `names`: what it measures."""
        if self.name not in names:
            remedy = "Pass validation_data= or validation_split=, or watch" if self.name[:4] == "val_" else "Watch"
            raise SettingError(
                f"{self.who}: this training measures no {self.name!r}. {remedy} one of: {', '.join(sorted(names))}."
            )


def as_number(value: Any, who: str, name: str, least: float = 0.0) -> float:
    """A finite number of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__float__") or isinstance(value, str):
        found = math.nan
    else:
        found = float(value)
    if not math.isfinite(found) or found < least:
        raise SettingError(f"{who}: {name} must be a number of {least:g} or more, got {value!r}.")
    return found


def as_count(value: Any, who: str, name: str, least: int = 0) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise SettingError(f"{who}: {name} must be a whole number, {least} or more, got {value!r}.")
    return int(value)
