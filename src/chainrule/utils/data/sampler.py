"""Samplers: in which order the rows of a dataset are visited, one by one or batch by batch.

An order is a function of one number that the sampler draws from its generator. Where PyTorch's orders come from a Mersenne
twister, ours come from Philox: other orders, the same meaning.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

from chainrule.data.batches import shuffled_indices
from chainrule.errors import DataError, SettingError
from chainrule.tensor.random import Generator
from chainrule.utils.data.draws import draw_seed, uniforms

Array = np.ndarray[Any, Any]
T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """The base of all samplers: an iterable of indices (or of lists of indices), anew for every epoch.

    A subclass has an ``__iter__`` and, where a loader shall know its length, a ``__len__``.
    """

    def __init__(self, data_source: object = None) -> None:
        """Older scripts give the dataset here; it is not used."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__}: a sampler must have an __iter__ that yields indices.")


class Ordered(Sampler[int]):
    """A sampler that knows a whole epoch's order as an array."""

    def numbers(self) -> Array:
        """The row numbers of the next epoch, int64; draws from the generator."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers().tolist())


class SequentialSampler(Ordered):
    """Every row once, in order.

    >>> list(SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def numbers(self) -> Array:
        return np.arange(len(self.data_source))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Ordered):
    """Rows in a random order, each once; or with `replacement`, each draw from all of them.

    Args:
        data_source: the dataset; only its length counts.
        replacement: draw every row from all rows.
        num_samples: how many rows an epoch has (default: all); more than there are start another order.
        generator: what the order is drawn from, one draw an epoch (default: the one that ``cr.manual_seed`` seeds).

    Raises:
        SettingError: `num_samples` is no positive integer, as for an empty dataset.

    >>> import chainrule as cr
    >>> list(RandomSampler(range(5), generator=cr.Generator(0)))
    [3, 1, 2, 4, 0]
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        _check_flag(replacement, "RandomSampler: replacement")
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = num_samples
        _check_count(self.num_samples, "RandomSampler")

    @property
    def num_samples(self) -> int:
        """The rows of an epoch: those there are now, unless a number was given."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def numbers(self) -> Array:
        rows, count, seed = len(self.data_source), self.num_samples, draw_seed(self.generator)
        if self.replacement:
            return (uniforms(count, seed) * rows).astype(np.int64)
        orders = [shuffled_indices(rows, seed, number) for number in range(math.ceil(count / rows))]
        return np.concatenate(orders)[:count] if len(orders) > 1 else orders[0][:count]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """Some rows, given by their indices, in a random order, each once.

    >>> sorted(SubsetRandomSampler([3, 5, 7]))
    [3, 5, 7]
    """

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        order = shuffled_indices(len(self.indices), draw_seed(self.generator)).tolist()
        return map(self.indices.__getitem__, order)

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Ordered):
    """Rows drawn with given probabilities: ``weights[i]`` to the sum of all.

    Without replacement, row i takes the key ``-log(u) / weights[i]`` with u uniform, and the smallest keys are drawn, in
    order: the same distribution as drawing one row after the other.

    Args:
        weights: one for each row, at least 0; they need not add up to 1.
        num_samples: how many rows an epoch has.
        replacement: draw every row from all rows, so that one may come several times.
        generator: what is drawn from (default: the one that ``cr.manual_seed`` seeds).

    Raises:
        SettingError: a number or flag that is none.
        DataError: weights that are negative, not finite, all 0, or fewer above 0 than rows to draw without replacement.

    >>> import chainrule as cr
    >>> list(WeightedRandomSampler([0.0, 1.0, 0.0], 3))
    [1, 1, 1]

    Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters 97 (2006).
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        _check_count(num_samples, "WeightedRandomSampler")
        _check_flag(replacement, "WeightedRandomSampler: replacement")
        self.weights = np.asarray(weights, np.float64)
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator
        if self.weights.ndim != 1:
            raise SettingError(
                f"WeightedRandomSampler: weights must be one number for each row, got shape {self.weights.shape}. "
                f"Flatten them."
            )
        self._check_weights()

    def _check_weights(self) -> None:
        found = self.weights
        possible = int((found > 0).sum())
        if not (np.isfinite(found) & (found >= 0)).all() or not possible:
            raise DataError(
                "WeightedRandomSampler: weights must be finite, at least 0, and not all 0. "
                "Check how they were computed (a class without rows gives 1/0)."
            )
        if not self.replacement and self.num_samples > possible:
            raise DataError(
                f"WeightedRandomSampler: {self.num_samples} rows cannot be drawn without replacement from "
                f"{possible} rows with a weight above 0. Draw fewer, or use replacement=True."
            )

    def numbers(self) -> Array:
        seed = draw_seed(self.generator)
        if self.replacement:
            bounds = np.cumsum(self.weights)
            drawn: Array = np.searchsorted(bounds, uniforms(self.num_samples, seed) * bounds[-1], side="right")
            last: int = np.flatnonzero(self.weights)[-1]
            found: Array = np.minimum(drawn, last)  # u * sum may round up to the sum
            return found
        with np.errstate(divide="ignore"):
            keys = -np.log1p(-uniforms(len(self.weights), seed)) / self.weights
        keys[self.weights == 0] = np.inf
        order: Array = np.argsort(keys, kind="stable")
        return order[: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler["list[int]"]):
    """Cuts the indices of another sampler into lists of `batch_size`; the last may be shorter, or is dropped.

    >>> list(BatchSampler(SequentialSampler(range(5)), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
            raise SettingError(
                f"BatchSampler: batch_size must be a positive integer, got {batch_size!r}. 64 is a usual choice."
            )
        _check_flag(drop_last, "BatchSampler: drop_last")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches(iter(self.sampler))

    def _batches(self, indices: Iterator[int]) -> Iterator[list[int]]:
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def cuts(self) -> Iterator[Any]:
        """What iterating gives, as arrays where the sampler knows its order as one."""
        own = type(self).__iter__ is not BatchSampler.__iter__
        if own or not isinstance(self.sampler, Ordered) or type(self.sampler).__iter__ is not Ordered.__iter__:
            return iter(self)
        numbers, size = self.sampler.numbers(), self.batch_size
        stop = len(numbers) - len(numbers) % size if self.drop_last else len(numbers)
        return (numbers[start : start + size] for start in range(0, stop, size))

    def __len__(self) -> int:
        rows = len(self.sampler)  # type: ignore[arg-type]
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)


def _check_flag(value: object, who: str) -> None:
    if not isinstance(value, bool):
        raise SettingError(f"{who} must be True or False, got {value!r}. Give one of them.")


def _check_count(value: object, who: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise SettingError(
            f"{who}: num_samples must be a positive integer, got {value!r}. An empty dataset has nothing to draw from."
        )
