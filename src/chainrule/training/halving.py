"""Successive halving: many trainings begin, and after ever more epochs ever fewer of them go on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from chainrule.errors import SettingError, unknown_name
from chainrule.training.history import History
from chainrule.training.monitor import Monitor, as_count


class Halving:
    """How a `sweep` thins out its trainings, after Jamieson and Talwalkar.

    All are trained for a few epochs; of n of them the best ``ceil(n / factor)`` go on to `factor` times as many, and so on;
    those of the last round are trained to the end. One that goes on has the bits of a training of its own.

    Args:
        factor: what is left after a round is this part of what began it; rounds grow longer by the same factor. scikit-learn's
            name; 3 is the usual choice.
        min_epochs: of the first round, at least.
        monitor, mode: what makes a training the better one, as for `EarlyStopping`: its value after the latest epoch.

    Raises:
        SettingError: an argument that cannot be.

    Source: K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.

    Example:
        >>> Halving(3).rounds(30), Halving(2, min_epochs=5).rounds(30)
        ([1, 3, 10, 30], [7, 15, 30])
    """

    def __init__(self, factor: int = 3, min_epochs: int = 1, monitor: str = "val_loss", mode: str = "auto") -> None:
        self.factor = as_count(factor, "Halving", "factor", 2)
        self.min_epochs = as_count(min_epochs, "Halving", "min_epochs", 1)
        self.monitor = Monitor(monitor, mode, who="Halving")

    def rounds(self, epochs: int) -> list[int]:
        """The epochs after which each round ends."""
        found = [epochs]
        while found[0] // self.factor >= self.min_epochs:
            found.insert(0, found[0] // self.factor)
        return found

    def sizes(self, trainings: int, rounds: int) -> list[int]:
        """How many trainings each round has.

        >>> Halving(3).sizes(10, 4)
        [10, 4, 2, 1]
        """
        found = [trainings]
        while len(found) < rounds:
            found.append(math.ceil(found[-1] / self.factor))
        return found

    def best(self, histories: Mapping[int, History], count: int) -> list[int]:
        """The numbers of the best, so many, in order; of equal ones the first.

        Raises:
            UnknownNameError: a training does not measure what is watched.
        """
        name, sign = self.monitor.name, -1.0 if self.monitor.mode == "max" else 1.0
        for history in histories.values():
            if name not in history:
                raise unknown_name("measure", name, list(history))
        value = {number: sign * history[name][-1] for number, history in histories.items()}
        ranked = sorted(value, key=lambda number: (math.isnan(value[number]), value[number], number))
        return sorted(ranked[:count])


def as_halving(given: object) -> Halving | None:
    """What `sweep` was given: a `Halving`, a factor, or none.

    Raises:
        SettingError: something else.
    """
    if given is None or isinstance(given, Halving):
        return given
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise SettingError(f"sweep: halving must be a Halving, or its factor, got {given!r}. Pass cr.Halving(3).")
    return Halving(given.__index__())


def described(halving: Halving | None, epochs: Sequence[int]) -> list[object]:
    """What tells one halving from another."""
    return [] if halving is None else [halving.factor, list(epochs), halving.monitor.name, halving.monitor.mode]
