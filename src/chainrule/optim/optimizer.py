"""Optimizer: what every update rule shares - parameter groups, state, counters, the step."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from chainrule import graph
from chainrule.compiler.frontend import guards
from chainrule.compiler.frontend.trace import guard, live
from chainrule.errors import SettingError, TraceError
from chainrule.names import refuses
from chainrule.optim import saved
from chainrule.optim.rules import Rule, update
from chainrule.optim.state import Group, Listed, Slots, State
from chainrule.optim.stepped import Stepped, taken
from chainrule.optim.together import batches, update_together
from chainrule.tensor import Tensor
from chainrule.tensor.creation import zeros, zeros_like
from chainrule.tensor.functions import enable_grad, no_grad


class Used(NamedTuple):
    """The rate that a step used, and for which parameters of which group."""

    group: int
    parameters: list[Tensor]
    rate: Any


class Settings(dict[str, Any]):
    """A parameter group: the settings of some parameters; a compiled step reads the numbers among them anew at every call."""

    def __setitem__(self, name: str, value: Any) -> None:
        if graph.tracing():
            raise TraceError(
                f"cr.compile: the setting {name!r} of an optimizer was assigned inside the function, which Python runs only "
                f"when it is traced. Change it after the call: the next one reads it anew."
            )
        if name == "params":
            value = Listed(value)
            guards.changed()
        super().__setitem__(name, value)


@refuses("Optimizer")
class Optimizer:
    """The base of all optimizers: a subclass names its settings, its chain of rules, and derived scalars.

    Args:
        params: the tensors to optimize, or dictionaries ``{"params": tensors, "lr": ...}`` whose settings
            override the defaults for their tensors. Tensors may come with names, as of ``named_parameters()``; the names are
            not kept (PyTorch has them in ``group["param_names"]``).
        defaults: the settings of groups that do not override them.

    Raises:
        SettingError: no parameters, something that is no leaf tensor, a parameter given twice, a setting
            that cannot be.

    All state is made here rather than at the first step, so that a compiled step finds and updates it.
    Parameters that started together share one step counter.
    """

    counts = True  # whether the rules need (or PyTorch shows) state["step"]

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self._state = State()
        self._groups = Listed()
        self._layout = 0  # changes whenever a compiled step would no longer know all the state
        self._looked = 0  # how often anything had changed when the state was last compared, with what it was then
        self._last: dict[Tensor, dict[str, Tensor]] = {}
        self._grouped: list[list[Any]] = []  # each group with its parameters
        self._parted: dict[Tensor, Tensor] = {}  # counters of those left behind, and which each was shared before
        self._given: Sequence[Any] | None = None  # rates in place of the groups' own
        self._used: list[Used] | None = None  # whoever wants to know
        for group in _as_groups(type(self).__name__, params):
            self.add_param_group(group)

    # ---------------------------------------------------------------- what a subclass gives

    def rules(self, group: Group) -> tuple[Rule, ...]:
        """The chain for a group: depends only on which settings are on, not on their values."""
        raise NotImplementedError(f"{type(self).__name__}.rules(group) must return a chain of optim.rules.")

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        """What the rules read, computed once for all parameters that share a counter."""
        raise NotImplementedError(f"{type(self).__name__}.settings(group, step) must return a dict with 'lr'.")

    def start(self, slot: str, group: Group, parameter: Tensor) -> Tensor:
        """What a slot of a rule holds before the first step."""
        return zeros_like(parameter)

    def check(self, group: Group) -> None:
        """Raise SettingError for settings that cannot be."""

    # ---------------------------------------------------------------- groups and state

    @property
    def param_groups(self) -> list[Group]:
        """The groups, each a dict of its ``params`` and settings; take some out, or put others there, between two steps."""
        return self._groups

    @param_groups.setter
    def param_groups(self, groups: Sequence[Group]) -> None:
        self._groups = Listed(groups)
        guards.changed()

    def add_param_group(self, param_group: Group) -> None:
        """Optimize further tensors, with settings of their own where ``param_group`` has them.

        Args:
            param_group: ``{"params": tensors, ...}``.

        Raises:
            TraceError: inside a compiled function, where no call would find the state as it was.
        """
        name = type(self).__name__
        if graph.tracing():
            raise TraceError(
                f"{name}: an optimizer was made, or given parameters, inside a compiled function, which Python runs only when "
                f"it is traced: its state would go on from call to call. Make it outside, and call step() inside."
            )
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise SettingError(f"{name}: a parameter group must be a dict with the key 'params', got {param_group!r}.")
        given = param_group["params"]
        params = _checked_params(name, [given] if isinstance(given, Tensor) else given)
        known = {parameter for group in self.param_groups for parameter in group["params"]}
        if not known.isdisjoint(params):
            raise SettingError(f"{name}: a parameter stands in two groups. Give each parameter to one group only.")
        settings = {**self.defaults, **{k: v for k, v in param_group.items() if k != "params"}}
        group = Settings(params=Listed(params), **{name: saved.plain(value) for name, value in settings.items()})
        self.check(group)
        self.param_groups.append(group)
        self._layout += 1
        self._prepare(group, [p for p in params if not p._unmade and p.requires_grad])

    def initialize(self) -> None:
        """Make the state of every parameter now, also of those that are frozen."""
        for group in self.param_groups:
            self._prepare(group, [p for p in group["params"] if not p._unmade])

    def _prepare(self, group: Group, params: list[Tensor]) -> None:
        """What the state starts with, wherever it is missing; made outside a running trace, which then finds it there."""
        slots = [slot for rule in self.rules(group) for slot in rule.slots]
        needed = {*slots, "step"} if self._counted(group) else {*slots}
        params = [p for p in params if not needed <= self.state.get(p, {}).keys()]
        counter: Tensor | None = None
        with graph.recording(None):
            for parameter in params:
                state = self.state[parameter] if slots or self._counted(group) else {}
                if self._counted(group) and "step" not in state:
                    counter = zeros() if counter is None else counter
                    state["step"] = counter
                    self._layout += 1
                for slot in slots:
                    if slot not in state:
                        state[slot] = self.start(slot, group, parameter)
                        self._layout += 1

    def needed(self, group: Group) -> set[str]:
        """The names of the state that each parameter of a group with these settings has."""
        slots = {slot for rule in self.rules(group) for slot in rule.slots}
        return slots | {"step"} if self._counted(group) else slots

    def _counted(self, group: Group) -> bool:
        return self.counts

    @property
    def state(self) -> State:
        """By parameter, what the rules keep from step to step; clear it or put other tensors there between two steps."""
        return self._state

    @state.setter
    def state(self, given: Mapping[Tensor, Mapping[str, Tensor]]) -> None:
        self._state = State(given)
        guards.changed()

    def layout(self) -> dict[Tensor, dict[str, Tensor]]:
        """Which tensors are whose state: parameters share a counter, until one of them is left behind."""
        return {parameter: dict(own) for parameter, own in self.state.items()}

    def put_layout(self, layout: dict[Tensor, dict[str, Tensor]]) -> None:
        """The same tensors for the same parameters again; what was made since is forgotten.

        But a parameter that has left its counter behind since keeps its own, with the value of the one that they shared:
        a step compiled for it goes on serving.
        """
        layout = {parameter: self._kept_apart(parameter, own) for parameter, own in layout.items()}
        if not same_layout(self.layout(), layout):
            self.state = layout
            self._layout += 1

    def _laid_out(self) -> int:
        """Another number once the user has cleared, exchanged or removed some of the state, or of the parameters."""
        if self._looked != guards.latest:
            self._looked = guards.latest
            now, grouped = self.layout(), [[group, *group["params"]] for group in self._groups]
            if not _same_groups(grouped, self._grouped) or not same_layout(now, self._last):
                self._layout, self._last, self._grouped = self._layout + 1, now, grouped
        return self._layout

    def parted(self, counter: Tensor, other: Tensor) -> bool:
        """Are these two counters that were one before some parameter was left behind?"""
        return counter is not other and self._parted.get(counter, counter) is self._parted.get(other, other)

    def _kept_apart(self, parameter: Tensor, own: dict[str, Tensor]) -> dict[str, Tensor]:
        counter = self.state[parameter].get("step") if parameter in self.state else None
        if counter is None or "step" not in own or self._parted.get(counter) is not own["step"]:
            return own
        with no_grad():
            counter.copy_(own["step"])
        return {**own, "step": counter}

    # ---------------------------------------------------------------- the step

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget every gradient (or fill it with zeros)."""
        local = graph._local
        seen = local.trace is not None or (local.tape is not None and local.tape.results)  # must somebody note it?
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    if seen:
                        parameter.grad = None
                    else:
                        parameter._grad = None
                elif parameter.grad is not None:
                    with no_grad():
                        parameter.grad.detach_().zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss anew, gradients included; called first.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        tape = graph.waiting()
        graph.in_grad_mode(False, self._take_step, tape)
        guard(self._laid_out)
        if tape is not None:
            tape.flush()
        return loss

    def _take_step(self, tape: Any) -> None:
        if tape is None or not (taken(tape, self) or tape.door(Stepped(self, self._step_groups))):
            self._step_groups()

    def _step_groups(self) -> None:
        for number, group in enumerate(self.param_groups):
            self._step_group(number, group)

    @contextmanager
    def rates(self, given: Sequence[Any] | None = None) -> Iterator[list[Used]]:
        """Inside the block `step` takes these rates in place of its groups' own, and notes those that it used.

        What it used is what ``settings`` says, the one place that decides; a group whose parameters have no gradient
        uses none.

        Args:
            given: one for each group, numbers or tensors without axes; None leaves the groups' own.

        Example:
            >>> import chainrule as cr
            >>> w = cr.ones(1, requires_grad=True)
            >>> opt = cr.optim.SGD([w], lr=0.1)
            >>> w.sum().backward()
            >>> with opt.rates() as used:
            ...     opt.step()
            >>> used[0].rate
            0.1
        """
        outer, self._given, self._used = (self._given, self._used), given, []
        try:
            yield self._used
        finally:
            self._given, self._used = outer

    def _step_group(self, number: int, group: Group) -> None:
        rules = guard(lambda: self.rules(group))
        if self._given is not None:  # in front of the group, whose other settings stay live
            group = cast(Group, ChainMap({"lr": self._given[number]}, group))
        active = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not active:
            return
        self._prepare(group, active)
        for step, members in self._by_counter(group, active):
            if step is not None:
                step.add_(1)
            settings = self.settings(group, step)
            if self._used is not None:
                self._used.append(Used(number, members, settings["lr"]))
            if graph.deferred() or not all(rule.elementwise for rule in rules):
                for parameter in members:
                    self._update(parameter, rules, settings)
            else:
                for batch in batches(members):
                    update_together(rules, batch, self.state, settings)

    def _update(self, parameter: Tensor, rules: tuple[Rule, ...], settings: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state.get(parameter, Slots())
        if gradient is not None:
            new, changed = update(rules, parameter, gradient, state, settings)
            parameter.copy_(new)
            for slot, value in changed.items():
                state[slot].copy_(value)

    def _by_counter(self, group: Group, active: list[Tensor]) -> list[tuple[Tensor | None, list[Tensor]]]:
        """The parameters with gradients by the counter they share; those left behind get their own."""
        if not self._counted(group):
            return [(None, active)]
        members: dict[Tensor, list[Tensor]] = {}
        for parameter in active:
            members.setdefault(self.state[parameter]["step"], []).append(parameter)
        if len(active) == len(group["params"]):
            return list(members.items())
        moving = set(active)
        stopped: dict[Tensor, Tensor] = {}
        for parameter in group["params"]:
            counter = self.state[parameter].get("step") if parameter in self.state else None
            if parameter not in moving and counter is not None and counter in members:
                if counter not in stopped:
                    with graph.recording(None):
                        stopped[counter] = counter.clone()
                        self._parted[stopped[counter]] = counter
                self.state[parameter]["step"] = stopped[counter]
                self._layout += 1
        return list(members.items())

    # ---------------------------------------------------------------- saving and printing

    def state_dict(self) -> dict[str, Any]:
        """State and settings in PyTorch's layout: ``{"state": {0: {...}}, "param_groups": [...]}``.

        Parameters are numbered in the order in which they were given. The tensors are snapshots.
        """
        return saved.state_dict(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a ``state_dict``, PyTorch's own included; nothing changes unless all of it fits.

        Raises:
            StateDictError: the groups, their sizes or the shapes of the state do not fit.
        """
        saved.load(self, state_dict)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def same_layout(a: dict[Tensor, dict[str, Tensor]], b: dict[Tensor, dict[str, Tensor]]) -> bool:
    """Do these say the same? (Tensors themselves compare by their elements.)"""
    return len(a) == len(b) and all(
        p in b and own.keys() == b[p].keys() and all(own[slot] is b[p][slot] for slot in own) for p, own in a.items()
    )


# ---------------------------------------------------------------- helpers of the subclasses


def setting(group: Group, name: str) -> Any:
    """A setting that may change from step to step without a new trace."""
    return group[name] if isinstance(group[name], Tensor) else live(lambda: float(group[name]))


def betas(group: Group) -> tuple[Any, Any]:
    """Both betas of an Adam, likewise."""
    return live_pair(group, "betas")


def live_pair(group: Group, name: str) -> tuple[Any, Any]:
    """A setting of two numbers, likewise."""
    return live(lambda: float(group[name][0])), live(lambda: float(group[name][1]))


def check_number(owner: str, name: str, value: Any, below: float | None = None) -> None:
    """Raise unless value is a number of 0 or more (and below the bound)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < (math.inf if below is None else below):
        must = "0 or more" if below is None else f"in [0, {below:g})"
        raise SettingError(f"{owner}: {name} must be a number {must}, got {value!r}.")


def check_betas(owner: str, value: Any) -> None:
    """Raise unless value is a pair of numbers in [0, 1)."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise SettingError(f"{owner}: betas must be a pair of numbers in [0, 1), got {value!r}.")
    for index, beta in enumerate(value):
        check_number(owner, f"betas[{index}]", beta, below=1.0)


def _as_groups(name: str, params: Any) -> list[Group]:
    if isinstance(params, Tensor):
        raise SettingError(f"{name}: params must be an iterable of tensors or dicts, got a Tensor. Write [tensor].")
    if isinstance(params, dict):
        raise SettingError(f"{name}: params must be an iterable of tensors or dicts, got a dict. Write [group].")
    try:
        given = list(params)
    except TypeError:
        raise SettingError(
            f"{name}: params must be an iterable of tensors or dicts, got {type(params).__name__}. "
            f"Pass model.parameters()."
        ) from None
    if not given:
        raise SettingError(
            f"{name}: there are no parameters to optimize. Pass model.parameters() of a model that has some "
            f"(a generator can be used only once)."
        )
    return given if isinstance(given[0], dict) else [{"params": given}]


def _checked_params(name: str, params: Any) -> list[Tensor]:
    if isinstance(params, (set, frozenset)):
        raise SettingError(f"{name}: parameters must come in an order that does not change, got a set. Use a list.")
    given = _unnamed(name, list(params))
    for index, parameter in enumerate(given):
        if not isinstance(parameter, Tensor):
            raise SettingError(
                f"{name}: parameters must be tensors, got {type(parameter).__name__} at position {index}. "
                f"Pass model.parameters()."
            )
        if parameter._unmade:
            continue
        if not parameter.is_leaf:
            raise SettingError(
                f"{name}: the parameter at position {index}, of shape {parameter.shape}, is the result of an "
                f"operation and would never receive a gradient. Optimize the tensors it was computed "
                "from, or "
                f"x.detach().clone().requires_grad_()."
            )
        if not parameter.dtype.is_floating_point:
            raise SettingError(
                f"{name}: the parameter at position {index} has dtype {parameter.dtype.name}; only "
                "floating-point "
                f"tensors can be optimized. Convert it with .float()."
            )
    if len(set(given)) != len(given):
        raise SettingError(f"{name}: a parameter was given twice and would be updated twice. Give each one once.")
    return given


def _unnamed(name: str, given: list[Any]) -> list[Any]:
    """The parameters of pairs of a name and a parameter; others as they are."""
    pairs = [isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str) for one in given]
    if not any(pairs):
        return given
    if not all(pairs):
        raise SettingError(
            f"{name}: some of the parameters of a group have names and some have none. Give names to all, or to none."
        )
    return [parameter for _, parameter in given]


def _same_groups(now: list[list[Any]], before: list[list[Any]]) -> bool:
    return list(map(len, now)) == list(map(len, before)) and all(
        one is other for a, b in zip(now, before, strict=True) for one, other in zip(a, b, strict=True)
    )
