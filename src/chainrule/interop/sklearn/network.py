"""One network's weights, its rows and its compiled steps; lent from fit to fit, so that equal networks compile once."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from chainrule import dtypes, optim
from chainrule.compiler.compile import compile
from chainrule.compiler.frontend.loop import Loop
from chainrule.compiler.frontend.trace import live
from chainrule.graph import leaf
from chainrule.interop.sklearn import formula, solvers
from chainrule.optim.optimizer import Optimizer
from chainrule.tensor import Tensor
from chainrule.tensor.core import settled, wrap
from chainrule.tensor.creation import from_numpy, zeros
from chainrule.tensor.functions import no_grad
from chainrule.tensor.random import Generator, drawing_from

Array = np.ndarray[Any, Any]

COPIED = 16 << 20  # bytes of rows that are copied beside the network, which then serves again; more are read in place
KEPT = 8  # networks that wait for their next fit


@dataclass(frozen=True)
class Specification:
    """What the compiled steps of a network depend on.

    Attributes:
        units: of every layer, the inputs among them.
        hidden: what the hidden layers do.
        loss: a name that `formula.losses` knows, or a function.
        dtype: "float32" or "float64".
        solver: "adam", "sgd", "adamw", "rmsprop" or "lbfgs".
        batch: rows of a step.
        capacity: for how many rows there is room; 0: they are read where they lie.
        scored: are there rows of validation?
        held_out: for how many of them there is room.
        weighted: does each row have a weight?
        penalized: is alpha above 0?
        nesterov: is the momentum Nesterov's?
        quantile: what a loss of that name estimates.
    """

    units: tuple[int, ...]
    hidden: formula.Hidden
    loss: Any
    dtype: str
    solver: str
    batch: int
    capacity: int
    scored: bool = False
    held_out: int = 0
    weighted: bool = False
    penalized: bool = True
    nesterov: bool = False
    quantile: float = 0.5


def room(rows: int, bytes_a_row: int) -> int:
    """For how many rows to make room: about an eighth more than asked for, at most; 0 where they are not copied."""
    granule = 1 << max(0, rows.bit_length() - 4)
    found = -(-rows // granule) * granule
    return found if found * bytes_a_row <= COPIED else 0


class Weights(NamedTuple):
    """The numbers of a network: of each layer's product, and of each hidden layer's normalisation."""

    coefs: list[Array]
    intercepts: list[Array]
    norms: list[dict[str, Array]]

    def astype(self, dtype: Any) -> Weights:
        """The same in this dtype."""
        coefs, intercepts = ([w.astype(dtype, copy=False) for w in some] for some in self[:2])
        return Weights(
            coefs, intercepts, [{name: w.astype(dtype, copy=False) for name, w in n.items()} for n in self.norms]
        )


class Network:
    """The weights of a plan, what its steps read, and the steps.

    Attributes:
        coefs, intercepts: the parameters, as scikit-learn has them: (in, out) and (out,).
        norms: of each hidden layer, what its normalisation learns and keeps.
        alpha: the penalty's factor, read anew whenever steps begin.
        spoiled: was a step cut short, so that it must not serve again?
    """

    def __init__(self, plan: Specification) -> None:
        self.plan, self.alpha, self.spoiled = plan, 0.0, False
        dtype = dtypes.as_dtype(plan.dtype)
        pairs = list(zip(plan.units[:-1], plan.units[1:], strict=True))
        self.coefs = [zeros(*pair, dtype=dtype, requires_grad=True) for pair in pairs]
        self.intercepts = [zeros(out, dtype=dtype, requires_grad=True) for _, out in pairs]
        begun = formula.NORMALIZATIONS[plan.hidden.normalization] if plan.hidden.normalization else {}
        self.norms = [
            {name: zeros(out, dtype=dtype, requires_grad=name in formula.LEARNED) for name in begun}
            for _, out in pairs[:-1]
            if begun
        ]
        self.generator = Generator(0)
        self.optimizer = self._optimizer()
        self.rows, self.held_out = RowBuffers(plan.capacity), RowBuffers(plan.held_out)
        self._train, self._predict, self._whole = (
            compile(_step_of(self)), compile(_outputs_of(self)), compile(_gradient_of(self)),
        )  # fmt: skip

    def _optimizer(self) -> Optimizer | None:
        makers: dict[str, Callable[[], Optimizer]] = {
            "adam": lambda: solvers.Adam(self.parameters),
            "sgd": lambda: solvers.SGD(self.parameters, nesterov=self.plan.nesterov),
            "adamw": lambda: optim.AdamW(
                [{"params": self.coefs}, {"params": self.parameters[len(self.coefs) :], "weight_decay": 0.0}]
            ),
            "rmsprop": lambda: optim.RMSprop(self.parameters),
        }
        return makers[self.plan.solver]() if self.plan.solver in makers else None

    @property
    def parameters(self) -> list[Tensor]:
        """What the solver moves."""
        return [*self.coefs, *self.intercepts, *(norm[name] for norm in self.norms for name in formula.LEARNED)]

    # ---------------------------------------------------------------- values, in and out

    def put(self, weights: Weights) -> None:
        """Start from these weights."""
        held = [*self.coefs, *self.intercepts, *(kept for norm in self.norms for kept in norm.values())]
        given = [*weights.coefs, *weights.intercepts, *(array for norm in weights.norms for array in norm.values())]
        for handle, value in zip(held, given, strict=True):
            _put(handle, value)

    def weights(self) -> Weights:
        """Copies of the weights as they are now."""
        norms = [dict(zip(norm, _copies(list(norm.values())), strict=True)) for norm in self.norms]
        return Weights(_copies(self.coefs), _copies(self.intercepts), norms)

    def begin_solver(self, settings: Mapping[str, Any], state: Mapping[str, Sequence[Array]] | None) -> None:
        """The optimizer at its beginning, or where it stood when `solver_state` gave this state."""
        if self.optimizer is None:
            return
        for group in self.optimizer.param_groups:
            group.update(settings)
        if self.plan.solver == "adamw":
            self.optimizer.param_groups[0]["weight_decay"] = self.alpha
        for i, parameter in enumerate(self.parameters):
            for name, held in self.optimizer.state.get(parameter, {}).items():
                _put(held, 0.0 if state is None else state[name][i])

    def solver_state(self) -> dict[str, list[Array]]:
        """What the optimizer keeps of each parameter, by name."""
        if self.optimizer is None:
            return {}
        states = [self.optimizer.state[parameter] for parameter in self.parameters]
        return {name: _copies([state[name] for state in states]) for name in states[0]}

    # ---------------------------------------------------------------- steps

    def begin(self, index: Array, rates: Array) -> Loop:
        """Steps on these rows, (steps, batch), at these rates, (steps,)."""
        with drawing_from(self.generator):
            return self._train.begin(wrap(leaf(index, dtypes.int64)), wrap(leaf(rates, dtypes.float64)))

    def begin_outputs(self, index: Array) -> Loop:
        """The outputs for the rows that are held out, (steps, batch)."""
        return self._predict.begin(wrap(leaf(index, dtypes.int64)))

    def gradient(self, coefs: list[Array], intercepts: list[Array]) -> tuple[float, float, list[Array]]:
        """The function that is minimised and what is reported of it, over all rows, and the gradients."""
        given = [from_numpy(array) for array in (*coefs, *intercepts)]
        value, reported, gradients = self._whole(given[: len(coefs)], given[len(coefs) :])
        return value.item(), reported.item(), [gradient.numpy() for gradient in gradients]


class RowBuffers:
    """The rows that steps read: x, y and weights, in memory of their own or where they lie."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.count = capacity, 0
        self.handles: dict[str, Tensor] = {}
        self.buffers: dict[str, Array] = {}

    def give(self, **arrays: Array | None) -> None:
        """These from now on."""
        for name, array in arrays.items():
            if array is not None:
                self.count = len(array)
                self._give(name, array)

    def _give(self, name: str, array: Array) -> None:
        if not self.capacity:
            self.handles[name] = from_numpy(np.require(array, requirements=["C", "A"]))
            return
        if name not in self.buffers:
            self.buffers[name] = np.zeros((self.capacity, *array.shape[1:]), array.dtype)
            self.handles[name] = from_numpy(self.buffers[name])
        self.buffers[name][: len(array)] = array

    def picked(self, name: str, index: Tensor) -> Tensor:
        """Those of these numbers."""
        return self.handles[name][index]

    def all(self, name: str) -> Tensor:
        """All that were given."""
        return self.handles[name][: self.count]


