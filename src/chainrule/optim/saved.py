"""An optimizer's state in PyTorch's layout, out and in."""

from __future__ import annotations

import numbers
from typing import Any, Protocol

import numpy as np

from chainrule.errors import StateDictError
from chainrule.files.document import alike, is_plain, short
from chainrule.optim.state import Group, Slots, State
from chainrule.tensor import Tensor
from chainrule.tensor.creation import saved_value, zeros
from chainrule.tensor.functions import no_grad

# Switches of PyTorch's implementation that have no counterpart here.
FOREIGN = {"foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay", "params"}
NUMBERS = {"step", "mu_product"}  # one for all elements of a parameter
ROUNDED = 1e-12  # of the first rate: a schedule of 10,000 steps to 0 rounds by 1e-16 of it
# What a step leaves in these slots: a step that leaves anything else in them leaves NaN in the weights, too.
FINITE = {"exp_avg", "grad_avg", "momentum_buffer"}
SQUARES = {
    "exp_avg_sq",
    "max_exp_avg_sq",
    "square_avg",
    "sum",
    "acc_delta",
    "exp_inf",
    "mu_product",
}  # infinite where a gradient's square is beyond the dtype


class Stateful(Protocol):
    """What an optimizer tells, and lets be done to it, to be saved and loaded."""

    param_groups: list[Group]
    state: State
    defaults: Group
    _layout: int

    def check(self, group: Group) -> None:
        """Raise for settings that cannot be."""

    def initialize(self) -> None:
        """Make the state of every parameter."""

    def layout(self) -> dict[Tensor, dict[str, Tensor]]:
        """Which tensors are whose state."""

    def needed(self, group: Group) -> set[str]:
        """The names of the state that each parameter of a group with these settings has."""

    def start(self, slot: str, group: Group, parameter: Tensor) -> Tensor:
        """What a slot holds before the first step."""

    def parted(self, counter: Tensor, other: Tensor) -> bool:
        """Are these two counters that were one before some parameter was left behind?"""


def state_dict(optimizer: Stateful) -> dict[str, Any]:
    """``{"state": {index: {name: tensor}}, "param_groups": [{..., "params": [index]}]}``.

    State of a parameter that was taken out of the groups is left out: it has no number (PyTorch's raise a KeyError).
    """
    numbers = {p: i for i, p in enumerate(_parameters(optimizer.param_groups))}
    known = [(p, own) for p, own in optimizer.layout().items() if p in numbers]
    state = {
        numbers[p]: {name: tensor.detach().clone() for name, tensor in own.items()}
        for p, own in sorted(known, key=lambda item: numbers[item[0]])
        if own
    }
    groups = [
        {**{k: plain(v) for k, v in group.items() if k != "params"}, "params": [numbers[p] for p in group["params"]]}
        for group in optimizer.param_groups
    ]
    return {"state": state, "param_groups": groups}


def plain(value: Any) -> Any:
    """A setting as Python's own number, whatever kind of number was given."""
    if isinstance(value, (tuple, list)):
        return tuple(map(plain, value))
    if isinstance(value, np.generic) or (isinstance(value, (Tensor, np.ndarray)) and not value.ndim):
        return value.item()
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, int)):
        return float(value)
    return value


def unrounded(rate: float, first: float) -> float:
    """The rate, or 0 where it is below that by rounding alone: by less than a small share of the first rate.

    Schedules that make each rate from the one before come to 0 in steps, each of which rounds.

    Example:
        >>> unrounded(-1.5e-18, first=0.1), unrounded(-0.01, first=0.1), unrounded(1.5e-18, first=0.1)
        (0.0, -0.01, 1.5e-18)
    """
    return 0.0 if -ROUNDED * abs(first) <= rate < 0 else rate


def load(optimizer: Stateful, given: dict[str, Any]) -> None:
    """Check everything, then copy into the handles that stand, so that compiled steps go on with them."""
    loaded = check(optimizer, given)
    for group, other in zip(optimizer.param_groups, given["param_groups"], strict=True):
        for key in group.keys() - optimizer.defaults.keys() - other.keys() - {"params"}:
            del group[key]  # of a schedule, which begins anew
        group.update(_settings(group, other))
    optimizer.initialize()
    layout = optimizer.layout()
    with no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in layout:
                    _copy(optimizer, group, parameter, loaded.get(parameter, {}))
            _share_counters(optimizer, group, loaded)


