"""Which worker of a loader this process is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class WorkerInfo:
    """Which worker of a loader this process is.

    Attributes:
        id: its number, from 0.
        num_workers: how many there are.
        seed: what its random generators started from.
        dataset: its copy of the dataset.
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any


class Here:
    """What this process is; a worker sets it once."""

    info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a worker process of a loader, which one it is; None everywhere else.

    >>> get_worker_info() is None
    True
    """
    return Here.info
