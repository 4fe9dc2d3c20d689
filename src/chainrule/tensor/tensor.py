"""Tensor: every family of methods in one class, and how it prints."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.graph import Node
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import Engine, apply, lifted, view
from chainrule.tensor.creation import full
from chainrule.tensor.inplace import InPlace


class Tensor(InPlace):
    """An n-dimensional array that knows how it was computed.

    Made by `cr.tensor`, `cr.zeros` and the like. Operations give new tensors; with ``requires_grad``
    they keep their history, and ``loss.backward()`` walks it to fill ``grad`` of the leaves.

    >>> import chainrule as cr
    >>> x = cr.tensor([[1.0, 2.0]], requires_grad=True)
    >>> (x ** 2).sum().backward()
    >>> x.grad
    tensor([[2., 4.]])
    """

    __slots__ = ()

    @classmethod
    def _of(cls, node: Node) -> Tensor:
        return Tensor(node)

    # -- history ----------------------------------------------------------------------------
    def backward(
        self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add the gradient of this tensor to ``grad`` of every leaf it depends on, by the chain rule.

        Args:
            gradient: the gradient arriving at this tensor, of its shape; may be left out for one element (1).
            retain_graph: keep the history for another backward pass (default: `create_graph`).
            create_graph: record the backward pass too, so that it can be differentiated again.

        Raises:
            GradientError: the tensor has no history, or it was freed by an earlier backward.

        >>> import chainrule as cr
        >>> w = cr.tensor(3.0, requires_grad=True)
        >>> (w * w).backward()
        >>> w.grad
        tensor(6.)
        """
        Engine.backward(self, gradient, create_graph if retain_graph is None else retain_graph, create_graph)

    def detach(self) -> Tensor:
        """The same values without history (a value of its own; PyTorch's would share memory)."""
        if graph.tracing():
            return view(ew.detach, self)
        node = self._node
        result = Tensor(graph.leaf(node.value, node.dtype))
        result._base = self._self_reference()
        return result

    def _self_reference(self) -> Any:
        import weakref

        return weakref.ref(self)

    def clone(self) -> Tensor:
        """A tensor of the same value, with its history."""
        return apply(ew.alias, self)

    @property
    def data(self) -> Tensor:
        """The value without history; assign to replace it, as in ``p.data = p.data - lr * p.grad``."""
        result = self.detach()
        result._base = None
        return result

    @data.setter
    def data(self, value: Tensor) -> None:
        with graph.grad_mode(False):
            self.copy_(value)

    def retain_grad(self) -> None:
        """Have backward fill ``grad`` of this tensor too, although it is no leaf."""
        lifted(self).owner = self._self_reference() if self.requires_grad else None

    # -- new tensors like this one ------------------------------------------------------------
    def new_zeros(self, *shape: Any) -> Tensor:
        return full(*shape, fill_value=0, dtype=self.dtype)

    def new_ones(self, *shape: Any) -> Tensor:
        return full(*shape, fill_value=1, dtype=self.dtype)

    def new_full(self, shape: Any, fill_value: float) -> Tensor:
        return full(shape, fill_value=fill_value, dtype=self.dtype)

    # -- Python -------------------------------------------------------------------------------
    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise TypeError(f"only integer tensors can be an index, got {self.dtype.name}. Convert with .long().")
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __copy__(self) -> Tensor:
        return self.clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy = type(self)._of(graph.leaf(self._node.value, self.dtype))
        memo[id(self)] = copy
        return copy.requires_grad_() if self.requires_grad else copy

    def __reduce__(self) -> Any:
        from chainrule.tensor.creation import tensor

        return tensor, (self._node.value.copy(), self.dtype.name, self.requires_grad)

    def __repr__(self) -> str:
        return _format(self)


Engine.tensor = Tensor


def _format(t: Tensor) -> str:
    node = t._node
    notes = []
    if node.dtype not in (dtypes.float32, dtypes.int64, dtypes.bool_):
        notes.append(f"dtype={node.dtype!r}")
    if node._value is None:
        return f"<traced tensor: {node.type}{', requires_grad' if node.requires_grad else ''}>"
    if node.requires_grad:
        notes.append("requires_grad=True" if node.is_leaf else f"grad_fn=<{node.op.name}>")
    if not node._value.size:
        notes.insert(0, f"shape={node.shape}")
    body = np.array2string(
        node._value, separator=", ", prefix="tensor(", precision=4, threshold=1000, edgeitems=3,
        floatmode="fixed" if _needs_digits(node._value) else "maxprec_equal",
    )  # fmt: skip
    return f"tensor({', '.join([body, *notes])})"


def _needs_digits(value: Any) -> bool:
    """PyTorch prints 4 decimals unless every number is whole."""
    if value.dtype.kind != "f":
        return False
    finite = value[np.isfinite(value)]
    return bool((finite != np.floor(finite)).any())
