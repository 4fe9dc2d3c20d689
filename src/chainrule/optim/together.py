"""One eager update of many parameters: laid end to end, they cost the Python of one.

The rules work element by element, so an element's new value does not depend on what lies beside it: the bits are
those of an update one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.autodiff.plain import Plain
from chainrule.dtypes import DType, float64
from chainrule.errors import ShapeError
from chainrule.graph import Array, Shape
from chainrule.optim.rules import Rule, Settings, update
from chainrule.tensor import Tensor
from chainrule.tensor.core import settled, wrap

# Numbers laid end to end at most: their temporaries stay in a second-level cache, beyond which Python no longer counts.
ROOM = 1 << 16

States = Mapping[Tensor, Mapping[str, Tensor]]


def batches(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """The parameters in their order, those of one dtype together as far as there is room; by itself, what shares memory."""
    batch: list[Tensor] = []
    dtype: DType | None = None
    room = 0
    for parameter in parameters:
        size, shares = parameter.numel(), parameter._shares()
        if batch and (shares or parameter.dtype is not dtype or size > room):
            yield batch
            batch = []
        if shares:  # with another parameter, perhaps, whose update must find this one done
            yield [parameter]
            continue
        if not batch:
            dtype, room = parameter.dtype, ROOM
        batch.append(parameter)
        room -= size
    if batch:
        yield batch


def update_together(rules: tuple[Rule, ...], batch: list[Tensor], states: States, settings: Settings) -> None:
    """One step of an optimizer for parameters of one dtype."""
    numbers = {name: _number(value) for name, value in settings.items()}
    slots = [slot for rule in rules for slot in rule.slots]
    gradients = [gradient for p in batch if (gradient := p.grad) is not None]
    for parameter, gradient in zip(batch, gradients, strict=True):
        shape = parameter._node.shape
        if gradient._node.shape != shape:
            raise _of_another_shape(shape, "gradient", gradient, "Call zero_grad() and backward() again")
        for slot in slots:
            if states[parameter][slot]._node.shape != shape:
                raise _of_another_shape(
                    shape, f"state '{slot}'", states[parameter][slot], "Make a new optimizer for it"
                )
    state = {slot: _flat([states[p][slot] for p in batch]) for slot in slots}
    new, changed = update(rules, _flat(batch), _flat(gradients), state, numbers)
    _divide(new, batch)
    for slot, value in changed.items():
        _divide(value, [states[p][slot] for p in batch])


def _of_another_shape(shape: Shape, what: str, value: Tensor, remedy: str) -> ShapeError:
    """Laid end to end, as many numbers of another shape would do."""
    return ShapeError(
        f"{graph.who('step')}: a parameter and its {what} must have one shape, got {shape} and {value._node.shape}: "
        f"its data was replaced by some of another shape. {remedy}."
    )


def _number(value: Any) -> Any:
    """A number where a tensor of the settings is one: it meets each element rounded to the element's dtype."""
    return value.item() if isinstance(value, Tensor) and value.dtype is float64 else value


def _flat(tensors: list[Tensor]) -> Tensor:
    """Their values end to end."""
    return Plain(np.concatenate([_value(t) for t in tensors], axis=None))


def _value(tensor: Tensor) -> Array:
    """To be copied at once: so nobody notes that it is held."""
    node = tensor._node
    value = node._array
    return value if value is not None and node.trace is None else settled(tensor).value


def _divide(flat: Tensor, tensors: list[Tensor]) -> None:
    """Give each its part of the new values."""
    values: Array = settled(flat).value
    at = 0
    for tensor in tensors:
        old: Any = tensor._node
        begin, at = at, at + prod(old.shape)
        value = values[begin:at].reshape(old.shape)
        if tensor._views is None:
            tensor._name(graph.leaf(value, old.dtype, old.requires_grad, old.owner))
        else:
            tensor.copy_(wrap(graph.leaf(value, old.dtype)))
