"""The table of ways in which Python hands a value to a function.

A case is a generator: it gives the function first, then makes a change and stops, once or more often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Case = Callable[[], Iterator[Any]]
CASES: dict[str, Case] = {}


def case(make: Case) -> Case:
    """Enter a case under its own words."""
    CASES[make.__name__.replace("_", " ")] = make
    return make
