"""What scripts ask of and set in ``torch.backends``: none of its libraries is here, and what is set has no effect.

Results do not depend on such settings: one seed gives the same bits on any number of threads.
"""

from __future__ import annotations

from typing import NoReturn

__path__: list[str] = []  # none of PyTorch's modules below is here: an import of one says what `__getattr__` does


class Backend:
    """A library that is not here."""

    enabled = False
    deterministic = True
    benchmark = False
    allow_tf32 = False

    def is_available(self) -> bool:
        """False."""
        return False

    def is_built(self) -> bool:
        """False."""
        return False


cuda, cudnn, mps = Backend(), Backend(), Backend()


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"cr.backends has no attribute {name!r}: none of PyTorch's libraries is here, and results do not depend on such "
        f"settings. Leave it out."
    )
