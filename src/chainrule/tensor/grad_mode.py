"""Whether operations record their history: ``no_grad``, ``enable_grad``, ``set_grad_enabled``."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

from chainrule import graph

F = TypeVar("F", bound=Callable[..., Any])


class _GradMode:
    """``with no_grad():``, ``@no_grad()`` and ``@no_grad`` alike; one object may serve several threads at once."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._outer: list[tuple[int, bool]] = []  # by thread, what was in force around each block

    def __enter__(self) -> None:
        self._outer.append((threading.get_ident(), graph.is_grad_enabled()))
        graph.set_grad_mode(self._enabled)  # last: after that no signal's handler comes before the block

    def __exit__(self, *error: Any) -> None:
        thread = threading.get_ident()
        mine = max(place for place, (ident, _) in enumerate(self._outer) if ident == thread)
        graph.set_grad_mode(self._outer.pop(mine)[1])
        tape = graph.waiting()
        if tape is not None and not self._enabled:
            tape.written()

    def __call__(self, function: F) -> F:
        return _in_mode(function, self._enabled)


def _in_mode(function: F, enabled: bool) -> F:
    """The function with its body in this mode; a generator is in it only while it runs."""
    if inspect.isgeneratorfunction(function):
        return _generator_in_mode(function, enabled)  # type: ignore[return-value]

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return graph.in_grad_mode(enabled, partial(function, **kwargs) if kwargs else function, *args)

    return wrapped  # type: ignore[return-value]


def _generator_in_mode(function: Callable[..., Any], enabled: bool) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        resume: Callable[[], Any] = partial(next, generator)
        while True:
            try:
                with graph.grad_mode(enabled):
                    value = resume()
            except StopIteration as end:
                return end.value
            try:
                resume = partial(generator.send, (yield value))
            except GeneratorExit:
                with graph.grad_mode(enabled):
                    generator.close()
                raise
            except BaseException as error:  # the caller's, for the generator to handle
                resume = partial(generator.throw, error)

    return wrapped


class _Statement(_GradMode):
    """What `set_grad_enabled` gives: in force at once, and taken back where it was meant as a block or decorator."""

    def __init__(self, enabled: bool) -> None:
        super().__init__(enabled)
        self._before = graph.set_grad_mode(enabled)

    def __enter__(self) -> None:
        self._outer.append((threading.get_ident(), self._before))
        graph.set_grad_mode(self._enabled)

    def __call__(self, function: F) -> F:
        graph.set_grad_mode(self._before)
        return super().__call__(function)


def no_grad(function: Callable[..., Any] | None = None) -> Any:
    """A block (or decorated function) whose operations leave no history for backward.

    As a decorator with or without parentheses, also of generators, which are in the mode only while they run.
    Each thread has a mode of its own.

    >>> import chainrule as cr
    >>> x = cr.ones(2, requires_grad=True)
    >>> with cr.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    return _GradMode(False) if function is None else _in_mode(function, False)


def inference_mode(mode: bool | Callable[..., Any] = True) -> Any:
    """`no_grad` by another name: a block (or decorated function) without history; with False, one that records.

    Where we deviate from PyTorch: its results may be used in what is recorded later, like any other tensor.

    >>> import chainrule as cr
    >>> with cr.inference_mode():
    ...     cr.is_grad_enabled()
    False
    """
    return _in_mode(mode, False) if callable(mode) else _GradMode(not mode)


def enable_grad(function: Callable[..., Any] | None = None) -> Any:
    """A block (or decorated function) whose operations record history again, inside ``no_grad``."""
    return _GradMode(True) if function is None else _in_mode(function, True)


def set_grad_enabled(mode: bool) -> _GradMode:
    """Record history from here on, or not: as a statement for this thread, as a block or decorator for that alone.

    Inside a compiled function it must be a block: a statement would be in force after the call.

    >>> import chainrule as cr
    >>> _ = cr.set_grad_enabled(False)
    >>> cr.is_grad_enabled()
    False
    >>> with cr.set_grad_enabled(True):
    ...     cr.is_grad_enabled()
    True
    >>> _ = cr.set_grad_enabled(True)
    """
    return _Statement(bool(mode))
