"""What a tensor came from, to look at: PyTorch's ``grad_fn``."""

from __future__ import annotations

from typing import Any

from chainrule.graph import Node


class GradFn:
    """The operation that a tensor is the result of; `backward` goes from it to its ``next_functions``.

    An operation of PyTorch's may be several here, and has another name. A ``backward`` that forgets the history forgets
    what was next, too.

    >>> import chainrule as cr
    >>> x = cr.ones(2, requires_grad=True)
    >>> y = (x * 2).sum()
    >>> y.grad_fn, y.grad_fn.next_functions
    (<sum>, ((<mul>, 0),))
    >>> y.grad_fn.next_functions[0][0].next_functions[0][0].variable is x
    True
    """

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def name(self) -> str:
        """What the operation is called; ``"AccumulateGrad"`` where a gradient ends in the ``grad`` of a leaf."""
        return "AccumulateGrad" if self._node.is_leaf else self._node.op.name

    @property
    def next_functions(self) -> tuple[tuple[GradFn | None, int], ...]:
        """For each argument, where its gradient goes on; None where none is asked for."""
        inputs = () if self._node.is_leaf else self._node.inputs
        return tuple((GradFn(node) if node.requires_grad else None, 0) for node in inputs)

    @property
    def variable(self) -> Any:
        """The leaf whose ``grad`` the gradient is added to.

        Raises:
            AttributeError: it is none, but an operation.
        """
        if not self._node.is_leaf:
            raise AttributeError(f"grad_fn.variable: {self} is an operation, and only AccumulateGrad has a leaf.")
        return None if self._node.owner is None else self._node.owner()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GradFn) and other._node is self._node

    def __hash__(self) -> int:
        return hash(self._node)

    def __repr__(self) -> str:
        return f"<{self.name()}>"
