"""``torch.autograd.functional``'s names: derivatives of a function at given inputs, by the transforms that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.autodiff import transforms
from chainrule.autodiff.trees import mapped
from chainrule.errors import SettingError
from chainrule.names import module_getattr, takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.creation import ones_like

Given = Tensor | Sequence[Tensor]

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


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


@takes_keywords("autograd_functional")
def vjp(
    func: Callable[..., Any], inputs: Given, v: Given | None = None, create_graph: bool = False, strict: bool = False
) -> Any:
    """(outputs, v^T J): the gradient of the outputs along `v`, by each input.

    Args:
        func: from tensors to a tensor, or a tuple of them.
        inputs: a tensor, or a tuple of them, which are its arguments; the result is as they are.
        v: a gradient for each output; not needed for an output of one element.
        create_graph: keep the history, so that the result can be differentiated.
        strict: False; an input that no output depends on has zeros.

    Raises:
        SettingError: `strict`, or no `v` where there must be one.

    >>> import chainrule as cr
    >>> cr.autograd.functional.vjp(lambda x: x * x, cr.tensor([1.0, 3.0]), cr.tensor([1.0, 10.0]))
    (tensor([1., 9.]), tensor([ 2., 60.]))
    """
    args = _arguments("vjp", inputs, strict)
    outputs, pullback = transforms.vjp(func, *args)
    found = pullback(_along("vjp", v, outputs))
    return _kept(outputs, create_graph), _like(inputs, found, create_graph)


@takes_keywords("autograd_functional")
def jvp(
    func: Callable[..., Any], inputs: Given, v: Given | None = None, create_graph: bool = False, strict: bool = False
) -> Any:
    """(outputs, J v): how the outputs move when the inputs move along `v`.

    Args:
        func, inputs, create_graph, strict: as for `vjp`.
        v: a tangent for each input; not needed for one input of one element.

    Raises:
        SettingError: `strict`, or no `v` where there must be one.

    >>> import chainrule as cr
    >>> cr.autograd.functional.jvp(lambda x: x * x, cr.tensor([1.0, 3.0]), cr.tensor([1.0, 10.0]))
    (tensor([1., 9.]), tensor([ 2., 60.]))
    """
    args = _arguments("jvp", inputs, strict)
    outputs, moved = transforms.jvp(func, args, _tuple(_along("jvp", v, inputs)))
    return _kept(outputs, create_graph), _kept(moved, create_graph)


@takes_keywords("autograd_functional")
def hvp(
    func: Callable[..., Any], inputs: Given, v: Given | None = None, create_graph: bool = False, strict: bool = False
) -> Any:
    """(value, H v), H being the second derivatives of a function of one element.

    Args:
        func: gives a tensor of one element.
        inputs, create_graph, strict: as for `vjp`.
        v: a tangent for each input; not needed for one input of one element.

    Raises:
        SettingError: `strict`, or no `v` where there must be one.

    >>> import chainrule as cr
    >>> cr.autograd.functional.hvp(lambda x: (x ** 3).sum(), cr.tensor([1.0, 2.0]), cr.tensor([1.0, 10.0]))
    (tensor(9.), tensor([  6., 120.]))
    """
    args = _arguments("hvp", inputs, strict)
    tangents = _tuple(_along("hvp", v, inputs))
    both = transforms.value_and_grad(lambda *xs: func(*xs).reshape(()), tuple(range(len(args))))
    (_, moved) = transforms.jvp(lambda *xs: both(*xs)[1], args, tangents)
    return _kept(func(*args), create_graph), _like(inputs, moved, create_graph)


@takes_keywords("autograd_functional")
def vhp(
    func: Callable[..., Any], inputs: Given, v: Given | None = None, create_graph: bool = False, strict: bool = False
) -> Any:
    """(value, v^T H): the same as `hvp`, H being symmetric; arguments as there."""
    return hvp(func, inputs, v, create_graph, strict)


def _tuple(given: Given) -> tuple[Tensor, ...]:
    return (given,) if isinstance(given, Tensor) else tuple(given)


def _arguments(name: str, inputs: Given, strict: bool) -> tuple[Tensor, ...]:
    _check_strict(name, strict)
    return _tuple(inputs)


def _check_strict(name: str, strict: bool) -> None:
    if strict:
        raise SettingError(f"{name}: strict must be False; inputs that no output depends on have zeros here.")


def _along(name: str, v: Given | None, like: Given) -> Given:
    """What was given to go along, or 1 for one element."""
    if v is not None:
        return tuple(v) if isinstance(v, list) else v
    if isinstance(like, Tensor) and like.numel() == 1:
        return ones_like(like.detach())
    raise SettingError(f"{name}: v must be given, except for a single tensor of one element.")


def _like(inputs: Given, found: Sequence[Tensor], keep: bool) -> Any:
    return _kept(found[0] if isinstance(inputs, Tensor) else tuple(found), keep)


def _kept(found: Any, keep: bool) -> Any:
    return found if keep else mapped(lambda leaf: leaf.detach(), found)


def _at(
    name: str, transform: Callable[..., Any], func: Callable[..., Any], inputs: Any, keep: bool, strict: bool
) -> Any:
    _check_strict(name, strict)
    if isinstance(inputs, Tensor):
        found = transform(func)(inputs)
    else:
        found = transform(func, argnums=tuple(range(len(inputs))))(*inputs)
    return _kept(found, keep)


__getattr__ = module_getattr("autograd_functional", __name__)
