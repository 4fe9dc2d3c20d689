"""What a callback overrides is checked before the first step: names of other libraries', and methods that cannot be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from chainrule.errors import SettingError
from chainrule.names.keras import CALLBACK_METHODS


def check_methods(callback: object, bases: tuple[type, ...]) -> None:
    """Refuse methods of Keras's or Lightning's names, which nobody would call, and ours with other arguments.

    Args:
        bases: the classes whose methods are called.
    """
    kind = type(callback).__name__
    for name, instead in CALLBACK_METHODS.items():
        if callable(getattr(callback, name, None)):
            raise SettingError(f"fit: {kind} has a method {name}, which is not called here. {instead}")
    for name, declared in _methods(callback, bases):
        method = getattr(callback, name)
        if getattr(method, "__func__", method) is not declared:
            _, *arguments = inspect.signature(declared).parameters
            check_call(f"{kind}.{name}", method, arguments)


def _methods(callback: object, bases: tuple[type, ...]) -> Iterator[tuple[str, Callable[..., Any]]]:
    for base in bases:
        if isinstance(callback, base):
            for name, declared in vars(base).items():
                if name[0] != "_" and inspect.isfunction(declared):
                    yield name, declared


def check_call(who: str, called: Callable[..., Any], arguments: list[str]) -> None:
    """Refuse what cannot be called with these arguments, by position."""
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):  # some of C's tell nothing of themselves
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise SettingError(
            f"fit: {who} must take ({', '.join(arguments)}), got {signature}. Python: {error}. It is called by position."
        ) from None
