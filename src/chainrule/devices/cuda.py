"""What scripts ask of ``torch.cuda`` before they train: there is none here, as in PyTorch on a machine without one."""

from __future__ import annotations

from typing import NoReturn

from chainrule.devices import cuda_amp

amp = cuda_amp
# Of PyTorch's modules below only that one is here: an import of another says what `__getattr__` does.
__path__: list[str] = []


def is_available() -> bool:
    """False: chainrule computes on the CPU.

    >>> import chainrule as cr
    >>> cr.cuda.is_available(), cr.cuda.device_count()
    (False, 0)
    """
    return False


def is_initialized() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing, as in PyTorch without CUDA; `cr.manual_seed` seeds."""


def manual_seed_all(seed: int) -> None:
    """Nothing, as in PyTorch without CUDA; `cr.manual_seed` seeds."""


def is_bf16_supported() -> bool:
    """False."""
    return False


def empty_cache() -> None:
    """Nothing, as in PyTorch without CUDA."""


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"cr.cuda has no attribute {name!r}: there is only the CPU here. Ask cr.cuda.is_available() first, which is False."
    )
