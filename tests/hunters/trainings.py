"""Random trainings: PyTorch, chainrule eager, compiled calls and native loops agree on losses, weights and gradients.

A training is a model, a loss, an optimizer, a step with its habits of clearing, accumulating and clipping, and a list of
actions: so many steps, or something a user does between two of them. ``python -m tests.hunters.trainings --count 1000``.
"""

from __future__ import annotations

import argparse
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import chainrule as cr
from tests.hunters import recorded

TORCH = SimpleNamespace(lib=torch, nn=torch.nn, F=torch.nn.functional, optim=torch.optim)
OURS = SimpleNamespace(lib=cr, nn=cr.nn, F=cr.nn.functional, optim=cr.optim)
TOLERANCE = 1e-7  # relative, in float64: trainings of a dozen steps


@dataclass
class Plan:
    """What was drawn, as names and numbers."""

    seed: int
    sizes: list[int]
    activation: str
    buffer: str  # how the model's running mean is kept
    loss: str
    optimizer: tuple[str, dict[str, Any]]
    habit: str  # when gradients are cleared
    extra: str  # what is done to them before the step
    rows: int
    actions: list[tuple[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        fields = {k: v for k, v in vars(self).items() if k != "actions"}
        return f"{fields}\nactions {self.actions}"


def drawn(seed: int) -> Plan:
    rng = np.random.default_rng(seed)

    def pick(items: Any) -> Any:
        return items[int(rng.integers(len(items)))]

    hidden = [int(pick([2, 3, 5, 8])) for _ in range(int(rng.integers(0, 3)))]
    loss = pick(list(LOSSES))
    plan = Plan(
        seed, [4, *hidden, 3 if "entropy" in loss else int(pick([1, 2]))], pick(["tanh", "relu", "sigmoid", "silu"]),
        pick(list(BUFFERS)), loss, pick(OPTIMIZERS), pick(list(HABITS)), pick(list(EXTRAS)), int(pick([1, 2, 5, 8])),
    )  # fmt: skip
    for _ in range(int(rng.integers(3, 8))):
        plan.actions.append(("steps", int(rng.integers(1, 4))))
        if rng.random() < 0.7:
            plan.actions.append((pick(list(CHANGES)), float(pick([0.5, 0.9, 1.5]))))
    plan.actions.append(("steps", 2))
    return plan


OPTIMIZERS = [
    ("SGD", {"lr": 0.05}), ("SGD", {"lr": 0.05, "momentum": 0.9}), ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.05, "weight_decay": 0.1}), ("Adam", {"lr": 0.02}), ("Adam", {"lr": 0.02, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.02}), ("RMSprop", {"lr": 0.01}), ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5}),
    ("Adam", {"lr": 0.02, "amsgrad": True}),
]  # fmt: skip


# -- the model's state -------------------------------------------------------------------------------------
def _no_buffer(model: Any, x: Any) -> Any:
    return x


def _assigned(model: Any, x: Any) -> Any:
    model.mean = 0.9 * model.mean + 0.1 * x.detach().mean(0)
    return x - model.mean


def _copied(model: Any, x: Any) -> Any:
    model.mean.copy_(0.9 * model.mean + 0.1 * x.detach().mean(0))
    return x - model.mean.clone()


def _in_place(model: Any, x: Any) -> Any:
    if model.training:
        model.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        model.count += 1
    return x - model.mean.clone() / model.count


BUFFERS: dict[str, Callable[[Any, Any], Any]] = {
    "none": _no_buffer, "assigned": _assigned, "copied": _copied, "in place": _in_place,
}  # fmt: skip


# -- losses ------------------------------------------------------------------------------------------------
def _mse(w: World, output: Any, target: Any) -> Any:
    return w.F.mse_loss(output, target)


def _entropy(w: World, output: Any, target: Any) -> Any:
    return w.F.cross_entropy(output, target)


def _learned(w: World, output: Any, target: Any) -> Any:
    """The weight of the loss is a parameter of the loss."""
    return (w.F.mse_loss(output, target) * (-w.criterion.weight).exp() + w.criterion.weight).sum()


def _running(w: World, output: Any, target: Any) -> Any:
    """The loss is divided by its own running mean, a buffer of the loss."""
    loss = w.F.mse_loss(output, target)
    w.criterion.scale.mul_(0.9).add_(loss.detach() * 0.1)
    return loss / (w.criterion.scale.clone() + 1)


def _two(w: World, output: Any, target: Any) -> Any:
    return w.F.huber_loss(output, target) + 0.01 * sum((p * p).sum() for p in w.model.parameters())


LOSSES: dict[str, Callable[[World, Any, Any], Any]] = {
    "mse": _mse, "cross entropy": _entropy, "learned": _learned, "running": _running, "two terms": _two,
}  # fmt: skip


# -- gradients ---------------------------------------------------------------------------------------------
def _before(w: World, x: Any, y: Any) -> Any:
    w.optimizer.zero_grad()
    return _update(w, x, y)


def _after(w: World, x: Any, y: Any) -> Any:
    loss = _update(w, x, y)
    w.optimizer.zero_grad()
    return loss


