"""Everything a training step changes, and going back to how it was."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.nn import Module
from chainrule.optim import Optimizer
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.tensor.random import default_generator
from chainrule.training.steps import Feed

Array = np.ndarray[Any, Any]
Snapshot = list[tuple[Tensor, Array]]


def optimized(optimizer: Optimizer) -> list[Tensor]:
    """Every tensor that the optimizer moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@dataclass
class Start:
    """Where a `fit` began: what repeating it exactly needs beside its position."""

    values: Snapshot
    settings: list[dict[str, Any]]  # of each parameter group, its tensors left out
    training: Feed | None = None
    validation: Feed | None = None

    @classmethod
    def of(cls, model: Module, optimizer: Optimizer) -> Start:
        """The values and the optimizer's settings now."""
        groups = optimizer.param_groups
        return cls(snapshot(model, optimizer), [{k: v for k, v in g.items() if k != "params"} for g in groups])

    def fed(self, training: Feed, validation: Feed | None) -> None:
        """Remember the rows."""
        self.training, self.validation = training, validation


def weights(model: Module, optimizer: Optimizer) -> Iterator[Tensor]:
    """Parameters, buffers and whatever else is optimized, each once."""
    return _once(model.parameters(), model.buffers(), optimized(optimizer))


def handles(model: Module, optimizer: Optimizer) -> Iterator[Tensor]:
    """The weights, the optimizer's state and the random counter, each once."""
    moments = (value for state in optimizer.state.values() for value in state.values())
    return _once(weights(model, optimizer), moments, [default_generator.state])


def _once(*sources: Iterable[Tensor]) -> Iterator[Tensor]:
    seen: set[int] = set()
    for source in sources:
        for handle in source:
            if id(handle) not in seen:
                seen.add(id(handle))
                yield handle


def snapshot(model: Module, optimizer: Optimizer) -> Snapshot:
    """The values now of everything a step changes."""
    return values(handles(model, optimizer))


def values(of: Iterable[Tensor]) -> Snapshot:
    """The values now. Values never change in place, so this copies nothing: the next step moves on to new memory."""
    return [(handle, handle._node.value) for handle in of]


def restore(saved: Snapshot) -> None:
    """Every handle back to its value in the snapshot."""
    with no_grad():
        for handle, value in saved:
            if handle._node._value is not value:
                handle.copy_(tensor(value))


def same(a: Snapshot, b: Snapshot) -> bool:
    """Are these snapshots of the same values, with nothing rebound in between?"""
    return len(a) == len(b) and all(x is y and v is w for (x, v), (y, w) in zip(a, b, strict=True))


def all_finite(parameters: Iterable[Tensor]) -> bool:
    """Is every one free of NaN and infinity?"""
    with np.errstate(all="ignore"):
        return all(_finite(parameter._node.value) for parameter in parameters)


def finite(value: Array) -> bool:
    """No NaN and no infinity in it (one pass without a mask, where the sum does not overflow)."""
    with np.errstate(all="ignore"):
        return _finite(value)


def _finite(value: Array) -> bool:
    if value.dtype.kind != "f":
        return True
    return math.isfinite(np.add.reduce(value, axis=None)) or bool(np.isfinite(value).all())
