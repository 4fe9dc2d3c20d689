"""Tensor: every family of methods in one class."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.borrowed import own
from chainrule.dtypes import numbers_of
from chainrule.errors import DtypeError, ShapeError
from chainrule.graph import Node
from chainrule.names import Named, mark_missing
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import Engine, Handle, Number, apply, as_leaf, current, lifted, view_of
from chainrule.tensor.creation import full, ones, tensor, zeros
from chainrule.tensor.hooks import RemovableHandle, register
from chainrule.tensor.inplace import InPlace
from chainrule.tensor.printing import text_of


class Tensor(InPlace, metaclass=Named):
    """An n-dimensional array that knows how it was computed.

    Made by `cr.tensor`, `cr.zeros` and the like; ``cr.Tensor(data)`` and ``cr.Tensor(2, 3)`` give float32 values and zeros,
    as PyTorch's constructor does. Operations give new tensors; with ``requires_grad``
    they keep their history, and ``loss.backward()`` walks it to fill ``grad`` of the leaves.

    >>> import chainrule as cr
    >>> x = cr.tensor([[1.0, 2.0]], requires_grad=True)
    >>> (x ** 2).sum().backward()
    >>> x.grad
    tensor([[2., 4.]])

    A view (``x[0]``, ``x.t()``, ``x.detach()``) and its tensor see each other's writes, as in PyTorch. Where we
    deviate: a value that an operation has read stays as it was, so that a later write never spoils a derivative
    (PyTorch raises); ``numpy()`` gives the value of the moment; and what is overwritten whole has no gradient
    (None), not zeros.
    """

    __slots__ = ()

    @classmethod
    def _of(cls, node: Node) -> Tensor:
        return Tensor(node)

    # -- history ----------------------------------------------------------------------------
    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Sequence[Tensor] | None = None,
    ) -> None:
        """Add the gradient of this tensor to ``grad`` of every leaf it depends on, by the chain rule.

        Args:
            gradient: the gradient arriving at this tensor, of its shape; may be left out for one element (1).
            retain_graph: keep the history for another backward pass (default: `create_graph`).
            create_graph: record the backward pass too, so that it can be differentiated again.
            inputs: only fill ``grad`` of these leaves.

        Raises:
            GradientError: the tensor has no history, or it was freed by an earlier backward.

        Where we deviate from PyTorch: a value that was changed in place after an operation read it is no error. The operation's
        derivative is taken at the value that it read, so the gradient is that of the loss that was computed.

        >>> import chainrule as cr
        >>> w = cr.tensor(3.0, requires_grad=True)
        >>> (w * w).backward()
        >>> w.grad
        tensor(6.)
        """
        retain = create_graph if retain_graph is None else retain_graph
        Engine.backward(self, gradient, retain, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same values without history; a write to it reaches this tensor, as in PyTorch.

        >>> import chainrule as cr
        >>> x = cr.ones(2, requires_grad=True)
        >>> x.detach().requires_grad
        False
        """
        before = node = lifted(self)
        result = apply(ew.detach, self) if graph.tracing() else Tensor(as_leaf(node, None))
        graph.in_grad_mode(False, view_of, result, self, (), before)
        if result._views is not None:
            result._views.own = True
        return result

    def clone(self, *, memory_format: object = None) -> Tensor:
        """A tensor of the same value, with its history."""
        return apply(ew.alias, self)

    @property
    def data(self) -> Tensor:
        """The value without history; assign, or write to it in place, to change this tensor unrecorded.

        After ``x.data = y`` both look at the same elements, and views of `x` taken before keep the old ones. Inside a
        compiled function the elements of `y` are copied into `x`, and views of `x` see them.
        """
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        Engine.take_over(self, value)

    def retain_grad(self) -> None:
        """Have backward fill ``grad`` of this tensor too, although it is no leaf."""
        node, tape = lifted(self), graph.waiting()
        node.owner = weakref.ref(self) if self.requires_grad else None
        if tape is not None:  # the gradient goes to one more
            tape.mark(("owner", node.place if tape.waits(node) else None))

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Have backward call ``hook(gradient)`` when the gradient of this tensor is there, before it goes on.

        Args:
            hook: may return another gradient of the same type, which takes its place; what it returns is not None only then.

        Returns:
            A handle with ``remove()``.

        Raises:
            GradientError: the tensor does not require grad; in backward, if what the hook returned is of another type.

        In a compiled function it is traced, like everything there.

        >>> import chainrule as cr
        >>> x = cr.ones(2, requires_grad=True)
        >>> handle = x.register_hook(lambda grad: grad * 10)
        >>> (x * 2).sum().backward()
        >>> x.grad
        tensor([20., 20.])
        """
        return register(self, hook, "_hooks")

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Have backward call ``hook(tensor)`` when it has added to ``grad`` of this leaf; see `register_hook`."""
        return register(self, hook, "_after")

    # -- new tensors like this one ------------------------------------------------------------
    def new_zeros(self, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """Zeros, of this dtype unless another is given."""
        wanted = self.dtype if dtype is None else dtype
        return zeros(*size, dtype=wanted, device=device, requires_grad=requires_grad)

    def new_ones(self, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """Ones, of this dtype unless another is given."""
        wanted = self.dtype if dtype is None else dtype
        return ones(*size, dtype=wanted, device=device, requires_grad=requires_grad)

    def new_full(
        self, size: Any, fill_value: Number, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Tensor:
        """One number, in this dtype unless another is given."""
        wanted = self.dtype if dtype is None else dtype
        return full(size, fill_value, dtype=wanted, device=device, requires_grad=requires_grad)

    def new_tensor(self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """A tensor with a copy of `data`, of this dtype unless another is given."""
        return tensor(data, self.dtype if dtype is None else dtype, requires_grad, device=device)

    def new_empty(self, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """Zeros (see `cr.empty`), of this dtype unless another is given."""
        return self.new_zeros(*size, dtype=dtype, device=device, requires_grad=requires_grad)

    # -- Python -------------------------------------------------------------------------------
    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *vars(self)})

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise TypeError(
                f"{graph.who('index')}: only an integer tensor can be an index, got {self.dtype.name}. "
                f"Convert it with .long()."
            )
        return int(self.item())

    def __bool__(self) -> bool:
        if self.numel() != 1 and self._node._value is not None:
            raise ShapeError(
                f"{graph.who('bool')}: a tensor of shape {self.shape} is neither true nor false. Use .any() or .all()."
            )
        return bool(self.item())

    def __copy__(self) -> Tensor:
        return self._leaf_like(self._node.value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError(
                "deepcopy: only a leaf can be copied, not the result of an operation that requires grad. "
                "Copy x.detach() instead."
            )
        copy = self._leaf_like(own(self._node.value))
        memo[id(self)] = copy
        if self._grad is not None:
            copy._grad = self._grad.detach().clone()
        return copy

    def _leaf_like(self, value: graph.Array) -> Tensor:
        """A leaf of this class, dtype and `requires_grad`."""
        copy = type(self)._of(graph.leaf(value, self.dtype))
        return copy.requires_grad_() if self.requires_grad else copy

    def __reduce__(self) -> Any:
        return tensor, (numbers_of(self._node.value).copy(), self.dtype.name, self.requires_grad)

    def __repr__(self) -> str:
        return text_of(current(self))

    def __format__(self, spec: str) -> str:
        if not self.ndim and (spec or type(self) is Tensor):  # else as PyTorch: object's own
            return format(self.item(), spec)
        if spec:
            raise TypeError(
                f"{graph.who('format')}: only a tensor of no axes takes a format, got {spec!r} for one of shape {self.shape}. "
                f"Format its numbers: x.tolist(), or x.item() of one."
            )
        return repr(self)


def _legacy(data: Any = None, *sizes: Any) -> Node:
    """What PyTorch's constructor takes: sizes, or values for float32; a tensor gives its own."""
    if data is None and not sizes:
        return lifted(zeros(0))
    if isinstance(data, Handle) and not sizes and (data.ndim or not data.dtype.is_integer):
        return lifted(data._tensor.detach().clone())
    if isinstance(data, (list, tuple, np.ndarray)) and not sizes and np.ndim(data):
        return lifted(tensor(data, dtypes.float32))
    if isinstance(data, float) or not hasattr(data, "__index__"):
        raise DtypeError(
            f"{graph.who('Tensor')}: must be called with sizes, or with a list, array or tensor, got "
            f"{type(data).__name__}. Use cr.tensor(...), which keeps the dtype and takes numbers."
        )
    return lifted(zeros(data, *sizes))


def _named_after_tensor() -> None:
    """Python's own errors about arguments say ``Tensor.copy_()``, whichever family of methods it comes from."""
    for family in Tensor.__mro__[:-1]:
        for member in vars(family).values():
            while isinstance(member, FunctionType):  # and what it is wrapped around
                member.__qualname__ = f"Tensor.{member.__name__}"
                member = getattr(member, "__wrapped__", None)


_named_after_tensor()
mark_missing("Tensor", Tensor)
Engine.tensor = Tensor
Engine.legacy = _legacy
