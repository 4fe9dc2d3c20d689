"""Estimators that hold a trained module: what of it a pickle takes along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule.nn import Module
from chainrule.training import Trainer


class HoldsTrainer:
    """A pickle is without the trainer, which holds the rows of its fit; with what makes one that goes on."""

    module_: Module
    trainer_: Trainer

    def _made_again(self, loss: Any, optimizer: Any) -> Trainer:
        """The trainer of the module that stands."""
        raise NotImplementedError

    def __getstate__(self) -> Any:
        state = {**super().__getstate__()}  # type: ignore[misc]
        trainer = state.pop("trainer_", None)
        return {**state, "_made_of": (trainer.loss, trainer.optimizer)} if trainer is not None else state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        state = dict(state)
        made_of = state.pop("_made_of", None)
        super().__setstate__(state)  # type: ignore[misc]
        if made_of is not None:
            self.trainer_ = self._made_again(*made_of)
            self.trainer_.session.history = self.history_  # type: ignore[attr-defined]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")
