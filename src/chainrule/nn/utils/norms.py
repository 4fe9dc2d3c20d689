"""Weights that are computed from others whenever they are read: weight normalisation and spectral normalisation.

The layer is given a class of its own, of the same name, in which the weight is a property: so a compiled step, a loop and
``layer.weight`` anywhere read what the parameters say now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from chainrule.errors import SettingError
from chainrule.names import takes_keywords
from chainrule.nn.functional.distances import normalize
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.tensor import Tensor
from chainrule.tensor.functions import no_grad

AnyModule = TypeVar("AnyModule", bound=Module)


@dataclass(frozen=True)
class Formula:
    """How a weight is computed from what stands in its place."""

    name: str
    dim: int | None

    def put_on_by(self) -> str:
        """The function that gave it to a layer."""
        raise NotImplementedError

    def weight(self, module: Module) -> Tensor:
        """What it is now."""
        raise NotImplementedError

    def before(self, module: Module) -> None:
        """What is done before each call of the module."""

    def parts(self) -> tuple[str, ...]:
        """The names of the parameters and buffers in its place."""
        raise NotImplementedError


# -- where a weight becomes a property ---------------------------------------------------------------------


def _formulas(module: Module) -> Mapping[str, Formula]:
    found: Mapping[str, Formula] = vars(type(module)).get("_computed_weights", {})
    return found


def norm_on(module: Module) -> str | None:
    """Which function normalised a weight of this layer: ``"weight_norm"``; None where none did."""
    return next((formula.put_on_by() for formula in _formulas(module).values()), None)


def _compute(module: Module, formulas: Mapping[str, Formula]) -> None:
    """Give the module the class in which these weights, and no others, are computed."""
    kind = type(module)
    plain = kind.__mro__[1] if _formulas(module) else kind
    if not formulas:
        module.__class__ = plain
        return

    def call(self: Module, *args: Any, **kwargs: Any) -> Any:
        for formula in formulas.values():
            formula.before(self)
        return plain.__call__(self, *args, **kwargs)

    space: dict[str, Any] = {name: property(formula.weight) for name, formula in formulas.items()}
    space |= {
        "__call__": call,
        "_computed_weights": dict(formulas),
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
    }
    module.__class__ = type(plain)(plain.__name__, (plain,), space)


def _taken(owner: str, module: Module, name: str) -> Parameter:
    """The parameter of that name, which the module has no more."""
    if name in _formulas(module):
        raise SettingError(f"{owner}: {type(module).__name__}.{name} is normalised already. Take that off first.")
    weight: Parameter | None = module._parameters.get(name)
    if weight is None:
        raise SettingError(
            f"{owner}: {type(module).__name__} has no parameter {name!r}. It has {', '.join(module._parameters) or 'none'}."
        )
    if weight._unmade:
        raise SettingError(f"{owner}: {type(module).__name__}.{name} has no size yet. Call the module once before.")
    delattr(module, name)
    return weight


def _give_back(owner: str, kind: type[Formula], module: AnyModule, name: str) -> AnyModule:
    formula = _formulas(module).get(name)
    if not isinstance(formula, kind):
        raise SettingError(f"{owner}: {type(module).__name__}.{name} was not given one.")
    with no_grad():
        weight = Parameter(formula.weight(module).detach().clone())
    _compute(module, {other: known for other, known in _formulas(module).items() if other != name})
    for part in formula.parts():
        delattr(module, part)
    module.register_parameter(name, weight)
    return module


# -- weight normalisation ----------------------------------------------------------------------------------


class _WeightNorm(Formula):
    def put_on_by(self) -> str:
        return "weight_norm"

    def weight(self, module: Module) -> Tensor:
        v: Tensor = getattr(module, f"{self.name}_v")
        length: Tensor = getattr(module, f"{self.name}_g")
        return v * (length / self.length(v))

    def length(self, v: Tensor) -> Tensor:
        """The norm of each slice along the axis, or of the whole."""
        if self.dim is None:
            return v.norm()
        return v.norm(dim=tuple(axis for axis in range(v.ndim) if axis != self.dim % v.ndim), keepdim=True)

    def parts(self) -> tuple[str, ...]:
        return f"{self.name}_g", f"{self.name}_v"


@takes_keywords("utils")
def weight_norm(module: AnyModule, name: str = "weight", dim: int | None = 0) -> AnyModule:
    """Learn a weight's direction and its length apart: ``w = g v / ||v||``, with ``weight_g`` and ``weight_v`` in its place.

    Args:
        module: the layer, which is changed.
        name: of the parameter.
        dim: the axis along which each slice has a length of its own; None: one length for all.

    Returns:
        The module. ``module.weight`` is computed whenever it is read.

    Raises:
        SettingError: no such parameter, one without a size, or one that is normalised already.

    Source: Salimans, Kingma, "Weight normalization", NeurIPS 2016.

    Example:
        >>> from chainrule import nn
        >>> layer = nn.utils.weight_norm(nn.Linear(3, 2))
        >>> {name: tuple(p.shape) for name, p in layer.named_parameters()}
        {'bias': (2,), 'weight_g': (2, 1), 'weight_v': (2, 3)}
    """
    formula = _WeightNorm(name, None if dim is None or dim == -1 else dim)
    weight = _taken("weight_norm", module, name)
    with no_grad():
        module.register_parameter(f"{name}_g", Parameter(formula.length(weight.detach()).clone()))
    module.register_parameter(f"{name}_v", Parameter(weight.detach().clone()))
    _compute(module, {**_formulas(module), name: formula})
    return module


@takes_keywords("utils")
def remove_weight_norm(module: AnyModule, name: str = "weight") -> AnyModule:
    """Make the weight a parameter again, with the values that it has.

    Raises:
        SettingError: `weight_norm` was not given it.
    """
    return _give_back("remove_weight_norm", _WeightNorm, module, name)


# -- spectral normalisation --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _SpectralNorm(Formula):
    iterations: int
    eps: float

    def put_on_by(self) -> str:
        return "spectral_norm"

    def matrix(self, weight: Tensor) -> Tensor:
        assert self.dim is not None
        return weight.movedim(self.dim, 0).reshape((weight.shape[self.dim], -1))

    def weight(self, module: Module) -> Tensor:
        whole, u, v = (getattr(module, part) for part in self.parts())
        found: Tensor = whole / u.clone().dot(self.matrix(whole).mv(v.clone()))
        return found

    def before(self, module: Module) -> None:
        """In training the singular vectors come nearer to those of the largest value."""
        if not module.training:
            return
        whole, u, v = (getattr(module, part) for part in self.parts())
        with no_grad():
            matrix = self.matrix(whole.detach())
            for _ in range(self.iterations):
                v.copy_(normalize(matrix.t().mv(u), dim=0, eps=self.eps))
                u.copy_(normalize(matrix.mv(v), dim=0, eps=self.eps))

    def parts(self) -> tuple[str, ...]:
        return f"{self.name}_orig", f"{self.name}_u", f"{self.name}_v"


@takes_keywords("utils")
def spectral_norm(
    module: AnyModule, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> AnyModule:
    """Divide a weight by its largest singular value, so that the layer stretches nothing: ``weight_orig`` is learned.

    The value comes from power iterations, one (or `n_power_iterations`) before each call in training, from where the last ones
    ended: the buffers ``weight_u`` and ``weight_v``.

    Args:
        module: the layer, which is changed.
        name: of the parameter.
        n_power_iterations: before each call, 1 or more.
        eps: vectors shorter than this are not made longer.
        dim: the axis of the outputs; where None 0, and 1 of transposed convolutions.

    Returns:
        The module. ``module.weight`` is computed whenever it is read.

    Raises:
        SettingError: no such parameter, one without a size, one that is normalised already, or no iterations.

    Source: Miyato et al., "Spectral normalization for generative adversarial networks", ICLR 2018.

    Example:
        >>> import numpy as np
        >>> import chainrule as cr
        >>> layer = cr.nn.utils.spectral_norm(cr.nn.Linear(3, 2))
        >>> for _ in range(50):
        ...     y = layer(cr.ones(1, 3))
        >>> round(np.linalg.norm(layer.weight.detach().numpy(), 2).item(), 3)
        1.0
    """
    if n_power_iterations < 1:
        raise SettingError(f"spectral_norm: n_power_iterations must be 1 or more, got {n_power_iterations!r}.")
    transposed = any(base.__name__.startswith("ConvTranspose") for base in type(module).__mro__)
    formula = _SpectralNorm(name, int(transposed) if dim is None else dim, n_power_iterations, eps)
    weight = _taken("spectral_norm", module, name)
    with no_grad():
        height, width = formula.matrix(weight.detach()).shape
        module.register_parameter(f"{name}_orig", weight)
        for part, size in (("u", height), ("v", width)):
            start = weight.detach().new_zeros(size).normal_(0, 1)
            module.register_buffer(f"{name}_{part}", normalize(start, dim=0, eps=eps))
    _compute(module, {**_formulas(module), name: formula})
    return module


@takes_keywords("utils")
def remove_spectral_norm(module: AnyModule, name: str = "weight") -> AnyModule:
    """Make the weight a parameter again, with the values that it has.

    Raises:
        SettingError: `spectral_norm` was not given it.
    """
    return _give_back("remove_spectral_norm", _SpectralNorm, module, name)