def check(optimizer: Stateful, given: Any, whole: bool = False) -> dict[Tensor, dict[str, Tensor]]:
    """The state of each parameter in a ``state_dict``; `whole`: none of what a saved step leaves may be
    missing, and the values are for `impossible` to judge.

    Raises:
        StateDictError: it does not fit the optimizer.
    """
    name = type(optimizer).__name__
    if not isinstance(given, dict) or not {"state", "param_groups"} <= given.keys():
        raise StateDictError(f"{name}: a state_dict has the keys 'state' and 'param_groups', got {_outline(given)}.")
    _check_groups(name, optimizer.param_groups, given["param_groups"])
    for group, other in zip(optimizer.param_groups, given["param_groups"], strict=True):
        optimizer.check({**group, **_settings(group, other)})
    loaded = _by_parameter(name, optimizer.param_groups, given)
    for parameter, values in loaded.items():
        _check_state(name, parameter, values)
        if not whole:
            _check_counter(name, values)
    if whole:
        _check_whole(name, optimizer, given, loaded)
    return loaded


def _settings(group: Group, other: dict[str, Any]) -> dict[str, Any]:
    """The settings in a saved group, lists where ours are tuples made tuples."""
    kept = {key: value for key, value in other.items() if key not in _foreign(group)}
    if type(kept.get("lr")) is float and type(kept.get("initial_lr")) is float:  # PyTorch's schedules do not round to 0
        kept["lr"] = unrounded(kept["lr"], kept["initial_lr"])
    return {k: tuple(v) if isinstance(v, list) and isinstance(group.get(k), tuple) else v for k, v in kept.items()}


def _foreign(group: Group) -> set[str]:
    return {key for key in FOREIGN if key == "params" or key not in group}


def _parameters(groups: list[Group]) -> list[Tensor]:
    return [parameter for group in groups for parameter in group["params"]]


def _outline(given: Any) -> str:
    return f"the keys {short(sorted(map(str, given)))}" if isinstance(given, dict) else type(given).__name__


def _check_groups(name: str, own: list[Group], given: Any) -> None:
    if not isinstance(given, (list, tuple)):
        raise StateDictError(f"{name}: 'param_groups' of the state_dict must be a list, got {short(given)}.")
    if len(own) != len(given):
        raise StateDictError(
            f"{name}: the state_dict has {len(given)} parameter groups, the optimizer {len(own)}. "
            f"Build the optimizer as it was when it was saved."
        )
    for index, (mine, other) in enumerate(zip(own, given, strict=True)):
        named = isinstance(other, dict) and all(isinstance(key, str) for key in other)
        numbers = other.get("params") if named else None
        if not isinstance(numbers, (list, tuple)) or not all(isinstance(number, (int, str)) for number in numbers):
            raise StateDictError(
                f"{name}: parameter group {index} of the state_dict must be a dict with a list of numbers as 'params', got "
                f"{short(other)}. Give a dict that {name}.state_dict() made."
            )
        if len(mine["params"]) != len(numbers):
            raise StateDictError(
                f"{name}: parameter group {index} of the state_dict has {len(numbers)} parameters, the optimizer's "
                f"{len(mine['params'])}. Build model and optimizer as they were when they were saved."
            )
        for key, value in other.items():
            if key not in _foreign(mine) and not (alike(mine[key], value) if key in mine else is_plain(value)):
                raise StateDictError(
                    f"{name}: {key!r} in parameter group {index} of the state_dict must be like {short(mine.get(key))}, got "
                    f"{short(value)}. Give a dict that {name}.state_dict() made."
                )


def _by_parameter(name: str, groups: list[Group], given: dict[str, Any]) -> dict[Tensor, dict[str, Tensor]]:
    numbers = [number for group in given["param_groups"] for number in group["params"]]
    table = dict(zip(numbers, _parameters(groups), strict=True))
    state = given["state"]
    known = isinstance(state, dict) and all(n in table and isinstance(own, dict) for n, own in state.items())
    if len(table) < len(numbers) or not known:
        raise StateDictError(
            f"{name}: 'state' of the state_dict must have a dict for parameters that stand in its groups, each once. Give "
            f"a dict that {name}.state_dict() made."
        )
    return {
        table[number]: {slot: _as_value(name, slot, value) for slot, value in own.items() if value is not None}
        for number, own in state.items()
    }


