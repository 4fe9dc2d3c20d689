"""Functions made of several operations, which a tape records as a whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from chainrule import graph

P = ParamSpec("P")
R = TypeVar("R")


def whole(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function that makes a new tensor of tensors and of what Python can compare, and looks into none of them."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        local = graph._local
        if local.tape is None or local.trace is not None:
            return function(*args, **kwargs)
        return local.tape.whole(function, args, kwargs)

    return call
