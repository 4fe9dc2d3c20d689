"""The functions of the package that are methods of Tensor, or join several tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, TypeVar

from chainrule import dtypes, graph
from chainrule.errors import ShapeError
from chainrule.ops import shaping as shaping_ops
from chainrule.tensor.arithmetic import elementwise_where
from chainrule.tensor.core import Handle, Operand, apply, as_dtype_tensor, axis
from chainrule.tensor.creation import as_tensor
from chainrule.tensor.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def _function(name: str) -> Callable[..., Any]:
    """``cr.exp(x, ...)`` for ``x.exp(...)``."""
    method = getattr(Tensor, name)

    @wraps(method)
    def function(input: Operand, *args: Any, **kwargs: Any) -> Any:
        return method(as_tensor(input), *args, **kwargs)

    function.__qualname__ = name
    function.__module__ = __name__
    return function


# One name for each method that PyTorch also has as a function.
METHODS = (
    "abs add all amax amin any argmax argmin ceil chunk clamp clip clone cos detach div dot eq erf exp expand expm1 "
    "flatten flip floor gather ge gt index_select isfinite isinf isnan le log log1p log2 log_softmax logical_and "
    "logical_not logical_or logical_xor logsumexp lt masked_fill matmul max maximum mean min minimum mm movedim mul "
    "narrow ne neg norm numel permute pow reciprocal relu reshape round rsqrt scatter scatter_add sigmoid sign sin "
    "softmax split sqrt square squeeze std sub sum t tanh transpose tril triu trunc unbind unflatten unsqueeze var"
).split()
globals().update({name: _function(name) for name in METHODS})


def where(condition: Tensor, input: Operand, other: Operand) -> Tensor:
    """`input` where `condition` holds, `other` elsewhere.

    >>> import chainrule as cr
    >>> x = cr.tensor([-1.0, 2.0])
    >>> cr.where(x > 0, x, 0.0)
    tensor([0., 2.])
    """
    return elementwise_where(condition, input, other)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after another along an axis.

    >>> import chainrule as cr
    >>> cr.cat([cr.ones(2), cr.zeros(1)])
    tensor([1., 1., 0.])
    """
    given = [as_tensor(t) for t in tensors]
    if not given:
        raise ShapeError(f"{graph.who('cat')}: needs at least one tensor, got none. Check the list.")
    if len(given) == 1:
        return given[0]
    dtype = dtypes.promote(t.dtype for t in given)
    return apply(shaping_ops.cat, *(as_dtype_tensor(t, dtype) for t in given), dim=axis("cat", dim, given[0].ndim))


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors along a new axis.

    >>> import chainrule as cr
    >>> cr.stack([cr.zeros(2), cr.ones(2)]).shape
    (2, 2)
    """
    return cat([as_tensor(t).unsqueeze(dim) for t in tensors], dim)


class _GradMode:
    """``with no_grad():`` and ``@no_grad()`` alike."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._blocks: list[AbstractContextManager[None]] = []

    def __enter__(self) -> None:
        self._blocks.append(graph.grad_mode(self._enabled))
        self._blocks[-1].__enter__()

    def __exit__(self, *error: Any) -> None:
        self._blocks.pop().__exit__(*error)

    def __call__(self, function: F) -> F:
        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with graph.grad_mode(self._enabled):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


def no_grad() -> _GradMode:
    """A block (or decorated function) whose operations leave no history for backward."""
    return _GradMode(False)


def enable_grad() -> _GradMode:
    """A block whose operations record history again, inside ``no_grad``."""
    return _GradMode(True)


def set_grad_enabled(mode: bool) -> _GradMode:
    """A block that records history if `mode` is true."""
    return _GradMode(mode)


def is_tensor(value: object) -> bool:
    return isinstance(value, Handle)