def _as_value(name: str, slot: str, value: Any) -> Tensor:
    tensor = saved_value(value)
    if tensor is None:
        raise StateDictError(
            f"{name}: the state {short(slot)} must be a tensor or a number, got {short(value)}. Give a dict that "
            f"{name}.state_dict() made."
        )
    return tensor


def _check_whole(
    name: str, optimizer: Stateful, given: dict[str, Any], loaded: dict[Tensor, dict[str, Tensor]]
) -> None:
    """All the state that the saved settings need, of each parameter that has state here."""
    number = 0
    layout = optimizer.layout()
    for group, other in zip(optimizer.param_groups, given["param_groups"], strict=True):
        needed = optimizer.needed({**group, **_settings(group, other)})
        for parameter in group["params"]:
            missing = sorted(needed - loaded.get(parameter, {}).keys()) if parameter in layout else []
            if missing:
                raise StateDictError(
                    f"{name}: the state_dict lacks {', '.join(missing)} of parameter {number}. It was not saved whole: copy "
                    f"it again, or train again."
                )
            number += 1


def _check_state(name: str, parameter: Tensor, values: dict[str, Tensor]) -> None:
    for slot, value in values.items():
        expected = () if slot in NUMBERS else parameter.shape
        if value.shape != expected:
            raise StateDictError(
                f"{name}: the state {short(slot)} of a parameter of shape {parameter.shape} must have shape "
                f"{expected}, "
                f"got {value.shape}. The parameters may stand in another order than when they were saved."
            )


def _check_counter(name: str, values: dict[str, Tensor]) -> None:
    """Moments may be NaN in a ``state_dict``, as in PyTorch; a counter that is none would be wrong in every step."""
    counter = values.get("step")
    if counter is not None and (wrong := impossible("step", counter.detach().numpy())) is not None and wrong[0]:
        raise StateDictError(
            f"{name}: the state 'step' of a parameter must be {wrong[1]}, got {counter.item()!r}. Give a dict that "
            f"{name}.state_dict() made."
        )


def impossible(slot: str, value: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], str] | None:
    """Where some state holds what no step leaves there, and what must hold; None where nothing is known of the slot.

    Example:
        >>> impossible("square_avg", np.array([1.0, -1.0, np.inf]))
        (array([False,  True, False]), '0 or more')
    """
    if slot == "step":
        most = np.finfo(np.float32).max  # what a counter can hold
        return ~((value >= 0) & (value == np.floor(value)) & (value <= most)), "a whole number, 0 or more"
    if slot in FINITE:
        return ~np.isfinite(value), "a finite number"
    return (~(value >= 0), "0 or more") if slot in SQUARES else None


def _copy(optimizer: Stateful, group: Group, parameter: Tensor, values: dict[str, Tensor]) -> None:
    for slot, tensor in optimizer.state[parameter].items():
        if slot != "step":
            tensor.copy_(values[slot] if slot in values else optimizer.start(slot, group, parameter))


def _share_counters(optimizer: Stateful, group: Group, loaded: dict[Tensor, dict[str, Any]]) -> None:
    """Parameters that stand at the same step share a counter again; handles that fit are kept.

    Those that have left a counter behind keep their own, so that a step compiled for them goes on serving.
    """
    shared: dict[float, Tensor] = {}
    taken: set[Tensor] = set()
    for parameter in group["params"]:
        own: dict[str, Tensor] = optimizer.state.get(parameter, Slots())
        if "step" not in own:
            continue
        value = _step_of(loaded.get(parameter, {}))
        if value not in shared:
            shared[value] = own["step"] if own["step"] not in taken else zeros()
            taken.add(shared[value])
        if optimizer.parted(own["step"], shared[value]):
            own["step"].fill_(value)
        elif own["step"] is not shared[value]:
            own["step"] = shared[value]
            optimizer._layout += 1
    for value, counter in shared.items():
        counter.fill_(value)


def _step_of(values: dict[str, Any]) -> float:
    """The saved counter; PyTorch's SGD keeps none, but a momentum tells that it has begun."""
    if "step" in values:
        return float(values["step"].item())
    return 1.0 if values else 0.0