def _zeros(w: World, x: Any, y: Any) -> Any:
    w.optimizer.zero_grad(set_to_none=False)
    return _update(w, x, y)


def _zeros_after(w: World, x: Any, y: Any) -> Any:
    loss = _update(w, x, y)
    w.optimizer.zero_grad(set_to_none=False)
    return loss


def _never(w: World, x: Any, y: Any) -> Any:
    return _update(w, x, y)


def _model_clears(w: World, x: Any, y: Any) -> Any:
    w.model.zero_grad()
    return _update(w, x, y)


def _by_hand(w: World, x: Any, y: Any) -> Any:
    for parameter in w.parameters:
        parameter.grad = None
    return _update(w, x, y)


def _twice(w: World, x: Any, y: Any) -> Any:
    """Accumulates two backward passes."""
    w.optimizer.zero_grad()
    (w.loss(x, y) * 0.5).backward()
    return _update(w, x, y)


HABITS: dict[str, Callable[[World, Any, Any], Any]] = {
    "before": _before, "after": _after, "zeros": _zeros, "zeros after": _zeros_after, "never": _never,
    "model clears": _model_clears, "by hand": _by_hand, "twice": _twice,
}  # fmt: skip


def _update(w: World, x: Any, y: Any) -> Any:
    loss = w.loss(x, y)
    loss.backward()
    EXTRAS[w.plan.extra](w)
    w.optimizer.step()
    return loss.detach()


def _halve(w: World) -> None:
    for parameter in w.parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(0.5)


def _assign(w: World) -> None:
    for parameter in w.parameters:
        if parameter.grad is not None:
            parameter.grad = parameter.grad.clone() * 0.7


EXTRAS: dict[str, Callable[[World], Any]] = {
    "nothing": lambda w: None, "norm": lambda w: w.nn.utils.clip_grad_norm_(w.parameters, 0.3),
    "value": lambda w: w.nn.utils.clip_grad_value_(w.parameters, 0.1), "halve": _halve, "assign": _assign,
}  # fmt: skip


# -- what a user does between two steps ----------------------------------------------------------------------
def _rate(w: World, number: float) -> None:
    for group in w.optimizer.param_groups:
        group["lr"] *= number


def _decay(w: World, number: float) -> None:
    w.optimizer.param_groups[0]["weight_decay"] = 0.01 * number


def _scale(w: World, number: float) -> None:
    w.model.scale = number


def _freeze(w: World, number: float) -> None:
    first = next(iter(w.model.parameters()))
    first.requires_grad_(not first.requires_grad)


def _mode(w: World, number: float) -> None:
    w.model.train(not w.model.training)


def _clear(w: World, number: float) -> None:
    w.optimizer.zero_grad()


def _leave(w: World, number: float) -> None:
    """A backward pass of the user's own leaves gradients behind."""
    (w.model(w.x[0]) ** 2).sum().backward()


def _set_gradient(w: World, number: float) -> None:
    parameter = w.parameters[-1]
    if parameter.requires_grad:
        parameter.grad = w.lib.ones_like(parameter).detach() * number


def _write(w: World, number: float) -> None:
    with w.lib.no_grad():
        w.parameters[0].mul_(number)


def _data(w: World, number: float) -> None:
    w.parameters[0].data.mul_(number)


def _read(w: World, number: float) -> None:
    [p.detach().numpy().sum() for p in w.parameters]


def _load(w: World, number: float) -> None:
    w.model.load_state_dict({k: v.detach().clone() * number for k, v in w.model.state_dict().items()})


CHANGES: dict[str, Callable[[World, float], None]] = {
    "rate": _rate, "decay": _decay, "scale": _scale, "freeze": _freeze, "mode": _mode, "clear": _clear, "leave": _leave,
    "set gradient": _set_gradient, "write": _write, "data": _data, "read": _read, "load": _load,
}  # fmt: skip


