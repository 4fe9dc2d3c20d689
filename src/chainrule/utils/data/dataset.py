"""Datasets: rows by their number (`Dataset`) or one after the other (`IterableDataset`), and what is made of them."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from chainrule import graph
from chainrule.data.batches import shuffled_indices
from chainrule.errors import DataError, IndexRangeError, SettingError, ShapeError
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import stored, wrap
from chainrule.tensor.creation import as_tensor
from chainrule.tensor.random import Generator
from chainrule.utils.data.draws import draw_seed

Array = np.ndarray[Any, Any]
T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Rows by their number: a subclass has ``__getitem__(index)``, and mostly ``__len__``.

    ``__getitems__(indices)``, where a subclass has it, gives a loader the samples of a batch in one call.
    ``a + b`` is one dataset after the other.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(
            f"{type(self).__name__}: a Dataset must have a __getitem__(index) that gives a sample."
        )

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Rows one after the other: a subclass has ``__iter__``, called anew for every epoch.

    Every worker of a loader iterates over a copy of its own: `get_worker_info` tells which part is its.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(
            f"{type(self).__name__}: an IterableDataset must have an __iter__ that yields samples."
        )

    def __add__(self, other: Dataset[T_co]) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset["tuple[Tensor, ...]"]):
    """Tensors (or arrays) with a row for each other; sample i is the tuple of their rows i.

    A loader cuts its batches by one index a tensor, and not row by row.

    Raises:
        ShapeError: not as many rows in each.

    >>> import chainrule as cr
    >>> TensorDataset(cr.tensor([1.0, 2.0]), cr.tensor([3, 4]))[1]
    (tensor(2.), tensor(4))
    """

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tuple(as_tensor(t) for t in tensors)
        if not tensors:
            raise SettingError(
                "TensorDataset: needs at least one tensor, got none. Give the inputs, and mostly targets."
            )
        if any(t.ndim == 0 or t.shape[0] != self.tensors[0].shape[0] for t in self.tensors):
            shapes = " and ".join(str(t.shape) for t in self.tensors)
            raise ShapeError(
                f"TensorDataset: the tensors must have the same number of rows, got shapes {shapes}. "
                f"Row i of each belongs to sample i."
            )

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def batch(self, indices: Array) -> Any:
        """See `collated`."""
        parts = [picked(t, indices) for t in self.tensors]
        return None if any(part is None for part in parts) else parts


class StackDataset(Dataset[Any]):
    """Datasets side by side: sample i is the tuple (or, of keywords, the dict) of their samples i.

    Raises:
        SettingError: no dataset, or positional ones and keywords at once.
        DataError: datasets of different lengths.

    >>> StackDataset(x=[1, 2], name="ab")[1]
    {'x': 2, 'name': 'b'}
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise SettingError(
                f"StackDataset: takes datasets by position (samples are tuples) or by keyword (dicts), got "
                f"{'both' if args else 'none'}. Give one kind."
            )
        self.datasets: Any = args or kwargs
        lengths = [len(dataset) for dataset in (args or kwargs.values())]
        if len(set(lengths)) > 1:
            raise DataError(
                f"StackDataset: the datasets must have one length, got {lengths}. Cut them to the shortest."
            )

    def __getitem__(self, index: Any) -> Any:
        return self._each(lambda dataset: dataset[index])

    def __getitems__(self, indices: Sequence[Any]) -> list[Any]:
        found = self._each(lambda dataset: samples(dataset, indices))
        if isinstance(found, dict):
            return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
        return list(zip(*found, strict=True))

    def _each(self, function: Callable[[Any], Any]) -> Any:
        if isinstance(self.datasets, dict):
            return {name: function(dataset) for name, dataset in self.datasets.items()}
        return tuple(map(function, self.datasets))

    def __len__(self) -> int:
        return len(next(iter(self.datasets.values() if isinstance(self.datasets, dict) else self.datasets)))

    def batch(self, indices: Array) -> Any:
        """See `collated`."""
        found = self._each(lambda dataset: collated(dataset, indices))
        if any(part is None for part in (found.values() if isinstance(found, dict) else found)):
            return None
        return found if isinstance(found, dict) else list(found)


class ConcatDataset(Dataset[T_co]):
    """Datasets one after the other.

    Raises:
        SettingError: none, or one without numbers for its rows (an `IterableDataset`).

    >>> ConcatDataset(["ab", "cde"])[3]
    'd'
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise SettingError("ConcatDataset: needs at least one dataset, got none. Give a list of them.")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise SettingError("ConcatDataset: an IterableDataset has no row numbers. Use ChainDataset.")
        self.cumulative_sizes = list(itertools.accumulate(map(len, self.datasets)))

    def __getitem__(self, index: Any) -> T_co:
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexRangeError(f"ConcatDataset: index {index} is out of range for {len(self)} rows.")
        number = bisect.bisect_right(self.cumulative_sizes, row)
        found: T_co = self.datasets[number][row - (self.cumulative_sizes[number - 1] if number else 0)]
        return found

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class ChainDataset(IterableDataset[Any]):
    """Iterable datasets one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def _checked(self) -> Iterator[Any]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise SettingError(
                    f"ChainDataset: takes IterableDatasets, got {type(dataset).__name__}. Use ConcatDataset for those "
                    f"with row numbers."
                )
            yield dataset

    def __iter__(self) -> Iterator[Any]:
        for dataset in self._checked():
            yield from dataset

    def __len__(self) -> int:
        return sum(map(len, self._checked()))