def _loss(
    network: Network, z: Tensor, y: Tensor, weights: Tensor | None, coefs: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The function whose gradient is followed, and what scikit-learn reports as the loss."""
    plan = network.plan
    losses, whole = formula.losses(plan.loss, z, y, plan.quantile), formula.total(weights, z.shape[0])
    fit = formula.mean(losses.sum(1), weights, whole)
    with no_grad():
        shown = formula.mean(formula.reported(plan.loss, losses.detach()), weights, whole)
    if not plan.penalized:
        return fit, shown
    penalty = formula.squares(coefs) * (0.5 * live(lambda: network.alpha)) / whole
    return fit + penalty, shown + penalty


def _step_of(network: Network) -> Callable[[Tensor, Tensor], Tensor]:
    plan, rows = network.plan, network.rows
    coefs, intercepts, norms = network.coefs, network.intercepts, network.norms

    def step(index: Tensor, rate: Tensor) -> Tensor:
        optimizer = network.optimizer
        if optimizer is None:
            raise RuntimeError("this plan has no steps on batches; this is a bug in chainrule")
        weights = rows.picked("weights", index) if plan.weighted else None
        z = formula.outputs(rows.picked("x", index) @ coefs[0], coefs, intercepts, norms, plan.hidden, True)
        value, shown = _loss(network, z, rows.picked("y", index), weights, coefs)
        value.backward()
        with optimizer.rates([rate] * len(optimizer.param_groups)):
            optimizer.step()
        optimizer.zero_grad()
        return shown.detach()

    return step


def _outputs_of(network: Network) -> Callable[[Tensor], Tensor]:
    plan, rows = network.plan, network.held_out
    coefs, intercepts, norms = network.coefs, network.intercepts, network.norms

    def predict(index: Tensor) -> Tensor:
        with no_grad():
            return formula.outputs(rows.picked("x", index) @ coefs[0], coefs, intercepts, norms, plan.hidden, False)

    return predict


def _gradient_of(network: Network) -> Callable[..., Any]:
    plan, rows = network.plan, network.rows

    def gradient(coefs: list[Tensor], intercepts: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        coefs, intercepts = ([p.detach().requires_grad_() for p in some] for some in (coefs, intercepts))
        weights = rows.all("weights") if plan.weighted else None
        z = formula.outputs(rows.all("x") @ coefs[0], coefs, intercepts, [], plan.hidden, True)
        value, shown = _loss(network, z, rows.all("y"), weights, coefs)
        value.backward()
        return value.detach(), shown.detach(), [p.grad for p in (*coefs, *intercepts) if p.grad is not None]

    return gradient


def _put(handle: Tensor, value: Array | float) -> None:
    """Let the handle, which no view looks at, name a copy of this value: a tenth of what ``copy_`` takes of a small one."""
    old = handle._node
    array = np.empty(old.shape, old.dtype.numpy)
    array[...] = value
    handle._name(leaf(array, old.dtype, old.requires_grad, old.owner))


def _copies(tensors: Sequence[Tensor]) -> list[Array]:
    return [settled(t).value.copy() for t in tensors]


# ---------------------------------------------------------------- lending

_waiting: OrderedDict[Specification, Network] = OrderedDict()
_lock = threading.Lock()


def _unlock() -> None:
    """In a forked child: the thread that held the lock is not here."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@contextmanager
def lent(plan: Specification) -> Iterator[Network]:
    """A network of this plan, for this thread alone inside the block; one that waits, or a new one.

    Nothing that it computes depends on which. After an exception, and where its rows are not its own, it does not serve again.
    """
    with _lock:
        network = _waiting.pop(plan, None)
    network = Network(plan) if network is None else network
    yield network
    if not network.spoiled and plan.capacity and (plan.held_out or not plan.scored):
        with _lock:
            _waiting[plan] = network
            while len(_waiting) > KEPT:
                _waiting.popitem(last=False)
