"""Functions of several ops over bfloat16: computed in float32 throughout, and rounded once, as PyTorch's kernels are."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from chainrule import dtypes
from chainrule.graph import Node
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import Handle, apply, rounded

P = ParamSpec("P")
R = TypeVar("R")


def rounded_once(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function of tensors: where the first is bfloat16 it computes `in_float32`."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(first, Handle) and first._node.dtype.only_stores:
            return in_float32(function, *args, **kwargs)
        return function(*args, **kwargs)

    return call


def in_float32(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What the function makes of the same numbers as float32, rounded to bfloat16 unless another floating dtype came, too.

    What it writes to one of them is written to the tensor that was given.
    """
    wide = _Wide()
    result = function(*map(wide.given, args), **{key: wide.given(value) for key, value in kwargs.items()})
    wide.write_back(getattr(function, "__name__", "call"))
    found: R = wide.taken(result)
    return found


class _Wide:
    """The tensors of one call as float32, and the way back."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Handle, Handle, Node]] = []  # given, as float32, and what that named at first
        self.rounds = True

    def given(self, value: Any) -> Any:
        if not isinstance(value, Handle) or not value.dtype.is_floating_point:
            return value
        if not value.dtype.only_stores:
            self.rounds = False
            return value
        wide = apply(ew.cast, value, dtype=dtypes.float32)
        self.pairs.append((value, wide, wide._node))
        return wide

    def write_back(self, name: str) -> None:
        for given, wide, before in self.pairs:
            if wide._node is not before:
                given._rebind(rounded(wide._tensor), f"{name}_")

    def taken(self, value: Any) -> Any:
        if isinstance(value, tuple):
            parts = map(self.taken, value)
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if not isinstance(value, Handle):
            return value
        given = next((given for given, wide, _ in self.pairs if wide is value), None)
        return given if given is not None else rounded(value._tensor) if self.rounds else value
