"""What a function reads, found by one trace of it, without a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.compiler.frontend import guards
from chainrule.compiler.frontend.binding import same_kind
from chainrule.compiler.frontend.capture import Capture
from chainrule.compiler.frontend.outside import Guards
from chainrule.compiler.frontend.trace import trace_function
from chainrule.compiler.runtime.locks import Locks, wait_for_trace
from chainrule.graph import LEAF, Node, Type
from chainrule.tensor.core import Handle, wrap


class Reading:
    """One trace of a function for arguments of these types; it holds while another trace would be the same.

    Args:
        function: takes tensors, and gives a list of them.
        types: of its arguments.
        given: names of attributes of modules that whoever calls the function sets to what they are now.

    Attributes:
        arguments: what stood for the arguments.
        results: of what type each result is.
        unchecked: what would have been looked at, had there been values.
    """

    def __init__(
        self, function: Callable[..., Any], types: Sequence[Type], given: frozenset[str] = frozenset()
    ) -> None:
        self._seen = guards.latest  # before the trace: what changes while it runs is looked at again
        self.arguments: list[Handle] = [wrap(Node(LEAF, (), {}, kind)) for kind in types]
        trace, found = trace_function(function, self.arguments, _in_order, Capture(function))
        self.results: list[Type] = [handle._node.type for handle in found]
        self.unchecked = trace.unchecked
        self._outside = Guards(trace.outside, given)
        self._guards = trace.guards
        self._slots = [slot for slot in trace.slots.values() if slot.argument is None]

    def holds(self) -> bool:
        """Is everything that the function read still as it was, and every tensor of its type?"""
        with Locks.tracing:
            wait_for_trace()  # another thread's borrows tensors
            return (
                self._modules_same()
                and all(check() for check in self._outside.checks)
                and all(getter() == value for getter, value in self._guards)
                and all(same_kind(slot.current()._node, slot.input) for slot in self._slots)
            )

    def _modules_same(self) -> bool:
        now = guards.latest
        if self._seen != now:
            if not self._outside.same():
                return False
            self._seen = now
        return True


def _in_order(tensors: list[Any]) -> tuple[Any, Any]:
    return tuple(tensors), {}
