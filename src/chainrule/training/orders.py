"""In which order epochs visit their rows: of many at once, the next of them drawn by another thread meanwhile."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import numpy as np

from chainrule.data.orders import shuffled_orders

Array = np.ndarray[Any, Any]


class EpochOrders:
    """The orders of the epochs of one call of `fit`.

    Args:
        rows: so many in each.
        seed: of the orders.
        shuffle: otherwise the rows are visited as they lie.
    """

    def __init__(self, rows: int, seed: int, shuffle: bool) -> None:
        self.rows, self._seed, self._shuffle = rows, seed, shuffle
        self._first, self._known = 0, np.empty((0, rows), np.int64)
        self._ahead: _Ahead | None = None

    def of(self, first: int, count: int) -> Array:
        """Of so many epochs, of which this is the first, int64 (count, rows); what is known of them is not drawn again."""
        at = first - self._first
        if at < 0 or at + count > len(self._known):
            self._first, self._known, at = first, self._found(first, count), 0
        return self._known[at : at + count]

    def _found(self, first: int, count: int) -> Array:
        if not self._shuffle:
            return np.broadcast_to(np.arange(self.rows), (count, self.rows))
        at = first - self._first
        parts = [self._known[at:]] if 0 <= at < len(self._known) else []
        following = first + sum(map(len, parts))
        if self._ahead is not None and self._ahead.first == following and (drawn := self._ahead.end()) is not None:
            parts.append(drawn)
        self._ahead = None
        have = sum(map(len, parts))
        if len(parts) == 1 and have >= count:
            return parts[0]
        orders = np.empty((max(have, count), self.rows), np.int64)
        if parts:
            np.concatenate(parts, out=orders[:have])
        if have < count:
            shuffled_orders(self.rows, self._seed, first + have, count - have, orders[have:])
        return orders

    def draw_ahead(self, count: int) -> None:
        """Begin to draw those of so many epochs after the ones that are known, beside what this thread does meanwhile."""
        if self._shuffle and count and self._ahead is None:
            self._ahead = _Ahead(self.rows, self._seed, self._first + len(self._known), count)

    def close(self) -> None:
        """No thread draws any more."""
        if self._ahead is not None:
            self._ahead.end()
            self._ahead = None


class _Ahead:
    """Orders that a thread of their own draws."""

    def __init__(self, rows: int, seed: int, first: int, count: int) -> None:
        self.first = first
        self._orders = np.empty((count, rows), np.int64)
        self._whole = False
        self._thread = threading.Thread(
            target=self._draw, args=(rows, seed, count), name="chainrule-orders", daemon=True
        )
        self._thread.start()

    def _draw(self, rows: int, seed: int, count: int) -> None:
        with suppress(Exception):  # whoever asks for them draws them itself then, and hears of it
            shuffled_orders(rows, seed, self.first, count, self._orders)
            self._whole = True

    def end(self) -> Array | None:
        """All of them; None where that came to nothing, as in the child of a process that forked meanwhile."""
        self._thread.join()
        return self._orders if self._whole else None
