"""What a Trainer says about itself, offered here and told by the room to the right (`explain` fills it in)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Explainer:
    """The functions behind the methods below; each takes the trainer first."""

    diagnose: Callable[..., Any]
    run: Callable[..., Any]
    report: Callable[..., Any]


def _by_address(method: F) -> F:
    """Decorates a method: a call that it does not take is told how a weight and a step are named."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = inspect.signature(method).bind(*args, **kwargs)
        except TypeError:
            name = method.__name__
            raise TypeError(
                f"{name}: takes a weight, its name and index in one text, and a step: "
                f"trainer.{name}('0.weight[3, 7]', step=0)."
            ) from None
        return method(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]


class Explained:
    """The methods of a Trainer that look back at its training."""

    def diagnose(self) -> Any:
        """What is wrong with the latest `fit`, each finding confirmed by replaying it with the remedy applied.

        Returns:
            A `chainrule.explain.diagnosis.Diagnosis`: print it, or take ``.as_dict()``; true if something is
            wrong. The trainer stays as it is.

        Raises:
            SettingError: nothing was fitted, or the training was only loaded from a file.
            DataError: the rows were changed in place since `fit`.
        """
        return Explainer.diagnose(self)

    @property
    def run(self) -> Any:
        """The recorded training of the latest ``fit(..., record=...)``: a `chainrule.explain.Run`.

        Raises:
            ReplayError: the latest fit kept no record.
        """
        return Explainer.run(self)

    def report(self, path: Any = None, **options: Any) -> Any:
        """The page of the latest `fit`: one HTML file that shows the network, every gradient and the training.

        Train with ``fit(..., record=True)`` for a page of many steps. In a notebook, the result shows by itself.

        Args:
            path: where to write it; None only returns it.
            options: ``data``, ``title``, ``class_names``, ``image_shape``, ``frames``, ``diagnosis``, ``checks``,
                ``budget``: see `chainrule.explain.report.report`.

        Raises:
            SettingError: nothing was trained yet.
        """
        return Explainer.report(self, path, **options)

    @_by_address
    def explain(self, address: str, step: int = -1) -> Any:
        """The chain rule for one weight's gradient at a recorded step; see `chainrule.explain.Run.explain`.

        Args:
            address: ``"0.weight[3, 7]"``; without an index, the element of largest gradient.
            step: counted from 0; negative from the end.
        """
        return self.run.explain(address, step)

    @_by_address
    def ledger(self, address: str, step: int = -1) -> Any:
        """Why a weight moved as it did at a recorded step; see `chainrule.explain.Run.ledger`."""
        return self.run.ledger(address, step)

    def gradient_flow(self, name: str | None = None, step: int = -1) -> Any:
        """Where the gradient went at a recorded step; see `chainrule.explain.Run.gradient_flow`."""
        return self.run.gradient_flow(name, step)

    def what_if(self, step: int, steps: int = 20, **changes: Any) -> Any:
        """The training from a recorded step on, with something changed; see `chainrule.explain.Run.what_if`."""
        return self.run.what_if(step, steps, **changes)
