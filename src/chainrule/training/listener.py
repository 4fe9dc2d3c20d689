"""Who goes along with a training: what a session and its compiled steps ask of a callback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.tensor import Tensor


class Listener:
    """The part of a callback that belongs to the state of a training, and to its compiled step."""

    @property
    def kind(self) -> str:
        """By which it finds, among what callbacks saved, what one of its kind did."""
        return type(self).__name__

    def after_step(self) -> None:
        """After each update, in the compiled step itself: operations on tensors."""

    def tensors(self) -> Sequence[Tensor]:
        """Those that `after_step` changes."""
        return ()

    def instead(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Tensors, each with the parameter whose place it takes in validation, and in weights that are kept for it."""
        return ()

    def close(self) -> None:
        """The fit is over, whatever ended it."""

    def reset(self) -> None:
        """A new training begins: forget what an earlier one left."""

    def state_dict(self) -> dict[str, Any]:
        """What it takes to go on from here: plain values, lists, dicts and tensors, none of which changes afterwards."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, perhaps by way of a file."""
