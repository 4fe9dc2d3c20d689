"""Stand-in until the tracer is here: outside a trace a live value is its number, a guard its value."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

H = TypeVar("H", bound=Hashable)


def live(getter: Callable[[], float]) -> Any:
    """The number that `getter` gives now."""
    return getter()


def guard(getter: Callable[[], H]) -> H:
    """The value that `getter` gives now."""
    return getter()
