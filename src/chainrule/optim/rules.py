"""Update rules: pure functions that turn a gradient into a direction, one link after another.

An optimizer is a chain of links ending in ``param - lr * direction``::

    SGD      ascent? > decay? > momentum?
    Adam     ascent? > decay? > adam
    AdamW    ascent? > adam   > decay?       (the same links: decay comes after the moments)
    RMSprop  ascent? > decay? > rms > momentum?
    RAdam    ascent? > decay? > radam > decay?   (in one of the places)

A link never asks for a tensor's value, so a chain runs eagerly, inside ``cr.compile``, and on symbols alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.autodiff.plain import Plain
from chainrule.dtypes import computed, limits
from chainrule.graph import deferred
from chainrule.ops import reference
from chainrule.tensor import Tensor
from chainrule.tensor.core import settled
from chainrule.tensor.creation import as_tensor

State = Mapping[str, Tensor]
Scalar = float | Tensor  # a Python number, or inside a trace a tensor without axes
Settings = Mapping[str, Scalar]
Change = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Rule:
    """One link: ``apply(direction, param, state, settings) -> (direction, changed state)``."""

    name: str
    slots: tuple[
        str, ...
    ]  # the tensors that it keeps, of the parameter's shape unless the optimizer starts them with another
    apply: Callable[[Tensor, Tensor, State, Settings], Change]
    elementwise: bool = False  # each element of the result depends on the same element of what it reads, and on numbers


def update(rules: tuple[Rule, ...], param: Tensor, grad: Tensor, state: State, settings: Settings) -> Change:
    """One step of an optimizer: the new parameter and the new state.

    Args:
        rules: the chain.
        param: any shape, floating.
        grad: the gradient, of the same shape and dtype.
        state: the tensors named by the rules' slots.
        settings: lr and whatever the rules read; ``step_size`` where it is another number by which the direction is multiplied.
    """
    if param.dtype.only_stores:
        return _rounded(rules, param, grad, state, settings)
    direction, changed = grad, {}
    for rule in rules:
        direction, mine = rule.apply(direction, param, state, settings)
        changed.update(mine)
    return param - direction * settings.get("step_size", settings["lr"]), changed


def _rounded(rules: tuple[Rule, ...], param: Tensor, grad: Tensor, state: State, settings: Settings) -> Change:
    """The same in float32, each result rounded once to the dtype that keeps it (PyTorch rounds what lies between, too)."""
    wide = {slot: value.to(computed(value.dtype)) for slot, value in state.items()}
    new, changed = update(rules, param.float(), grad.float(), wide, settings)
    return new.to(param.dtype), {slot: value.to(state[slot].dtype) for slot, value in changed.items()}


# ---------------------------------------------------------------- pieces


def average(old: Tensor, new: Tensor, beta: Scalar) -> Tensor:
    """The exponential moving average ``beta * old + (1 - beta) * new``."""
    return old * beta + new * (1 - beta)


def correction(beta: Scalar, step: Tensor) -> Tensor:
    """``1 - beta^step``: the weight that an average started at 0 has gathered; float64, no axes."""
    if (
        isinstance(beta, float) and isinstance(step, Tensor) and not deferred()
    ):  # the same functions of NumPy's, without a tensor each
        power = reference.power(np.asarray(beta), settled(step).value.astype(np.float64))
        return Plain(np.asarray(1 - power))
    return 1 - beta ** step.double()


# ---------------------------------------------------------------- links


def _ascend(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    return -direction, {}


def _decay(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    return direction + param * settings["weight_decay"], {}


def _accumulate(direction: Tensor, state: State, settings: Settings) -> Tensor:
    return state["momentum_buffer"] * settings["momentum"] + direction


def _momentum(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    buffer = _accumulate(direction, state, settings)
    return buffer, {"momentum_buffer": buffer}


def _nesterov(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    buffer = _accumulate(direction, state, settings)
    return direction + buffer * settings["momentum"], {"momentum_buffer": buffer}


def _dampened(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    # As PyTorch does, the first gradient enters undamped.
    damped = direction * (1 - settings["dampening"])
    buffer = direction.where(as_tensor(settings["step"]) == 1, _accumulate(damped, state, settings))
    return buffer, {"momentum_buffer": buffer}


def _adam(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    mean = average(state["exp_avg"], direction, settings["beta1"])
    square = average(state["exp_avg_sq"], direction * direction, settings["beta2"])
    return _normalised(mean, square, settings), {"exp_avg": mean, "exp_avg_sq": square}


def _amsgrad(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    mean = average(state["exp_avg"], direction, settings["beta1"])
    square = average(state["exp_avg_sq"], direction * direction, settings["beta2"])
    highest = state["max_exp_avg_sq"].maximum(square)
    changed = {"exp_avg": mean, "exp_avg_sq": square, "max_exp_avg_sq": highest}
    return _normalised(mean, highest, settings), changed


def _normalised(mean: Tensor, square: Tensor, settings: Settings) -> Tensor:
    """``lr (m / c1) / (sqrt(v / c2) + eps)`` but for the step size, as ``m / (sqrt(v) + sqrt(c2) eps)``: so the paper, too."""
    return mean / (square.sqrt() + settings["scaled_eps"])


def _rms(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    square = average(state["square_avg"], direction * direction, settings["alpha"])
    return direction / (square.sqrt() + settings["eps"]), {"square_avg": square}


def _centered_rms(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    square = average(state["square_avg"], direction * direction, settings["alpha"])
    mean = average(state["grad_avg"], direction, settings["alpha"])
    # A variance below the rounding of its terms is not known: the difference may be 0, or less.
    least = square * limits(square.dtype).eps
    spread = (square - mean * mean).maximum(least).sqrt()
    return direction / (spread + settings["eps"]), {"square_avg": square, "grad_avg": mean}


def _adagrad(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    total = state["sum"] + direction * direction
    return direction / (total.sqrt() + settings["eps"]), {"sum": total}


def _adadelta(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    square = average(state["square_avg"], direction * direction, settings["rho"])
    moved = (state["acc_delta"] + settings["eps"]).sqrt() / (square + settings["eps"]).sqrt() * direction
    return moved, {"square_avg": square, "acc_delta": average(state["acc_delta"], moved * moved, settings["rho"])}


def _adamax(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    mean = average(state["exp_avg"], direction, settings["beta1"])
    highest = (state["exp_inf"] * settings["beta2"]).maximum(direction.abs() + settings["eps"])
    return mean / (highest * settings["correction1"]), {"exp_avg": mean, "exp_inf": highest}


def _radam(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    mean = average(state["exp_avg"], direction, settings["beta1"])
    square = average(state["exp_avg_sq"], direction * direction, settings["beta2"])
    corrected = mean / settings["correction1"]
    rectified = corrected * settings["rectified"] / (square.sqrt() + settings["eps"])
    enough = as_tensor(settings["length"]) > 5.0
    return rectified.where(enough, corrected), {"exp_avg": mean, "exp_avg_sq": square}


def _nadam(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    mean = average(state["exp_avg"], direction, settings["beta1"])
    square = average(state["exp_avg_sq"], direction * direction, settings["beta2"])
    mu, following = settings["mu"], settings["next_mu"]
    product = state["mu_product"] * as_tensor(mu).to(state["mu_product"].dtype)
    whole = product.double()
    now, ahead = (1 - mu) / (1 - whole), following / (1 - whole * following)
    moved = (direction * now + mean * ahead) / (square.sqrt() / settings["root2"] + settings["eps"])
    return moved, {"exp_avg": mean, "exp_avg_sq": square, "mu_product": product}


def _rprop(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    agree = direction * state["prev"]
    first = as_tensor(settings["step"]) == 1  # whose rate may be another than the one that the optimizer was made with
    size = (state["step_size"] * 0 + settings["lr"]).where(first, state["step_size"])
    changed = size.where(agree == 0, (size * settings["etaplus"]).where(agree > 0, size * settings["etaminus"]))
    size = changed.maximum(settings["smallest"]).minimum(settings["largest"])
    kept = direction.masked_fill(agree < 0, 0.0)  # where the sign has changed no step is taken, and none is remembered
    return kept.sign() * size, {"prev": kept, "step_size": size}


ASCENT = Rule("ascent", (), _ascend, elementwise=True)
DECAY = Rule("decay", (), _decay, elementwise=True)
MOMENTUM = Rule("momentum", ("momentum_buffer",), _momentum, elementwise=True)
NESTEROV = Rule("nesterov", ("momentum_buffer",), _nesterov, elementwise=True)
DAMPENED = Rule("dampened momentum", ("momentum_buffer",), _dampened, elementwise=True)
ADAM = Rule("adam", ("exp_avg", "exp_avg_sq"), _adam, elementwise=True)
AMSGRAD = Rule("amsgrad", ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), _amsgrad, elementwise=True)
RMS = Rule("rms", ("square_avg",), _rms, elementwise=True)
CENTERED_RMS = Rule("centered rms", ("square_avg", "grad_avg"), _centered_rms, elementwise=True)

ADAGRAD = Rule("adagrad", ("sum",), _adagrad, elementwise=True)
ADADELTA = Rule("adadelta", ("square_avg", "acc_delta"), _adadelta, elementwise=True)
ADAMAX = Rule("adamax", ("exp_avg", "exp_inf"), _adamax, elementwise=True)
RADAM = Rule("radam", ("exp_avg", "exp_avg_sq"), _radam, elementwise=True)
RPROP = Rule("rprop", ("prev", "step_size"), _rprop, elementwise=True)
NADAM = Rule("nadam", ("exp_avg", "exp_avg_sq", "mu_product"), _nadam)  # mu_product is one number for all elements


def chain(*links: Rule | None) -> tuple[Rule, ...]:
    """The links that are there."""
    return tuple(filter(None, links))


def decayed(group: Mapping[str, Any], moments: Rule) -> tuple[Rule, ...]:
    """A chain around the moments of an Adam, whose weight decay comes before them or, decoupled, after."""
    if not group["weight_decay"] and not group["maximize"]:  # mostly; a compiled step asks at every call
        return (moments,)
    decay, decoupled = DECAY if group["weight_decay"] else None, group["decoupled_weight_decay"]
    return chain(
        ASCENT if group["maximize"] else None,
        None if decoupled else decay,
        moments,
        decay if decoupled else None,
    )
