"""Whoever writes operations down instead of computing them: what `graph` asks of a trace, and of a tape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any


class Recorder:
    """What a trace must offer: that of a program (`compiler.frontend.trace`), or of a region inside a node (`control`)."""

    name: str = "cr.compile"  # whose function runs
    outer: Recorder | None = None  # the trace that a region stands in
    thread: int  # the one that traces
    began: float  # when it did, by time.monotonic
    ended: threading.Event  # set once every handle names its own node again
    outside: Any  # what it reads of Python, and assigns there (`compiler.outside`)
    guards: list[tuple[Callable[[], Hashable], Hashable]]  # what it read from Python: how to ask again, and the answer
    unchecked: list[tuple[Any, ...]]  # what would have been looked at, had there been values

    def wait(self) -> None:
        """Come back once the trace has ended; a BusyError where it takes too long."""
        raise NotImplementedError

    def lift(self, handle: Any) -> Any:
        """The node that stands for a handle from outside the trace."""
        raise NotImplementedError

    def made(self, handle: Any) -> None:
        """Note a handle that names what was written down."""

    def touch_grad(self, handle: Any, reading: bool, assigned: bool = False) -> None:
        """Note that the trace reads ``handle.grad``, or sets it (`assigned`: to a tensor, not None)."""
        raise NotImplementedError

    def follow(self, view: Any) -> None:
        """Note that the trace read a view of a handle from outside."""
        raise NotImplementedError

    def differentiated(self, node: Any, gradient: Any) -> None:
        """Note which node is the whole gradient of `node`."""
        raise NotImplementedError


class Tape:
    """What a thread offers whose operations wait to be computed together (`tape`)."""

    itself: Tape  # not what stands for it before the thread has recorded anything
    rest: int  # so many operations are computed at once from here on

    def record(self, op: Any, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """The node that waits for the op's value; None where it must be computed at once."""
        raise NotImplementedError

    def whole(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function gives that depends on nothing but its arguments, recorded as one where that is possible."""
        raise NotImplementedError

    def written(self) -> None:
        """A block without gradients ends, in which leaves may have been written to, as an optimizer's step does."""
        raise NotImplementedError

    def settle(self, node: Any) -> Any:
        """The value of one that waits."""
        raise NotImplementedError
