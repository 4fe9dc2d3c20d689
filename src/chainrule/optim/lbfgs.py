"""L-BFGS: a quasi-Newton method, which asks for the loss as often as it needs to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from chainrule import graph
from chainrule.errors import NonFiniteError, SettingError, StateDictError, TraceError, unknown_name
from chainrule.files.document import is_whole, short
from chainrule.optim import rules, saved
from chainrule.optim.optimizer import Optimizer, check_number
from chainrule.optim.state import Group
from chainrule.optim.wolfe import Point, strong_wolfe
from chainrule.tensor import Tensor
from chainrule.tensor.creation import saved_value, zeros
from chainrule.tensor.functions import cat, enable_grad, no_grad

BY_ITSELF = (
    "LBFGS computes the loss as often as it needs to, and a compiled step of training once. Write the loop yourself, with "
    "opt.step(closure) on all rows (see optim.LBFGS); or take MLPClassifier or MLPRegressor of chainrule.sklearn with "
    "solver='lbfgs'."
)  # what whoever steps once for each batch says
CURVED = 1e-10  # pairs of less curvature are not kept, as in PyTorch


@dataclass
class Memory:
    """What is known of the function: by PyTorch's names, all parameters as one vector.

    Attributes:
        func_evals, n_iter: how often it was computed, and how many directions were taken.
        d, t: the latest direction, and how far it was followed.
        old_dirs, old_stps, ro: the latest differences of gradients and of parameters, and 1 / their product.
        H_diag: the curvature that is assumed where none is known.
        prev_flat_grad, prev_loss: where the latest direction began.
    """

    func_evals: int = 0
    n_iter: int = 0
    d: Tensor | None = None
    t: float = 0.0
    old_dirs: list[Tensor] = field(default_factory=list)
    old_stps: list[Tensor] = field(default_factory=list)
    ro: list[float] = field(default_factory=list)
    H_diag: float = 1.0
    prev_flat_grad: Tensor | None = None
    prev_loss: float = 0.0

    def copy(self) -> Memory:
        """One that learns by itself: where closure raises, what was known stays."""
        return replace(self, old_dirs=[*self.old_dirs], old_stps=[*self.old_stps], ro=[*self.ro])

    def shown(self) -> dict[str, Any]:
        """By name, as far as it is known."""
        known = vars(self.copy())
        return dict(known) if self.n_iter else {name: known[name] for name in ("func_evals", "n_iter")}

    def learn(self, gradient: Tensor, most: int) -> None:
        """Keep how the gradient changed on the way that was taken, `most` such pairs at most."""
        assert self.d is not None
        assert self.prev_flat_grad is not None
        change, way = gradient - self.prev_flat_grad, self.d * self.t
        product = change.dot(way).item()
        if product > CURVED:
            self.old_dirs.append(change)
            self.old_stps.append(way)
            self.ro.append(1.0 / product)
            for kept in (self.old_dirs, self.old_stps, self.ro):
                del kept[:-most]
            self.H_diag = product / change.dot(change).item()

    def direction(self, gradient: Tensor) -> Tensor:
        """Minus the gradient times the inverse curvature that the pairs tell (two loops: Nocedal, Wright, algorithm 7.4)."""
        found, parts = -gradient, []
        pairs = list(zip(self.old_dirs, self.old_stps, self.ro, strict=True))
        for change, way, inverse in reversed(pairs):
            parts.append(way.dot(found).item() * inverse)
            found = found - change * parts[-1]
        found = found * self.H_diag
        for (change, way, inverse), part in zip(pairs, reversed(parts), strict=True):
            found = found + way * (part - change.dot(found).item() * inverse)
        return found


class LBFGS(Optimizer):
    """Follows ``-H g`` with H the inverse curvature that the latest steps tell, several times in each ``step(closure)``.

    For losses of all the data at once, without noise: few parameters, or a fit to high precision (physics-informed
    networks). ``closure`` is called as often as is needed; compile what it calls, not the step::

        @cr.compile
        def closure():
            opt.zero_grad()
            loss = loss_fn(model(X), y)
            loss.backward()
            return loss

        for _ in range(10):
            opt.step(closure)

    Args:
        params: tensors; one group.
        lr: how far a direction is followed: the length, or with a line search the first to try.
        max_iter: directions in a step, 1 or more.
        max_eval: how often closure may be called in a step; ``max_iter * 5 // 4`` where None.
        tolerance_grad: ends a step where no element of the gradient is larger.
        tolerance_change: ends a step where neither loss nor a parameter changes by more.
        history_size: pairs that are remembered, 1 or more.
        line_search_fn: ``"strong_wolfe"``, or None.

    Raises:
        SettingError: a setting that cannot be, several groups, or no closure.
        NonFiniteError: loss or gradient is not finite where a line search starts; without one both spread, as in PyTorch.
        TraceError: a step inside ``cr.compile``: how often closure is called hangs on values.

    Source: Nocedal, Wright, "Numerical optimization", 2006, chapter 7; PyTorch's tolerances and safeguards. Dot products
    are kept as Python's numbers, where PyTorch has them in the parameters' dtype.

    Example:
        >>> import chainrule as cr
        >>> x = cr.tensor([3.0, -2.0], requires_grad=True)
        >>> opt = LBFGS([x], line_search_fn="strong_wolfe")
        >>> def closure():
        ...     opt.zero_grad()
        ...     loss = ((x - cr.tensor([1.0, 2.0])) ** 2).sum()
        ...     loss.backward()
        ...     return loss
        >>> opt.step(closure).item(), [round(value, 5) for value in x.tolist()]
        (20.0, [1.0, 2.0])
    """

    counts = False

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        }  # fmt: skip
        self.memory = Memory()
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        if self.param_groups and group is not self.param_groups[0] and len(self.param_groups) > 1:
            raise SettingError("LBFGS: takes one group of parameters, got several. Give all tensors in one list.")
        for name in ("lr", "tolerance_grad", "tolerance_change"):
            check_number("LBFGS", name, group[name])
        for name in ("max_iter", "max_eval", "history_size"):
            if not is_whole(group[name]) or group[name] < 1:
                raise SettingError(f"LBFGS: {name} must be a whole number, 1 or more, got {group[name]!r}.")
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise unknown_name("line_search_fn", group["line_search_fn"], ["strong_wolfe"])
        _check_search(group)

    def add_param_group(self, param_group: Group) -> None:
        if self.param_groups:
            raise SettingError("LBFGS: takes one group of parameters, got another. Give all tensors in one list.")
        super().add_param_group(param_group)

    def rules(self, group: Group) -> tuple[rules.Rule, ...]:
        return ()

    @property
    def state(self) -> Any:
        """What is known, by PyTorch's names, all of it at the first parameter; to be read. ``opt.state = {}`` forgets it."""
        known = {self.param_groups[0]["params"][0]: self.memory.shown()} if self.memory.func_evals else {}
        return MappingProxyType(defaultdict(dict, known))

    @state.setter
    def state(self, given: Mapping[Tensor, Any]) -> None:
        known = given.get(self.param_groups[0]["params"][0])
        self.memory = self._remembered(known) if known else Memory()

    def layout(self) -> dict[Tensor, dict[str, Tensor]]:
        """Nothing: there is no state of single parameters."""
        return {}

    # ---------------------------------------------------------------- the step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Follow up to ``max_iter`` directions.

        Args:
            closure: clears the gradients, computes the loss, calls ``backward()`` and returns the loss.

        Returns:
            The loss before the step, as closure returned it.
        """
        if closure is None:
            raise SettingError(
                "LBFGS.step: needs a closure, which clears the gradients, computes the loss, calls backward() and returns the loss."
            )
        if graph.tracing():
            raise TraceError(
                "LBFGS.step: how often it computes the loss hangs on values, which a compiled function has not yet. Compile the "
                "closure, and call step(closure) outside."
            )

        def value() -> tuple[Any, float]:
            with enable_grad():
                loss = closure()
            return loss, float(loss)

        with no_grad():
            return self._follow(value)

    def _follow(self, value: Callable[[], tuple[Any, float]]) -> Any:
        group, memory = self.param_groups[0], self.memory.copy()
        _check_search(group)  # which a schedule may have changed since
        first, loss = value()
        memory.func_evals += 1
        gradient, calls = self._gradient(), 1
        if group["line_search_fn"] is not None and not (math.isfinite(loss) and math.isfinite(_largest(gradient))):
            raise NonFiniteError(
                f"LBFGS.step: the loss and all gradients must be finite where a line search starts, got the loss {loss:g} and a "
                f"largest gradient of {_largest(gradient):g}. Start from other values, or look at what the closure computes."
            )
        if _largest(gradient) <= group["tolerance_grad"]:
            self.memory.func_evals += 1
            return first
        for number in range(1, group["max_iter"] + 1):
            memory.n_iter += 1
            if memory.d is not None:
                memory.learn(gradient, group["history_size"])
            memory.d = d = memory.direction(gradient)
            memory.prev_flat_grad, memory.prev_loss = gradient, loss
            rate = float(group["lr"])
            memory.t = rate if memory.n_iter > 1 else min(1.0, 1.0 / gradient.abs().sum().item()) * rate
            slope = gradient.dot(d).item()
            if slope > -group["tolerance_change"]:
                break
            here = Point(0.0, loss, gradient, slope)
            there, more = self._move(value, here, d, memory.t, group["max_eval"] - calls, number < group["max_iter"])
            memory.t, loss, gradient = there.length, there.value, there.gradient
            calls += more
            memory.func_evals += more
            if calls >= group["max_eval"] or _largest(gradient) <= group["tolerance_grad"]:
                break
            if _largest(d * memory.t) <= group["tolerance_change"]:
                break
            if abs(loss - memory.prev_loss) < group["tolerance_change"]:
                break
        self.memory = memory
        return first

    def _move(
        self, value: Callable[[], tuple[Any, float]], here: Point, d: Tensor, length: float, most: int, again: bool
    ) -> tuple[Point, int]:
        """Follow a direction: where that leads, and how often the loss was computed.

        Args:
            most: how many lengths a line search may try after the first.
            again: whether the loss is computed there, where no search does it anyway.
        """
        if self.param_groups[0]["line_search_fn"] is None:
            self._add(d, length)
            if not again:
                return here._replace(length=length), 0
            return Point(length, value()[1], self._gradient(), 0.0), 1
        kept = [parameter.detach().clone() for parameter in self.param_groups[0]["params"]]

        def at(length: float) -> Point:
            self._add(d, length)
            loss, gradient = value()[1], self._gradient()
            for parameter, before in zip(self.param_groups[0]["params"], kept, strict=True):
                parameter.copy_(before)
            return Point(length, loss, gradient, gradient.dot(d).item())

        found, looked = strong_wolfe(at, here, length, _largest(d), most)
        self._add(d, found.length)
        return found, looked

    def _gradient(self) -> Tensor:
        """All gradients as one vector of its own; zeros where there is none."""
        parts = [
            zeros(parameter.numel(), dtype=parameter.dtype)
            if parameter.grad is None
            else parameter.grad.detach().reshape(-1)
            for parameter in self.param_groups[0]["params"]
        ]
        return cat([*parts]).clone()

    def _add(self, direction: Tensor, length: float) -> None:
        at = 0
        for parameter in self.param_groups[0]["params"]:
            part = direction[at : at + parameter.numel()].reshape(parameter.shape)
            parameter.add_((part * length).to(parameter.dtype))
            at += parameter.numel()

    # ---------------------------------------------------------------- saving

    def state_dict(self) -> dict[str, Any]:
        """What is known and the settings, in PyTorch's layout: all of it stands at the first parameter."""
        whole = saved.state_dict(self)
        if self.memory.func_evals:
            whole["state"] = {0: self.memory.shown()}
        return whole

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a ``state_dict``, PyTorch's own included; nothing changes unless all of it fits."""
        given = state_dict.get("state") if isinstance(state_dict, dict) else None
        memory = self._remembered(given[0]) if isinstance(given, Mapping) and 0 in given else Memory()
        saved.load(self, {**state_dict, "state": {}} if isinstance(given, Mapping) else state_dict)
        self.memory = memory

    def _remembered(self, given: Any) -> Memory:
        """What a saved state knows.

        Raises:
            StateDictError: it is not of these parameters, or of no step of this optimizer.
        """
        length = sum(parameter.numel() for parameter in self.param_groups[0]["params"])

        def refuse(name: str, must: str, value: Any) -> StateDictError:
            return StateDictError(
                f"LBFGS: the state {name!r} must be {must}, got {short(value)}. Give a dict that LBFGS.state_dict() made for "
                f"the same parameters."
            )

        def number(name: str, value: Any) -> float:
            found = saved.plain(value)
            if isinstance(found, bool) or not isinstance(found, (int, float)):
                raise refuse(name, "a number", value)
            return found

        def vector(name: str, value: Any) -> Tensor:
            found = saved_value(value)
            if found is None or found.shape != (length,):
                raise refuse(name, f"a vector of {length} elements", value)
            return found.detach().clone()

        if not isinstance(given, Mapping):
            raise refuse("0", "a dict", given)
        if not given.get("n_iter"):
            return Memory(func_evals=int(number("func_evals", given.get("func_evals", 0))))
        found: dict[str, Any] = {}
        for name in Memory.__dataclass_fields__:
            value = given.get(name)
            if name in ("old_dirs", "old_stps", "ro"):
                if not isinstance(value, (list, tuple)):
                    raise refuse(name, "a list", value)
                found[name] = [(number if name == "ro" else vector)(name, one) for one in value]
            elif name in ("d", "prev_flat_grad"):
                found[name] = vector(name, value)
            else:
                found[name] = number(name, value)
        if len({len(found[name]) for name in ("old_dirs", "old_stps", "ro")}) > 1:
            raise refuse("ro", "as long as 'old_dirs' and 'old_stps'", found["ro"])
        return Memory(**found)


def _check_search(group: Group) -> None:
    if group["line_search_fn"] is not None and not group["lr"] > 0:
        raise SettingError(
            f"LBFGS: lr is the first length that a line search tries, and must be above 0, got {group['lr']!r}. Leave "
            f"line_search_fn out to stay in place."
        )


def _largest(vector: Tensor) -> float:
    """The largest of the absolute values; 0 of none."""
    return vector.abs().max().item() if vector.numel() else 0.0
