"""A native loop that stands still between any two of its steps.

Binding a loop (its arguments, results and state) costs far more than moving it on, so whoever runs several
loops by turns binds each once. What a loop is bound to must then stay as it is, and every move makes sure.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from chainrule import graph
from chainrule.errors import SettingError, TraceError
from chainrule.graph import Array, Node
from chainrule.tensor.core import Handle, wrap

if TYPE_CHECKING:
    from chainrule.compiler.variant import Variant


class Loop:
    """So many steps of one function, bound; `Compiled.begin` makes it.

    Attributes:
        left: how many steps are still to come.
        around: what a step runs in that needs another program than the one before: another may run meanwhile in another.
    """

    def __init__(
        self, variant: Variant, leaves: list[Handle], outputs: list[Array], steps: int, again: Callable[[], Variant]
    ) -> None:
        self._arguments = [leaf._node for leaf in leaves]
        self._outputs, self._steps, self._again = outputs, steps, again
        self.around: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.left = steps
        self._take(variant)

    def _take(self, variant: Variant) -> None:
        """Go on with this program, from the step at which the loop stands."""
        self._variant, done = variant, self._steps - self.left
        if self.left:
            variant.bind_loop([_after(node, done) for node in self._arguments], [each[done:] for each in self._outputs])
        self._binding, self._nodes = variant.binding, variant.state_nodes()
        self._moved = False  # did a step leave something else than it found?

    @property
    def program(self) -> object:
        """The same object for two loops that run the same program."""
        return self._variant

    def stands(self, shared: bool = False) -> bool:
        """Is everything still as the loop left it, or another one over the same state?"""
        return self._variant.binding == self._binding and self._variant.undisturbed(self._nodes, shared)

    def advance(self, steps: int, shared: bool = False) -> None:
        """The next steps of the program that `begin` found: what Python changes meanwhile counts from the next `begin` on.

        Gradients are found and left as by so many calls: where the next step finds another kind of state than the
        last (a gradient where there was none, say), it is another program that goes on.

        Args:
            shared: go on where the state was read meanwhile (by another thread): what was read changes with it.

        Raises:
            SettingError: fewer are left.
            TraceError: the state was read or changed, or the function called, since the loop began.
        """
        if not 0 <= steps <= self.left:
            raise SettingError(f"loop: {self.left} steps are left, got {steps}. Begin another loop for more.")
        if steps and not self.stands(shared):
            raise TraceError(
                "loop: its function was called, or its state read or changed, after it began. End a loop before you do "
                "either, and begin another."
            )
        while steps:
            steps -= self._some(steps)

    def _some(self, steps: int) -> int:
        """As many of the next steps as one program takes."""
        if self._moved or not self._variant.in_place():
            self._take(self._next())
        self._variant.bind_places()
        count = steps if self._variant.steady else 1
        self._variant.execute(count, self._steps - self.left)
        self._variant.settle()
        self.left -= count
        self._moved = not self._variant.steady
        return count

    def _next(self) -> Variant:
        with self.around():
            variant = self._again()
        if variant is not self._variant and not variant.returns_like(self._variant):
            raise TraceError(
                "loop: the function returns other results at its second step than at its first, since it asks whether "
                "there is a gradient. Return the same at every step."
            )
        return variant

    def so_far(self) -> Any:
        """What the function returned at each step that is done, stacked along a new first axis; the loop goes on.

        >>> import chainrule as cr
        >>> total = cr.tensor(0.0)
        >>> @cr.compile
        ... def add(x):
        ...     total.add_(x)
        ...     return total * 1
        >>> steps = add.begin(cr.ones(3))
        >>> steps.advance(2)
        >>> steps.so_far()
        tensor([1., 2.])
        """
        done = self._steps - self.left
        return self._variant.end([each[:done] for each in self._outputs])

    def stop(self) -> None:
        """No more steps: the loop ends with those that it has taken."""
        done = self._steps - self.left
        self._outputs, self._steps, self.left = [each[:done] for each in self._outputs], done, 0

    def described(self) -> Any:
        """The form of what the function returns, with a number in place of each tensor."""
        return self._variant.form()

    def peek(self, result: int) -> Array:
        """A result of the steps taken so far, by its number among all."""
        return self._outputs[result][: self._steps - self.left]

    def end(self) -> Any:
        """What the function returned at each step, stacked along a new first axis.

        Raises:
            SettingError: steps are left.
        """
        if self.left:
            raise SettingError(f"loop: it cannot end with {self.left} steps left. Advance it by as many first.")
        return self._variant.end(self._outputs)


def _after(argument: Node, steps: int) -> Handle:
    """What is left of an argument's entries."""
    return wrap(graph.leaf(argument.value[steps:], argument.dtype) if steps else argument)
