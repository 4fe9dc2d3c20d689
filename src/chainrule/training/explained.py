"""What a Trainer says about itself, offered here and told by the room to the right (`explain` fills it in)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Explainer:
    """The functions behind the methods below; each takes the trainer first."""

    run: Callable[..., Any]


class Explained:
    """The methods of a Trainer that look back at its training."""

    @property
    def run(self) -> Any:
        """The recorded training of the latest ``fit(..., record=...)``: a `chainrule.explain.Run`.

        Raises:
            ReplayError: the latest fit kept no record.
        """
        return Explainer.run(self)
