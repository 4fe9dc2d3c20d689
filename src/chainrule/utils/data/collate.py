"""From the samples of a batch to the batch: numbers and arrays are stacked, containers keep their form."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.errors import DataError, DtypeError, kind_of
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import stored, wrap
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import stack


@takes_keywords("data")
def default_collate(batch: Sequence[Any]) -> Any:
    """One batch from a list of samples, each field collated by itself.

    Tensors (PyTorch's too, as a dataset of torchvision's has them), arrays and numbers become one tensor with a leading axis (Python floats float64, as in PyTorch); text and
    bytes stay as they are; dicts, named tuples and lists keep their form; a tuple becomes a list.

    Raises:
        DtypeError: a sample is none of these (None, say).
        ShapeError: tensors of different shapes.
        DataError: sequences of different lengths.

    >>> default_collate([(1, "a"), (2, "b")])
    [tensor([1, 2]), ('a', 'b')]
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return _stacked(batch)
    if isinstance(first, (np.ndarray, np.generic)):
        return _of_arrays(batch, first)
    if _is_foreign(first):
        return default_collate([np.asarray(sample) for sample in batch])
    if isinstance(first, float):
        return tensor(list(batch), dtypes.float64)
    if isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _mapping(first, lambda key: default_collate([sample[key] for sample in batch]))
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*map(default_collate, zip(*batch, strict=True)))
    if isinstance(first, Sequence):
        return _of_sequences(batch, first)
    raise _refused("default_collate: a batch", first)


@takes_keywords("data")
def default_convert(data: Any) -> Any:
    """A sample with its arrays as tensors, its containers kept; what holds no numbers stays as it is.

    >>> import numpy as np
    >>> default_convert({"x": np.ones(2), "name": "a"})
    {'x': tensor([1., 1.], dtype=chainrule.float64), 'name': 'a'}
    """
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUO" else tensor(data)
    if _is_foreign(data):
        return tensor(np.asarray(data))
    if isinstance(data, Mapping):
        return _mapping(data, lambda key: default_convert(data[key]))
    if isinstance(data, tuple):
        items = map(default_convert, data)
        return type(data)(*items) if hasattr(data, "_fields") else list(items)
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _sequence(data, [default_convert(item) for item in data])
    return data


def _is_foreign(value: object) -> bool:
    """Is it a tensor of another library, which gives its numbers as an array?"""
    return type(value).__name__ == "Tensor" and hasattr(value, "__array__")


def _stacked(batch: Sequence[Tensor]) -> Tensor:
    """`cr.stack`, without a graph of as many nodes where no gradient is asked for."""
    first = batch[0]
    alike = all(
        isinstance(t, Tensor) and (t.shape, t.dtype, t.requires_grad) == (first.shape, first.dtype, False)
        for t in batch
    )
    return wrap(graph.leaf(np.stack([stored(t) for t in batch]), first.dtype)) if alike else stack(list(batch))


def _of_arrays(batch: Sequence[Any], first: Any) -> Any:
    if first.dtype.kind in "SUO":
        raise _refused("default_collate: an array", first)
    if {(getattr(item, "shape", None), getattr(item, "dtype", None)) for item in batch} == {(first.shape, first.dtype)}:
        return tensor(np.stack(batch))
    return _stacked([tensor(item) for item in batch])


def _of_sequences(batch: Sequence[Any], first: Sequence[Any]) -> Any:
    sizes = {len(sample) for sample in batch}
    if len(sizes) > 1:
        raise DataError(
            f"default_collate: the samples of a batch must be sequences of one length, got lengths {sorted(sizes)}. "
            f"Pad them, or give the loader a collate_fn of your own."
        )
    fields = [default_collate(field) for field in zip(*batch, strict=True)]
    return fields if isinstance(first, tuple) else _sequence(first, fields)


def _mapping(first: Mapping[Any, Any], value: Callable[[Any], Any]) -> Any:
    """A mapping of the same class, with `value(key)` in place of each value; a dict where the class cannot be made."""
    with suppress(TypeError):
        if isinstance(first, MutableMapping):
            new = copy.copy(first)
            new.update({key: value(key) for key in first})
            return new
        return type(first)({key: value(key) for key in first})  # type: ignore[call-arg]
    return {key: value(key) for key in first}


def _sequence(first: Sequence[Any], items: list[Any]) -> Any:
    """A sequence of the same class; a list where the class cannot be made."""
    with suppress(TypeError):
        if isinstance(first, MutableSequence):
            new = copy.copy(first)
            for number, item in enumerate(items):
                new[number] = item
            return new
        return type(first)(items)  # type: ignore[call-arg]
    return items


def _refused(who: str, found: object) -> DtypeError:
    what = f"dtype {found.dtype}" if isinstance(found, (np.ndarray, np.generic)) else kind_of(found)
    return DtypeError(
        f"{who} must hold tensors, arrays, numbers, text, or dicts, tuples and lists of them, got {what}. "
        f"Leave it out of the sample, or give the loader a collate_fn of your own."
    )
