"""Parameter: a tensor that a Module counts among the things it learns."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import graph
from chainrule.dtypes import DType, numbers_of
from chainrule.errors import SettingError
from chainrule.graph import Node
from chainrule.tensor import Tensor
from chainrule.tensor.core import Handle, as_leaf, lifted
from chainrule.tensor.creation import as_tensor, tensor
from chainrule.tensor.views import share


class Parameter(Tensor):
    """A tensor that joins a Module's ``parameters()`` when it is assigned to one of its attributes.

    Args:
        data: the starting value: a Tensor, or anything ``cr.as_tensor`` takes. Any shape.
        requires_grad: False freezes it.

    Raises:
        DtypeError: it requires grad but its dtype is not floating-point.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Parameter(cr.zeros(2))
        Parameter containing:
        tensor([0., 0.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        given = as_tensor(data)
        super().__init__(as_leaf(lifted(given), None))
        if isinstance(data, Tensor) and not graph.tracing():
            share(self, given.detach() if given.requires_grad else given)  # a write to either is seen by the other
        if requires_grad:
            self.requires_grad_()

    @classmethod
    def _of(cls, node: Node) -> Tensor:
        parameter = cls.__new__(cls)
        Handle.__init__(parameter, node)
        return parameter

    def __reduce__(self) -> Any:
        return _again, (numbers_of(self._node.value).copy(), self.dtype.name, self.requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def _again(data: graph.Array, dtype: str, requires_grad: bool) -> Parameter:
    """A parameter that was pickled."""
    return Parameter(tensor(data, dtype), requires_grad)


class UninitializedParameter(Parameter):
    """A parameter whose shape its layer does not know yet; whatever asks for its value raises.

    Args:
        dtype: of the parameter that it becomes.

    Raises:
        SettingError: its value, or its shape, was asked for.
    """

    __slots__ = ()

    _unmade = True

    def __init__(self, dtype: DType) -> None:
        _NODE.__set__(self, graph.leaf(np.zeros(0, dtype.numpy), dtype))
        self._grad, self._views, self._families = None, None, ()

    @property
    def _node(self) -> Node:  # type: ignore[override]
        raise SettingError(
            "this parameter of a lazy layer has no value yet: the first call of its layer makes it. Call the model once "
            "on some rows first: model(x)."
        )

    def materialize(self, shape: tuple[int, ...]) -> None:
        """Become a parameter of this shape, all of it 0."""
        dtype = _NODE.__get__(self).dtype
        self.__class__ = Parameter  # type: ignore[assignment]
        _NODE.__set__(self, graph.leaf(np.zeros(shape, dtype.numpy), dtype))
        self.requires_grad_()


_NODE: Any = Handle.__dict__["_node"]  # where a handle keeps its node
