"""Where a training stands, whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chainrule.tensor import Tensor
from chainrule.training import state
from chainrule.training.attributes import Attributes
from chainrule.training.position import Position
from chainrule.training.settings import Settings


@dataclass(frozen=True)
class Standing:
    """Where a training stands, whole: what it takes to go back there.

    Attributes:
        values, gradients: of every tensor that a step changes.
        parameters: those that must stay finite.
        attributes: which names hold them.
        layout: which tensors are the optimizer's state.
        settings: what shapes a step beside them.
        epochs, steps: how much of the history is of it.
        callbacks: where each stands.
    """

    values: state.Snapshot
    gradients: state.Gradients
    parameters: Sequence[Tensor]
    attributes: Attributes
    layout: state.Layout
    settings: Settings
    position: Position | None
    epochs: int
    steps: int
    callbacks: tuple[dict[str, Any], ...] = ()
