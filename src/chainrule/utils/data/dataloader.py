"""The loader: batches of a dataset, in the order of a sampler, made here or by worker processes."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from chainrule.errors import SettingError
from chainrule.names import renamed_keywords
from chainrule.tensor.random import Generator
from chainrule.utils.data.collate import default_collate, default_convert
from chainrule.utils.data.dataset import IterableDataset
from chainrule.utils.data.draws import draw_seed
from chainrule.utils.data.fetch import OVER, Fetch, Job
from chainrule.utils.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

if TYPE_CHECKING:
    from chainrule.utils.data.workers import Workers

T_co = TypeVar("T_co", covariant=True)
__all__ = ["DataLoader", "default_collate", "default_convert"]

FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")
AHEAD = 2  # batches that each worker makes in advance, as in PyTorch


class DataLoader(Generic[T_co]):
    """Batches of a dataset, in an order that its generator's seed gives whatever the number of workers.

    Args:
        dataset: rows by number (`Dataset`, a list, a tensor) or one after the other (`IterableDataset`).
        batch_size: samples of a batch; None gives single samples.
        shuffle: a new random order in every epoch.
        sampler: in which order rows are visited, in place of `shuffle`.
        batch_sampler: which rows make a batch, in place of `batch_size`, `shuffle`, `sampler` and `drop_last`.
        num_workers: processes that make the batches; 0 makes them here, when they are asked for.
        collate_fn: from a list of samples to a batch (default: `default_collate`).
        pin_memory: accepted, and without effect: there is one device, the CPU.
        drop_last: leave out a last batch that is shorter.
        timeout: seconds to wait for a batch from the workers; 0: as long as they live.
        worker_init_fn: called in each worker with its number, before it makes its first batch.
        multiprocessing_context: how workers start: ``"fork"``, ``"spawn"``, ``"forkserver"`` or a context
            (default: the platform's).
        generator: what orders and the workers' seeds are drawn from (default: the one that ``cr.manual_seed`` seeds).
        prefetch_factor: batches that each worker makes in advance (default: 2).
        persistent_workers: keep the workers from epoch to epoch.
        pin_memory_device: accepted, and without effect.
        in_order: give batches in their order; False gives each as soon as it is made.

    Raises:
        SettingError: arguments that exclude each other, or mean nothing.
        WorkerError: while iterating: a worker died, or no batch came within `timeout`.

    >>> import chainrule as cr
    >>> from chainrule.utils.data import TensorDataset
    >>> x, y = cr.arange(6.0).reshape(3, 2), cr.tensor([0, 1, 0])
    >>> [tuple(xb.shape) for xb, yb in DataLoader(TensorDataset(x, y), batch_size=2)]
    [(2, 2), (1, 2)]

    Deviates from PyTorch: other random orders (Philox, not a Mersenne twister). An exception in a worker has its own type
    and text, as there; a worker that dies raises at once, whatever `timeout` is.
    """

    @renamed_keywords({})
    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        self.num_workers, self.timeout, self.worker_init_fn = num_workers, timeout, worker_init_fn
        self.prefetch_factor = AHEAD if num_workers and prefetch_factor is None else prefetch_factor
        self.persistent_workers, self.multiprocessing_context = persistent_workers, multiprocessing_context
        self.pin_memory, self.pin_memory_device = pin_memory, pin_memory_device
        self.generator, self.in_order = generator, in_order
        self.dataset = dataset
        if isinstance(dataset, IterableDataset):
            _check_iterable(shuffle, sampler, batch_sampler)
        _check_exclusive(batch_size, shuffle, sampler, batch_sampler, drop_last)
        self.batch_size = None if batch_sampler is not None else batch_size
        self.drop_last = False if batch_sampler is not None else drop_last
        self.sampler: Any = self._rows(shuffle) if sampler is None else sampler
        if batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)
        self.batch_sampler: Any = batch_sampler
        self.collate_fn: Callable[[Any], Any] = collate_fn or (
            default_convert if batch_sampler is None else default_collate
        )
        self._kept: Workers | None = None
        self._made = True

    def _rows(self, shuffle: bool | None) -> Sampler[Any]:
        if isinstance(self.dataset, IterableDataset):
            return Endless()
        if shuffle:
            return RandomSampler(self.dataset, generator=self.generator)
        return SequentialSampler(self.dataset)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED and self.__dict__.get("_made"):
            raise SettingError(f"DataLoader: {name} cannot be set any more. Make another loader with it.")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        """The batches of an epoch; of an iterable dataset, what its own length promises."""
        if not isinstance(self.dataset, IterableDataset):
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)
        rows = len(self.dataset)  # type: ignore[arg-type]
        if self.batch_size is None:
            return rows
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        seed = draw_seed(self.generator)  # whatever the number of workers, so that it moves the generator alike
        if self.num_workers == 0:
            return self._made_here()
        return self._checked_length(self._workers().epoch(self._indices(), seed))

    def _indices(self) -> Iterator[Any]:
        """Of which rows each batch is made: of arrays, where the order is known as one."""
        if self.batch_sampler is None:
            return iter(self.sampler)
        return self.batch_sampler.cuts() if isinstance(self.batch_sampler, BatchSampler) else iter(self.batch_sampler)

    def _job(self) -> Job:
        iterable = isinstance(self.dataset, IterableDataset)
        return Job(self.dataset, iterable, self.batch_sampler is not None, self.collate_fn, self.drop_last)

    def _made_here(self) -> Iterator[Any]:
        indices, fetch = self._indices(), Fetch(self._job())

        return self._checked_length(itertools.takewhile(lambda batch: batch is not OVER, map(fetch, indices)))

    def _workers(self) -> Workers:
        kept = self._kept if self.persistent_workers else None
        if kept is not None and kept.alive:
            return kept
        from chainrule.utils.data.workers import Workers  # only for whoever has some: multiprocessing is slow to import

        workers = Workers(
            self._job(), self.num_workers, self.prefetch_factor or AHEAD, self.multiprocessing_context,
            self.worker_init_fn, self.timeout, self.in_order, self.persistent_workers,
        )  # fmt: skip
        self._kept = workers if self.persistent_workers else None
        return workers

    def _checked_length(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches; a warning where an iterable dataset gives more than its length says."""
        promised = _length(self.dataset) if isinstance(self.dataset, IterableDataset) else None
        if promised is None:
            return batches
        return self._warned(batches, len(self))

    def _warned(self, batches: Iterator[Any], promised: int) -> Iterator[Any]:
        for number, batch in enumerate(batches):
            if number == promised:
                warnings.warn(
                    f"DataLoader: the length of {type(self.dataset).__name__} promises {promised} batches, and there are "
                    f"more. Where several workers give the same rows, share them out with get_worker_info().",
                    stacklevel=2,
                )
            yield batch

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


class Endless(Sampler[None]):
    """For an iterable dataset, which says itself when it is over."""

    def __iter__(self) -> Iterator[None]:
        while True:
            yield None


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None


# -- arguments -------------------------------------------------------------------------------------


def _check_workers(num_workers: object, timeout: float, prefetch_factor: int | None, persistent: bool) -> None:
    if isinstance(num_workers, bool) or not isinstance(num_workers, (int, np.integer)) or num_workers < 0:
        raise SettingError(f"DataLoader: num_workers must be 0 or a positive integer, got {num_workers!r}.")
    if timeout < 0:
        raise SettingError(f"DataLoader: timeout must be a number of seconds, 0 for none, got {timeout!r}.")
    if not num_workers and prefetch_factor is not None:
        raise SettingError("DataLoader: prefetch_factor is for workers: give num_workers above 0, or leave it out.")
    if prefetch_factor is not None and prefetch_factor < 1:
        raise SettingError(f"DataLoader: prefetch_factor must be a positive integer, got {prefetch_factor!r}.")
    if not num_workers and persistent:
        raise SettingError("DataLoader: persistent_workers is for workers: give num_workers above 0, or leave it out.")


def _check_iterable(shuffle: bool | None, sampler: object, batch_sampler: object) -> None:
    given = {"shuffle": shuffle or None, "sampler": sampler, "batch_sampler": batch_sampler}
    name = next((name for name, value in given.items() if value is not None), None)
    if name is not None:
        raise SettingError(
            f"DataLoader: an IterableDataset gives its rows in its own order: {name} cannot be used. "
            f"Shuffle inside the dataset."
        )


def _check_exclusive(
    batch_size: int | None, shuffle: bool | None, sampler: object, batch_sampler: object, drop_last: bool
) -> None:
    if sampler is not None and shuffle:
        raise SettingError("DataLoader: sampler and shuffle exclude each other. Use a RandomSampler, or leave one out.")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise SettingError(
            "DataLoader: batch_sampler says which rows make a batch: leave out batch_size, shuffle, sampler and drop_last."
        )
    if batch_sampler is None and batch_size is None and drop_last:
        raise SettingError("DataLoader: without batches (batch_size=None) there is no last one: leave out drop_last.")
