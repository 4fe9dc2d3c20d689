"""What a Trainer says about itself, offered here and told by the room to the right (`explain` fills it in)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Explainer:
    """The functions behind the methods below; each takes the trainer first."""

    run: Callable[..., Any]
    report: Callable[..., Any]


class Explained:
    """The methods of a Trainer that look back at its training."""

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
