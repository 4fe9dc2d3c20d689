"""What a check inside a program says when it fails."""

from __future__ import annotations

from chainrule.errors import DivisionByZeroError, IndexRangeError
from chainrule.graph import Node


def of_check(node: Node, step: int) -> Exception:
    """What the check of this node says, at that step of a loop."""
    loop = f", step {step} of the loop" if step else ""
    if node.params.get("divisor"):
        return DivisionByZeroError(
            f"integers were divided by 0{node.whereabouts()}{loop}. Convert them with .float() for inf and NaN, or mask the "
            f"zeros out."
        )
    size, least = node.params["size"], node.params["least"]
    return IndexRangeError(
        f"index{node.whereabouts()}{loop}: an index is out of range for an axis of size {size}: it must be in "
        f"[{least}, {size - 1}]. Check the indices; if they are labels, there are {size} classes: number them from 0, or "
        f"widen the last layer."
    )
