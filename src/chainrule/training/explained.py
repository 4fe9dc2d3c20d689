"""What a Trainer says about itself, offered here and told by the room to the right (`explain` fills it in)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Explainer:
    """The functions behind the methods below; each takes the trainer first."""

    diagnose: Callable[..., Any]
    run: Callable[..., Any]


class Explained:
    """The methods of a Trainer that look back at its training."""

    def diagnose(self) -> Any:
        """What is wrong with the latest `fit`, each finding confirmed by replaying it with the remedy applied.

        Returns:
            A `chainrule.explain.diagnosis.Diagnosis`: print it, or take ``.as_dict()``; true if something is
            wrong. The trainer stays as it is.

        Raises:
            SettingError: nothing was fitted, or the training was only loaded from a file.
        """
        return Explainer.diagnose(self)

    @property
    def run(self) -> Any:
        """The recorded training of the latest ``fit(..., record=...)``: a `chainrule.explain.Run`.

        Raises:
            ReplayError: the latest fit kept no record.
        """
        return Explainer.run(self)
