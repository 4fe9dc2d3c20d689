"""A native loop that stands still between any two of its steps.

Binding a loop (its arguments, results and state) costs far more than moving it on, so whoever runs several
loops by turns binds each once. What a loop is bound to must then stay as it is, and every move makes sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chainrule.errors import SettingError, TraceError
from chainrule.graph import Array
from chainrule.tensor.core import Handle

if TYPE_CHECKING:
    from chainrule.compiler.variant import Variant


class Loop:
    """So many steps of one program, bound; `Compiled.begin` makes it.

    Attributes:
        left: how many steps are still to come.
    """

    def __init__(self, variant: Variant, leaves: Sequence[Handle], outputs: list[Array], steps: int) -> None:
        self._variant, self._leaves, self._outputs, self._steps = variant, leaves, outputs, steps
        self.left = steps
        self._binding = variant.binding
        self._nodes = variant.state_nodes()

    def stands(self, shared: bool = False) -> bool:
        """Is everything still as the loop left it, or another one over the same state?"""
        return self._variant.binding == self._binding and self._variant.undisturbed(self._nodes, shared)

    def advance(self, steps: int, shared: bool = False) -> None:
        """The next steps.

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
        self._variant.execute(steps, self._steps - self.left)
        self.left -= steps

    def end(self) -> Any:
        """What the function returned at each step, stacked along a new first axis.

        Raises:
            SettingError: steps are left.
        """
        if self.left:
            raise SettingError(f"loop: it cannot end with {self.left} steps left. Advance it by as many first.")
        return self._variant.end(self._leaves, self._outputs, self._steps)