# -- running ------------------------------------------------------------------------------------------------
class World:
    """One library's training of a plan."""

    def __init__(self, plan: Plan, library: SimpleNamespace) -> None:
        self.plan = plan
        self.lib, self.nn, self.F, self.optim = library.lib, library.nn, library.F, library.optim
        rng = np.random.default_rng(plan.seed + 1)
        self.model, self.criterion = self._model(rng), self._criterion()
        self.parameters = [*self.model.parameters(), *self.criterion.parameters()]
        name, settings = plan.optimizer
        self.optimizer = getattr(self.optim, name)(self.parameters, **settings)
        self.x = [self.lib.tensor(rng.normal(size=(plan.rows, plan.sizes[0]))) for _ in range(40)]
        if "entropy" in plan.loss:
            self.y = [self.lib.tensor(rng.integers(0, plan.sizes[-1], plan.rows)) for _ in range(40)]
        else:
            self.y = [self.lib.tensor(rng.normal(size=(plan.rows, plan.sizes[-1]))) for _ in range(40)]

    def _model(self, rng: Any) -> Any:
        plan, lib, nn = self.plan, self.lib, self.nn

        class Model(nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(plan.sizes, plan.sizes[1:], strict=False)])
                self.register_buffer("mean", lib.zeros(plan.sizes[0], dtype=lib.float64))
                self.register_buffer("count", lib.ones((), dtype=lib.float64))
                self.scale = 1.0

            def forward(self, x: Any) -> Any:
                x = BUFFERS[plan.buffer](self, x)
                for i, layer in enumerate(self.layers):
                    x = layer(x)
                    if i + 1 < len(self.layers):
                        x = getattr(F, plan.activation)(x)
                return x * self.scale

        F = self.F
        model = Model().double()
        with lib.no_grad():
            for parameter in model.parameters():
                parameter.copy_(lib.tensor(rng.normal(size=tuple(parameter.shape)) * 0.5))
        return model

    def _criterion(self) -> Any:
        lib, nn, plan = self.lib, self.nn, self.plan

        class Criterion(nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                if plan.loss == "learned":
                    self.weight = nn.Parameter(lib.tensor([0.25], dtype=lib.float64))
                self.register_buffer("scale", lib.ones((), dtype=lib.float64))

        return Criterion()

    def loss(self, x: Any, y: Any) -> Any:
        return LOSSES[self.plan.loss](self, self.model(x), y)

    def state(self) -> list[tuple[str, Any]]:
        found = [(n, v.detach().numpy().copy()) for n, v in self.model.state_dict().items()]
        found += [(n, v.detach().numpy().copy()) for n, v in self.criterion.state_dict().items()]
        for i, parameter in enumerate(self.parameters):
            gradient = parameter.grad
            found.append((f"gradient {i}", None if gradient is None else gradient.detach().numpy().copy()))
        return found


def run(plan: Plan, library: SimpleNamespace, mode: str) -> list[tuple[str, list[tuple[str, Any]]]]:
    """The losses and the state after every action; ``mode``: "eager", "calls", "loop" or "mixed"."""
    world = World(plan, library)

    def step(x: Any, y: Any) -> Any:
        return HABITS[plan.habit](world, x, y)

    compiled = cr.compile(step) if mode != "eager" else step
    at, found = 0, []
    for turn, (action, value) in enumerate(plan.actions):
        losses: list[Any] = []
        if action == "steps":
            xs, ys = world.x[at : at + value], world.y[at : at + value]
            at += value
            if mode == "loop" or (mode == "mixed" and turn % 4 < 2):
                losses = compiled.loop(cr.stack(xs), cr.stack(ys)).tolist()
            else:
                losses = [compiled(x, y).item() for x, y in zip(xs, ys, strict=True)]
        else:
            CHANGES[action](world, value)
        found.append((f"{turn} {action}", [("losses", np.array(losses)), *world.state()]))
    return found


def differences(plan: Plan) -> list[str]:
    """Where the ways of running a plan part, each at its first action."""
    expected = run(plan, TORCH, "eager")
    found = []
    for mode in ("eager", "calls", "loop", "mixed"):
        found += _parting(mode, partial(run, plan, OURS, mode), expected)
    return found


def _parting(way: str, ran: Callable[[], Sequence[Any]], expected: Sequence[Any]) -> list[str]:
    """Where a way of running a plan parts from what is expected, or what it raised."""
    try:
        actual = ran()
    except Exception:
        return [f"{way}: {traceback.format_exc(limit=-4)}"]
    return [f"{way}: {text}" for text in map(_difference, actual, expected) if text][:1]


def waiting(plan: Plan) -> list[str]:
    """Where a plan parts whose operations wait, and run together: each stretch is longer, so that a step is found again.

    What waits is computed at the end of a step alone, and at random operations.
    """
    longer = [(action, value + 2 if action == "steps" else value) for action, value in plan.actions]
    plan = replace(plan, actions=longer)
    expected = run(plan, OURS, "eager")
    found = []
    for share in (0.0, 0.02):
        found += _parting(f"recorded, {share}", partial(_flushed, plan, share), expected)
    return found


def _flushed(plan: Plan, share: float) -> Any:
    with recorded.flushing(plan.seed, share), cr.eager(False):
        return run(plan, OURS, "eager")


def _difference(ours: Any, theirs: Any) -> str | None:
    for (name, a), (_, e) in zip(ours[1], theirs[1], strict=True):
        if (a is None) != (e is None):
            return f"after {ours[0]}, {name}: {a} instead of {e}"
        if a is not None and not np.allclose(a, e, TOLERANCE, TOLERANCE):
            return f"after {ours[0]}, {name}: {a} instead of {e}"
    return None


def hunt(first: int, count: int, differ: Callable[[Plan], list[str]] = differences) -> dict[int, str]:
    """The trainings among `count` seeds in which some way of running differs from PyTorch, as text."""
    found = {}
    for seed in range(first, first + count):
        plan = drawn(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            texts = differ(plan)
        if texts:
            found[seed] = "\n".join([str(plan), *texts])
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--recorded", action="store_true", help="computed at once, and recorded")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bad = hunt(options.first, options.count, waiting if options.recorded else differences)
    for seed, text in bad.items():
        print(f"=== seed {seed}\n{text}\n")
    print(f"{options.count} trainings, {len(bad)} differ: {list(bad)}")