class Subset(Dataset[T_co]):
    """Some rows of a dataset, by their indices.

    >>> list(map(Subset("abcde", [4, 0]).__getitem__, range(2)))
    ['e', 'a']

    Raises:
        NotImplementedError: a subclass with a ``__getitem__`` of its own and no ``__getitems__``, which loaders call.
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        own = type(self)
        if own.__getitem__ is not Subset.__getitem__ and own.__getitems__ is Subset.__getitems__:
            raise NotImplementedError(
                f"{own.__name__}: a Subset with a __getitem__ of its own needs a __getitems__, which loaders call: "
                f"def __getitems__(self, indices): return [self[i] for i in indices]"
            )
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> T_co:
        found: T_co = self.dataset[self._of(index) if isinstance(index, list) else self.indices[index]]
        return found

    def __getitems__(self, indices: Sequence[int]) -> list[T_co]:
        return samples(self.dataset, self._of(indices))

    def _of(self, indices: Sequence[int]) -> list[int]:
        return [self.indices[index] for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Array) -> Any:
        """See `collated`."""
        if type(self).__getitems__ is not Subset.__getitems__:
            return None
        return collated(self.dataset, np.asarray(self._of(indices.tolist())))


@takes_keywords("data")
def random_split(dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None) -> list[Subset[Any]]:
    """Split a dataset into parts that share no row, at random.

    Args:
        dataset: anything with rows by number and a length.
        lengths: rows of each part, or shares that add up to 1 (rows left over go to the first parts, one each).
        generator: what the split is drawn from (default: the one that ``cr.manual_seed`` seeds).

    Raises:
        DataError: lengths that do not add up to the dataset's, or a share outside [0, 1].

    >>> import chainrule as cr
    >>> first, second = random_split(range(10), [0.7, 0.3], generator=cr.Generator(0))
    >>> len(first), len(second), sorted([*first.indices, *second.indices]) == list(range(10))
    (7, 3, True)
    """
    rows = len(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        lengths = _of_shares(lengths, rows)
    if sum(lengths) != rows or any(length < 0 or length != int(length) for length in lengths):
        raise DataError(
            f"random_split: the lengths must be whole numbers that add up to the dataset's, {rows}, or shares that add "
            f"up to 1, got {list(lengths)} (sum {sum(lengths)})."
        )
    order = shuffled_indices(rows, draw_seed(generator)).tolist()
    return [
        Subset(dataset, order[int(stop - length) : int(stop)])
        for stop, length in zip(itertools.accumulate(lengths), lengths, strict=True)
    ]


def _of_shares(shares: Sequence[int | float], rows: int) -> list[int]:
    for number, share in enumerate(shares):
        if not 0 <= share <= 1:
            raise DataError(f"random_split: share {number} must be between 0 and 1, got {share}.")
    lengths = [math.floor(rows * share) for share in shares]
    for left in range(rows - sum(lengths)):
        lengths[left % len(lengths)] += 1
    for number, length in enumerate(lengths):
        if length == 0:
            warnings.warn(f"random_split: part {number} of {len(lengths)} is empty.", stacklevel=3)
    return lengths


# -- what a loader asks for ------------------------------------------------------------------------


def samples(dataset: Any, indices: Sequence[Any]) -> list[Any]:
    """The samples of these rows, in one call where the dataset has one for it."""
    several = getattr(dataset, "__getitems__", None)
    if several is None:
        return [dataset[index] for index in indices]
    found: list[Any] = several(indices)
    if len(found) != len(indices):
        raise DataError(
            f"{type(dataset).__name__}: __getitems__ must give a sample for each index, got {len(found)} for {len(indices)}."
        )
    return found


_READ_BY_ROW = {kind: kind.__getitem__ for kind in (TensorDataset, StackDataset, Subset)}


def collated(dataset: Any, indices: Array) -> Any:
    """What `default_collate` makes of these samples, picked by one index a tensor; None where that cannot be.

    A subclass that gives other samples than its base, or gives them in one call, is asked for them.
    """
    if isinstance(dataset, Tensor):
        return picked(dataset, indices)
    kind = next((kind for kind in _READ_BY_ROW if isinstance(dataset, kind)), None)
    if kind is None or type(dataset).__getitem__ is not _READ_BY_ROW[kind]:
        return None
    own = getattr(type(dataset), "__getitems__", None)
    return dataset.batch(indices) if own is getattr(kind, "__getitems__", None) else None


def picked(t: Tensor, indices: Array) -> Tensor | None:
    """These rows, in memory of their own; None where they have a history, or there are no such rows."""
    if t.requires_grad:
        return None
    try:
        return wrap(graph.leaf(stored(t).take(indices, axis=0), t.dtype))
    except IndexError:
        return None
