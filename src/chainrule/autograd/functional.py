"""``torch.autograd.functional``'s names: derivatives of a function at given inputs, by the transforms that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.autodiff import transforms
from chainrule.autodiff.trees import mapped
from chainrule.errors import SettingError
from chainrule.names import module_getattr, takes_keywords
from chainrule.tensor import Tensor

__all__ = ["hessian", "jacobian"]


@takes_keywords("autograd_functional")
def jacobian(
    func: Callable[..., Any], inputs: Tensor | Sequence[Tensor], create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """``cr.jacobian(func)(inputs)``: dY/dX, of shape Y.shape + X.shape.

    Args:
        func: gives a tensor, or a tuple of them.
        inputs: a tensor, or a tuple of them, which are its arguments. The result is one tensor, or nested tuples by output, then by input.
        create_graph: keep the history, so that the result can be differentiated.
        strict: False; an input that no output depends on has zeros.
        vectorize: accepted, and without effect.
        strategy: ``"reverse-mode"``.

    Raises:
        SettingError: another strategy, or `strict`.

    >>> import chainrule as cr
    >>> cr.autograd.functional.jacobian(lambda x: x * x, cr.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if strategy != "reverse-mode":
        raise SettingError(f"jacobian: strategy must be 'reverse-mode', got {strategy!r}. cr.jvp goes forward.")
    return _at("jacobian", transforms.jacobian, func, inputs, create_graph, strict)


@takes_keywords("autograd_functional")
def hessian(
    func: Callable[..., Any], inputs: Tensor | Sequence[Tensor], create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """``cr.hessian(func)(inputs)``: the second derivatives of a scalar function, of shape X.shape + X.shape.

    Args:
        func: gives a tensor of one element.
        inputs, create_graph, strict, vectorize: as for `jacobian`.
        outer_jacobian_strategy: ``"reverse-mode"``.

    Raises:
        SettingError: another strategy, or `strict`.

    >>> import chainrule as cr
    >>> cr.autograd.functional.hessian(lambda x: (x ** 3).sum(), cr.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    if outer_jacobian_strategy != "reverse-mode":
        raise SettingError(f"hessian: outer_jacobian_strategy must be 'reverse-mode', got {outer_jacobian_strategy!r}.")
    return _at("hessian", transforms.hessian, func, inputs, create_graph, strict)


def _at(
    name: str, transform: Callable[..., Any], func: Callable[..., Any], inputs: Any, keep: bool, strict: bool
) -> Any:
    if strict:
        raise SettingError(f"{name}: strict must be False; inputs that no output depends on have zeros here.")
    if isinstance(inputs, Tensor):
        found = transform(func)(inputs)
    else:
        found = transform(func, argnums=tuple(range(len(inputs))))(*inputs)
    return found if keep else mapped(lambda leaf: leaf.detach(), found)


__getattr__ = module_getattr("autograd_functional", __name__)
