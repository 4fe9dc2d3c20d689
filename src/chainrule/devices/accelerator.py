"""What scripts ask of ``torch.accelerator`` before they train: there is none here, as in PyTorch on a machine without one."""

from __future__ import annotations

from typing import NoReturn

from chainrule.devices import device


def is_available() -> bool:
    """False: chainrule computes on the CPU.

    >>> import chainrule as cr
    >>> cr.accelerator.current_accelerator().type if cr.accelerator.is_available() else "cpu"
    'cpu'
    """
    return False


def current_accelerator(check_available: bool = False) -> device | None:
    """None."""
    return None


def device_count() -> int:
    """0."""
    return 0


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"cr.accelerator has no attribute {name!r}: there is only the CPU here. "
        f"Ask cr.accelerator.is_available() first, which is False."
    )
