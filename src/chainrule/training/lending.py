"""Compiled steps that trainings alike but for numbers take turns with."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from chainrule.compiler.runtime.threads import one_thread
from chainrule.training import twins

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer


class Lender:
    """Trains on one thread, in the compiled steps that a training like it has left; several threads may ask at a time.

    Args:
        most: of so many kinds of trainings steps are kept, of those used last; None: of all.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most, self._lock = most, threading.Lock()
        # By kind: the first training of it, which an outline names things of by identity, and those whose steps are free.
        self._known: OrderedDict[Hashable, tuple[Trainer, list[Trainer]]] = OrderedDict()

    def fit(self, trainer: Trainer, X: object, y: object = None, **options: Any) -> None:
        """``trainer.fit(X, y, **options)``, with the same bits; callbacks are given the training whose steps were lent."""
        kind = twins.outline(trainer.session), _shapes((X, y, options))
        with self._lock:
            lent = self._of(kind, trainer)
            worker = lent.pop() if lent else None
        if worker is None:
            worker = copy.deepcopy(trainer)
        with one_thread():
            twins.lend(worker.session, trainer.session)
            try:
                worker.fit(X, y, **options)
            finally:
                twins.give_back(trainer.session, worker.session)
        with self._lock:
            lent.append(worker)

    def _of(self, kind: Hashable, trainer: Trainer) -> list[Trainer]:
        """Those of this kind whose steps are free."""
        known = self._known.setdefault(kind, (trainer, []))
        self._known.move_to_end(kind)
        while self.most is not None and len(self._known) > self.most:
            self._known.popitem(last=False)
        return known[1]


def _shapes(given: Any) -> Hashable:
    """The shapes and dtypes of all arrays: steps are compiled for these."""
    if isinstance(given, (tuple, dict)):
        return tuple(map(_shapes, given.values() if isinstance(given, dict) else given))
    shape = getattr(given, "shape", None)
    return None if shape is None else (tuple(shape), str(getattr(given, "dtype", None)))
