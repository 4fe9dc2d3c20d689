"""Parameter: a tensor that a Module counts among the things it learns."""

from __future__ import annotations

from typing import Any

from chainrule.tensor import Tensor


class Parameter(Tensor):
    """A tensor that becomes part of a Module's ``parameters()`` when assigned to one of its attributes.

    Args:
        data: the starting value, a Tensor or anything ``cr.as_tensor`` takes. Any shape.
        requires_grad: False freezes it.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Parameter(cr.zeros(2)).requires_grad
        True
    """

    def __new__(cls, data: Any, requires_grad: bool = True) -> Parameter:
        raise NotImplementedError
