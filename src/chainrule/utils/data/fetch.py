"""From the row numbers of a batch to the batch, in this process or in a worker."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from chainrule.utils.data.collate import default_collate
from chainrule.utils.data.dataset import collated, samples


class Job(NamedTuple):
    """What a loader makes batches of, and how."""

    dataset: Any
    iterable: bool
    batched: bool  # else single samples
    collate: Callable[[Any], Any]
    drop_last: bool


OVER = object()


class Fetch:
    """One epoch's batches; `OVER` in place of one where an iterable dataset is over."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.rows: Iterator[Any] | None = iter(job.dataset) if job.iterable else None

    def __call__(self, index: Any) -> Any:
        if self.rows is not None:
            return self._next(self.rows, index)
        job = self.job
        if not job.batched:
            return job.collate(job.dataset[index])
        if job.collate is default_collate:
            numbers = np.asarray(index)
            batch = collated(job.dataset, numbers) if numbers.dtype.kind == "i" and numbers.ndim == 1 else None
            if batch is not None:
                return batch
        return job.collate(samples(job.dataset, index.tolist() if isinstance(index, np.ndarray) else index))

    def _next(self, rows: Iterator[Any], index: Any) -> Any:
        """The next rows of an iterable dataset; `index` holds as many entries as a batch has rows."""
        found = list(itertools.islice(rows, len(index) if self.job.batched else 1))
        if not found or (self.job.drop_last and len(found) < len(index)):
            return OVER
        return self.job.collate(found if self.job.batched else found[0])
