"""Where a stream draws at random from while it is asked for batches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chainrule.tensor.random import Generator, drawing_from


class Draws:
    """Generators of a stream's own, seeded: this library's, and for what is of PyTorch's classes PyTorch's, too.

    Nobody else's draws move with them. A generator that a loader was given is its own and stays so.
    """

    def __init__(self, stream: Any, seed: int) -> None:
        self.generator = Generator(seed)
        theirs = any(base.__module__.partition(".")[0] == "torch" for base in type(stream).__mro__)
        self._torch: Any = sys.modules.get("torch") if theirs else None
        self._state = self._torch.Generator().manual_seed(seed).get_state() if self._torch is not None else None

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Inside the block this thread draws from here."""
        with drawing_from(self.generator):
            if self._torch is None:
                yield
                return
            before = self._torch.get_rng_state()
            self._torch.set_rng_state(self._state)
            try:
                yield
            finally:
                self._state = self._torch.get_rng_state()
                self._torch.set_rng_state(before)
