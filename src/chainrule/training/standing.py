"""Where a training stands, whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.optim import Optimizer
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

    def name(self, optimizer: Optimizer) -> str:
        """A name for all of it, and the kind of optimizer that goes on from here."""
        total = hashlib.blake2b(digest_size=16)
        settings = json.dumps(self.settings.as_dict(), sort_keys=True, default=repr)
        total.update(f"{type(optimizer).__name__} {self.position} {settings}".encode())
        for _, value in self.values:
            total.update(f"{value.dtype.str} {value.shape}".encode())
            total.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        return total.hexdigest()
