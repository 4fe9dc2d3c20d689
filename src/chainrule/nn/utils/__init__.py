"""Gradient clipping, and parameters as one vector, under PyTorch's address, ``nn.utils``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import reduce
from operator import mul
from typing import Any, cast

from chainrule.autodiff.plain import plain
from chainrule.errors import NonFiniteError, SettingError
from chainrule.graph import deferred, in_grad_mode, shape_error, tracing, waiting
from chainrule.names import module_getattr, takes_keywords
from chainrule.nn.utils import rnn as rnn
from chainrule.nn.utils.norms import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm
from chainrule.tape.writes import writing
from chainrule.tensor import Tensor
from chainrule.tensor.core import settled
from chainrule.tensor.creation import zeros
from chainrule.tensor.functions import cat, no_grad, stack

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "parameters_to_vector",
    "remove_spectral_norm",
    "remove_weight_norm",
    "spectral_norm",
    "vector_to_parameters",
    "weight_norm",
]


def _with_gradient(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    return [parameter for parameter in given if parameter.grad is not None]


def _gradient(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        raise SettingError("a gradient vanished while it was being clipped. Do not clip from several threads.")
    return gradient


def _computed(gradient: Tensor) -> Tensor:
    """The gradient, outside traces as one that computes at once on its array: nobody asks for the steps of clipping."""
    return gradient if deferred() else plain(settled(gradient))


def _replace(parameter: Tensor, value: Tensor) -> None:
    """The gradient takes the value where it lies, as PyTorch's does; in a trace another tensor takes its place."""
    if tracing():
        parameter.grad = value
    else:
        _gradient(parameter)._rebind(value, "clip_grad")


@takes_keywords("utils")
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients by ``min(1, max_norm / (norm + 1e-6))``, norm being that of all of them together.

    Args:
        parameters: the tensors whose ``grad`` to scale; those without one are left out.
        max_norm: the largest norm to leave.
        norm_type: the p of the p-norm; ``math.inf`` (or ``"inf"``) takes the largest element.
        error_if_nonfinite: raise when the norm is NaN or infinite (not inside ``cr.compile``).

    Returns:
        The norm before clipping, a tensor without axes.

    Raises:
        NonFiniteError: see error_if_nonfinite.

    A gradient that several of them share counts for each, and is scaled for each, as in PyTorch.

    Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    _check_bound("clip_grad_norm_", "max_norm", max_norm)
    p = math.inf if norm_type == "inf" else cast(float, norm_type)
    chosen = _with_gradient(parameters)
    if not chosen:
        return zeros()
    gradients = list(map(_gradient, chosen))
    shared = Counter(map(id, gradients))
    if not error_if_nonfinite and len(shared) == len(chosen) and not tracing():
        return cast(Tensor, in_grad_mode(False, writing, _clip, waiting(), gradients, max_norm, p))
    with no_grad():
        computed = list(map(_computed, gradients))
        total = _norms(computed, p).norm(p)
        if error_if_nonfinite and not total.isfinite().item():
            raise NonFiniteError(
                f"clip_grad_norm_: the norm of the gradients is {total.item()}. Lower the learning "
                "rate, or look for "
                f"NaN in the data; error_if_nonfinite=False would clip on regardless."
            )
        scale = _scale(total, max_norm)
        scaled = [reduce(mul, [scale] * shared[id(g)], new) for g, new in zip(gradients, computed, strict=True)]
        for parameter, new in zip(chosen, scaled, strict=True):
            _replace(parameter, new)
    return total


def _clip(*given: Any) -> Tensor:
    """`clip_grad_norm_` of gradients that nobody shares; behind them stand its other arguments."""
    *gradients, max_norm, norm_type = given
    computed = list(map(_computed, gradients))
    total = _norms(computed, norm_type).norm(norm_type)
    scale = _scale(total, max_norm)
    for gradient, new in zip(gradients, [g * scale for g in computed], strict=True):
        gradient._rebind(new, "clip_grad")
    return total


def _scale(total: Tensor, max_norm: float) -> Tensor:
    return (max_norm / (total + 1e-6)).clamp(max=1.0)


def _norms(tensors: list[Tensor], p: float) -> Tensor:
    """Those of each; of the squares all roots at once."""
    if p == 2:
        return cat([(tensor * tensor).sum().reshape((1,)) for tensor in tensors]).sqrt()
    return stack([tensor.norm(p) for tensor in tensors])


@takes_keywords("utils")
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Hold every element of every gradient within [-clip_value, clip_value]."""
    _check_bound("clip_grad_value_", "clip_value", clip_value)
    with no_grad():
        for parameter in _with_gradient(parameters):
            _replace(parameter, _gradient(parameter).clamp(-clip_value, clip_value))


def _check_bound(name: str, argument: str, value: float) -> None:
    if math.isnan(value) or value < 0:
        raise SettingError(f"{name}: {argument} must be 0 or more, got {value!r}.")


@takes_keywords("utils")
def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of the parameters, one parameter after another, as one vector.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.utils.parameters_to_vector([cr.ones(2), cr.zeros(1, 2)])
        tensor([1., 1., 0., 0.])
    """
    return cat([parameter.reshape(-1) for parameter in parameters])


@takes_keywords("utils")
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Give the parameters the elements of a vector that ``parameters_to_vector`` made, or one like it.

    Raises:
        ShapeError: the vector has not as many elements as the parameters.
    """
    chosen = list(parameters)
    sizes = [parameter.numel() for parameter in chosen]
    if vec.shape != (sum(sizes),):
        raise shape_error(
            "vector_to_parameters", f"the vector must have the {sum(sizes)} elements of the parameters",
            f"shape {vec.shape}", "Make it from the same parameters.",
        )  # fmt: skip
    with no_grad():
        for parameter, part in zip(chosen, vec.split(sizes), strict=True):
            parameter.copy_(part.reshape(parameter.shape))


__getattr__ = module_getattr("utils", __name__)
