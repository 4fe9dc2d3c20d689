"""Is the gradient of this network right, on these rows? Every rule it uses, the whole of it, and its compiled form."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from chainrule import autodiff, graph
from chainrule.compiler.compile import compile
from chainrule.errors import ChainruleError, DtypeError, SettingError
from chainrule.explain.verify.application import results_at
from chainrule.explain.verify.report import Verdict, Verification
from chainrule.explain.verify.rules import check_rule
from chainrule.explain.verify.slopes import Slopes, slopes
from chainrule.graph import Node, subgraphs
from chainrule.nn import Module
from chainrule.nn import functional as F
from chainrule.ops import elementwise as ew
from chainrule.several import RESULT
from chainrule.tape import at_once
from chainrule.tensor import Tensor
from chainrule.tensor.core import wrap
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.tensor.random import Generator, Reread, current_generator, drawing_from
from chainrule.training import attributes, inputs
from chainrule.training.state import once

Array = np.ndarray[Any, Any]
Loss = Callable[[Tensor, Tensor], Tensor]
STEPS = (2.0**-9, 2.0**-14, 2.0**-19)  # of differences along a direction: with kinks about, a short one may be better
COARSE = 1e-7  # relative: fine errors are found in the rules, where nothing but rounding stands between the two
SAME = 1e-12  # relative: compiled float64 against NumPy's
ULPS = 32  # beyond four times NumPy's own distance from float64, what a compiled result may be off


@at_once
def verify(model: Module, x: object, y: object, loss: Loss | None = None, rows: int = 32) -> Verification:
    """Check the gradient of `loss(model(x), y)` in every way there is.

    1. Each op of the forward pass, on the values it has there: its derivative rule against the slopes of its
       NumPy reference (complex step where the function takes complex numbers, else differences), in float64.
    2. The gradient of each parameter along random directions, against differences of the loss, in float64.
    3. <Jv, w> = <v, J'w> for the Jacobian J of the outputs by the parameters: reverse mode against forward mode.
    4. The compiled loss and gradients against NumPy's float32 and float64, in units in the last place (ulp) of
       the largest element. In float64 too: the hundreds of values that 2 and 3 differ are the compiled program's, and
       are NumPy's to rounding.

    Args:
        model: in the mode (training or evaluation) it is to be verified in; it is not changed.
        x, y: rows and targets as for ``Trainer.fit``; the first `rows` are used.
        loss: ``(output, target) -> Tensor``; default cross_entropy for whole-number targets, else mse_loss.
        rows: how many rows at most.

    Raises:
        SettingError: the model has no parameter that requires grad.
        DataError, ShapeError: data that do not fit the model, as in ``Trainer.fit``.
        DtypeError: the model does not run in float64.

    >>> import chainrule as cr
    >>> from chainrule import nn
    >>> _ = cr.manual_seed(0)
    >>> X, y = cr.data.load("digits").train
    >>> bool(nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10)).verify(X, y))
    True
    """
    _check_exact(model)
    chosen = loss or (F.cross_entropy if np.asarray(y).dtype.kind in "iu" else F.mse_loss)
    with Reread(current_generator()).again():
        x_array, y_array = inputs.rows(model, chosen, {}, x, y, "verify")
    network = _Network(model, chosen, x_array[:rows], y_array[:rows])
    exact = network.in_float64()
    parts = (_rules(exact), _gradient(exact), _adjoint(exact), _compiled(network, exact), _same_values(exact))
    return Verification(tuple(verdict for part in parts for verdict in part))


def _check_exact(model: Module) -> None:
    """Raise where float64 is no model of what the network computes: it rounds to bfloat16 on the way."""
    rounding = [name for name, t in (*model.named_parameters(), *model.named_buffers()) if t.dtype.only_stores]
    if rounding:
        raise DtypeError(
            f"verify: the model is run in float64 too, to compare with, and {rounding[0]} is bfloat16, to which results are "
            f"rounded. Verify the same model in float32: model.float(), and no .bfloat16() in its forward."
        )


class _Network:
    """A model as a function of its parameters, drawing the same random numbers at every call.

    In float64 they are those of float32 (`Reread`): other noise would be another function.
    """

    def __init__(self, model: Module, loss: Loss, x: Array, y: Array, wide: bool = False) -> None:
        self.model, self.loss, self.x, self.y = model, loss, x, y
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if not named:
            raise SettingError(
                "verify: the model has no parameter that requires grad. Unfreeze one (requires_grad_())."
            )
        self.names = [name for name, _ in named]
        self.parameters: list[Tensor] = [p for _, p in named]
        self.arrays = [np.array(p._node.value) for p in self.parameters]
        self.random = Reread(current_generator(), wide)
        self.starts = self._starts()
        holding = [
            (f"{path}.{name}" if path else name, index)
            for path, m in model.named_modules()
            for name, index in m._held().items()
        ]
        self.held = {self.names.index(name): index for name, index in holding if name in self.names}

    def direction(self, position: int, rng: Any) -> Array:
        """Where to move a parameter: at random, about as far as it is long, and not at all where a layer holds it."""
        array = self.arrays[position]
        size = max(float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0, 1e-2)
        found = np.asarray(rng.standard_normal(array.shape) * size)
        if position in self.held:
            found[self.held[position]] = 0
        return found

    def in_float64(self) -> _Network:
        model = copy.deepcopy(self.model).double()
        x, y = (a.astype(np.float64) if a.dtype.kind == "f" else a for a in (self.x, self.y))
        try:
            return _Network(model, self.loss, x, y, wide=True)
        except DtypeError as error:
            raise DtypeError(
                f"verify: the model is run in float64 too, to compare with, and does not in that: {error} What forward makes must "
                f"have its input's dtype: cr.zeros(..., dtype=x.dtype)."
            ) from None

    def _starts(self) -> list[tuple[Generator, Tensor]]:
        """Every generator that the model and the loss draw from, and where it stands, found by one evaluation."""
        with self._kept(), self.random.again(), no_grad():
            self.loss(self.model(tensor(self.x)), tensor(self.y))
        return list(self.random.starts)

    @contextmanager
    def _with(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        """These parameters in place of the model's, and the same random numbers each time."""
        with self._kept(*(generator.state for generator, _ in self.starts)):
            for handle, given in zip(self.parameters, parameters, strict=True):
                handle._node = given._node
            for generator, state in self.starts:
                generator.set_state(state)
            yield

    @contextmanager
    def _kept(self, *others: Tensor) -> Iterator[None]:
        """The model's tensors, and others, are afterwards as they were."""
        held = attributes.of(self.model)
        handles = once(held.tensors(), [*self.parameters, *others])
        before = [handle._node for handle in handles]
        try:
            with drawing_from(self.random):
                yield
        finally:
            held.put_names()
            for handle, node in zip(handles, before, strict=True):
                handle._node = node

    def outputs(self, *parameters: Tensor) -> Tensor:
        """The model's outputs for these parameters instead of its own."""
        with self._with(parameters):
            result: Tensor = self.model(tensor(self.x))
            return result

    def value(self, *parameters: Tensor) -> Tensor:
        """The loss, which may draw random numbers too."""
        with self._with(parameters):
            return self.loss(self.model(tensor(self.x)), tensor(self.y))

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the parameters, compiled; what it draws from is asked for before it is called."""
        native = compile(function)

        def call(*parameters: Tensor) -> Any:
            with drawing_from(self.random):
                return native(*parameters)

        return call

    @cached_property
    def fast(self) -> tuple[_Fast, _Fast]:
        """Loss and outputs, compiled: NumPy takes some milliseconds for a small product when its threads are disturbed."""
        return _Fast(self, self.value), _Fast(self, self.outputs)

    def leaves(self) -> list[Tensor]:
        return [tensor(a, requires_grad=True) for a in self.arrays]

    def value_and_gradients(self, *parameters: Tensor) -> list[Tensor]:
        every = tuple(range(len(parameters)))
        value, found = autodiff.value_and_grad(self.value, every)(*parameters)
        return [value, *found]


class _Fast:
    """A function of the parameters, compiled in float64; where it is not NumPy's at the point, NumPy's itself."""

    def __init__(self, network: _Network, function: Callable[..., Tensor]) -> None:
        native = network.compiled(function)
        with no_grad():
            leaves = [tensor(a) for a in network.arrays]
            ours, numpys = np.array(native(*leaves)._node.value), np.asarray(function(*leaves)._node.value)
        equal = (ours == numpys) | (np.isnan(ours) & np.isnan(numpys))
        with np.errstate(invalid="ignore"):
            self.gap = float(np.where(equal, 0.0, np.abs(ours - numpys)).max(initial=0.0))
        self.same = self.gap <= SAME * float(np.nan_to_num(np.abs(numpys)).max(initial=1.0))
        self.function = native if self.same else function  # a wrong program is no witness against a gradient

    def __call__(self, *parameters: Tensor) -> Array:
        return np.array(self.function(*parameters)._node.value)


# -- rules --------------------------------------------------------------------------------------------


def _rules(network: _Network) -> Iterator[Verdict]:
    """One verdict an op, over all its applications in the forward pass that differ in shapes or parameters."""
    found: dict[str, list[Any]] = {}
    seen: set[Any] = set()
    order = graph.toposort([network.value(*network.leaves())._node])
    read: dict[Node, list[int]] = {}
    for node in order:
        if node.op is RESULT:
            read.setdefault(node.inputs[0], []).append(node.params["position"])
    for node in order:
        if not node.inputs or not node.requires_grad or node.op in (ew.detach, RESULT):
            continue
        kind = (node.op, tuple(source.type for source in node.inputs), repr(node.params))
        if kind not in seen:
            seen.add(kind)
            found.setdefault(node.op.name, []).extend((node, check) for check in _checks(node, read.get(node, ())))
    for name, checks in found.items():
        failing = next(((node, check) for node, check in checks if check is not None and not check), None)
        if failing is not None:
            node, check = failing
            yield Verdict("rules", name, "fails", f"{check}{node.whereabouts()}")
        elif name == ew.custom.name:
            yield Verdict(
                "rules", name, "open", "a derivative of your own: cr.check_gradients compares it with its function"
            )
        else:
            count = sum(check.compared for _, check in checks if check is not None)
            yield Verdict("rules", name, "holds" if count else "open", f"{count} derivatives agree")


def _checks(node: Node, read: Iterable[int]) -> list[Any]:
    """Of its derivative with respect to every input, for each of its results; None for what has no values to go by."""
    if node.op is ew.custom or node.op.kind == "call":
        return [None]
    values = [source.value for source in node.inputs]
    arguments = None
    if subgraphs(node):  # a region tells nothing of inputs that needed no gradient when it was traced
        arguments = [i for i, source in enumerate(node.inputs) if source.requires_grad]
    return [check_rule(op, values, node.params, arguments=arguments) for op in results_at(node, read)]


# -- the whole gradient ---------------------------------------------------------------------------------


def _gradient(network: _Network) -> Iterator[Verdict]:
    gradients = [np.asarray(g._node.value) for g in network.value_and_gradients(*network.leaves())[1:]]
    rng = np.random.default_rng(0)
    for position, name in enumerate(network.names):
        direction = network.direction(position, rng)
        expected = _slope(partial(_moved_loss, network, {position: direction}))
        yield _compared("gradient", name, float((gradients[position] * direction).sum()), expected)


def _moved_loss(network: _Network, directions: dict[int, Array], t: Any) -> Array:
    with no_grad():
        moved = [tensor(a + t * directions[i] if i in directions else a) for i, a in enumerate(network.arrays)]
        return network.fast[0](*moved).reshape(1)


def _slope(line: Callable[[Any], Array]) -> Slopes:
    """The slope along a line through kinks, perhaps: how far the two best steps disagree counts as error too."""
    best, second, *_ = sorted((slopes(line, step) for step in STEPS), key=lambda found: float(found.error[0]))
    return replace(
        best, error=best.error + np.maximum(np.abs(best.left - second.left), np.abs(best.right - second.right))
    )


def _compared(section: str, subject: str, analytic: float, expected: Slopes) -> Verdict:
    gap, error = float(expected.gap(np.array([analytic]), None)[0]), float(expected.error[0])
    size = max(abs(float(expected.left[0])), abs(float(expected.right[0])), abs(analytic))
    detail = f"{analytic:.10g} by the chain rule, {float(expected.left[0]):.10g} by values, known to {error:.1g}"
    if gap > 3 * error + COARSE * size:
        return Verdict(section, subject, "fails", detail)
    return Verdict(section, subject, "holds" if error <= 1e-3 * size or size == 0 else "open", detail)


# -- forward against reverse ------------------------------------------------------------------------------


def _adjoint(network: _Network) -> Iterator[Verdict]:
    rng = np.random.default_rng(3)
    v = [tensor(network.direction(i, rng)) for i in range(len(network.arrays))]
    try:
        outputs, Jv = autodiff.jvp(network.outputs, network.leaves(), v)
        w = tensor(rng.standard_normal(outputs.shape))
        _, pullback = autodiff.vjp(network.outputs, *network.leaves())
        JTw = pullback(w)
    except ChainruleError as error:  # a rule that cannot be differentiated again
        yield Verdict("adjoint", "outputs", "open", str(error))
        return
    left = np.asarray((Jv.detach() * w)._node.value)
    right = [np.asarray((a.detach() * b)._node.value) for a, b in zip(v, JTw, strict=True)]
    one, other = float(left.sum()), float(sum(part.sum() for part in right))
    size = float(np.abs(left).sum() + sum(np.abs(part).sum() for part in right))
    state = "holds" if abs(one - other) <= 1e-12 * size else "fails"
    yield Verdict("adjoint", "outputs", state, f"{one:.15g} forward, {other:.15g} reverse")
    weights = np.asarray(w._node.value)
    directions = {i: np.asarray(t._node.value) for i, t in enumerate(v)}
    yield _compared("adjoint", "J v by values", one, _slope(partial(_moved_outputs, network, directions, weights)))


def _moved_outputs(network: _Network, directions: dict[int, Array], weights: Array, t: Any) -> Array:
    with no_grad():
        moved = [tensor(a + t * directions[i]) for i, a in enumerate(network.arrays)]
        return np.asarray((network.fast[1](*moved) * weights).sum()).reshape(1)


# -- compiled -----------------------------------------------------------------------------------------------


def _compiled(network: _Network, exact: _Network) -> Iterator[Verdict]:
    native = _arrays(network.compiled(network.value_and_gradients)(*network.leaves()))
    eager = _arrays(network.value_and_gradients(*network.leaves()))
    truth = _arrays(exact.value_and_gradients(*exact.leaves()))
    for name, ours, numpys, right in zip(["loss", *network.names], native, eager, truth, strict=True):
        mine, theirs = _ulps(ours, right), _ulps(numpys, right)
        detail = f"{mine:.2g} ulp from float64 (NumPy: {theirs:.2g}), {_ulps(ours, numpys):.2g} ulp from NumPy"
        yield Verdict("compiled", name, "holds" if mine <= 4 * theirs + ULPS else "fails", detail)


def _same_values(network: _Network) -> Iterator[Verdict]:
    """The compiled values that slopes are made of are NumPy's."""
    for name, fast in zip(("loss", "outputs"), network.fast, strict=True):
        state = "holds" if fast.same else "fails"
        yield Verdict("compiled", f"{name} in float64", state, f"{fast.gap:.1g} from NumPy")


def _arrays(tensors: Sequence[Tensor]) -> list[Array]:
    return [np.asarray(wrap(t._node).detach()._node.value) for t in tensors]


def _ulps(a: Array, b: Array) -> float:
    """How far apart, in units in the last place of a's dtype at the largest element."""
    if not a.size:
        return 0.0
    unit = float(np.spacing(np.abs(b).max().astype(a.dtype)))
    return float(np.abs(a.astype(np.float64) - b).max()) / unit
