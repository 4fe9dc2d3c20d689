"""What every derivative rule must hold to, whatever its op: laws that need no slope of the op.

1. The gradient has the dtype of the input, and float32 inputs give the same numbers as float64 ones but for rounding;
   so does the dtype that an op casts to.
2. A rule is linear in the upstream gradient, whatever its size: no clipping, no threshold.
3. Where turning the input round does not change the output, as in a sum, the rule makes no difference between the
   elements: what ties for an extremum gets equal shares.
4. A rule is a formula that can be differentiated again: its derivative agrees with the slopes of its own values.
5. Whether two inputs are one tensor or two equal ones makes no difference: the engine adds up what each gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.explain.verify.application import pulled_back, upstream, value_of
from chainrule.explain.verify.slopes import slopes
from chainrule.graph import Op
from chainrule.tape import at_once
from chainrule.tensor import Tensor
from chainrule.tensor.core import apply
from chainrule.tensor.creation import tensor

Array = np.ndarray[Any, Any]
FACTOR = -(2.0**40)  # a power of two: a linear rule commutes with it to the bit
FLOAT32_RTOL = 1e-4
AGAIN_RTOL = 1e-6  # of second derivatives: a term that is missing is no matter of digits


@at_once
def broken_law(op: Op, arrays: Sequence[Array], params: dict[str, Any], ordinary: bool) -> str:
    """The first law that the rule breaks on these inputs, in words; at edges only the third and fifth are tried."""
    for argument, x in enumerate(arrays):
        if x.dtype.kind == "f" and x.size:
            case = Case(op, tuple(arrays), params, argument)
            try:
                broken = next(case.broken(ordinary), "")
            except Exception as error:  # a rule is user code: whatever it raises is the finding
                broken = f"the rule raised {error!r}"
            if broken:
                return f"{op.name}, argument {argument}: {broken}"
    return ""


@dataclass(frozen=True)
class Case:
    """One application of an op, by its argument `argument`."""

    op: Op
    arrays: tuple[Array, ...]
    params: dict[str, Any]
    argument: int

    @property
    def x(self) -> Array:
        return self.arrays[self.argument]

    @cached_property
    def plain(self) -> Array:
        """The gradient on these inputs."""
        return self.gradient()

    @cached_property
    def drawn(self) -> tuple[Array, Array]:
        """Other numbers in the place of the argument, all different, and the op's value on them."""
        x = np.asarray(np.random.default_rng(8).standard_normal(self.x.shape))
        return x, value_of(self.op, self.with_argument(x), self.params)

    def with_argument(self, x: Array) -> list[Array]:
        """The inputs with `x` in the place of the argument."""
        return [x if i == self.argument else a for i, a in enumerate(self.arrays)]

    def gradient(self, arrays: Sequence[Array] | None = None, factor: float = 1.0) -> Array:
        arrays = self.arrays if arrays is None else arrays
        Y = value_of(self.op, arrays, self.params)
        dY = (upstream(Y.shape) * factor).astype(Y.dtype)
        return pulled_back(self.op, self.argument, arrays, self.params, Y, dY)

    def broken(self, ordinary: bool) -> Iterator[str]:
        laws: list[Callable[[Case], str]] = [_alike, _of_one_tensor]
        if ordinary:
            laws += [_of_one_dtype, _of_any_target, _linear, _differentiable]
        with np.errstate(all="ignore"):
            yield from filter(None, (law(self) for law in laws))


def _differ(found: Array, expected: Array, rtol: float) -> bool:
    scale = np.nan_to_num(np.abs(expected)).max(initial=0.0)
    return not np.allclose(found, expected, rtol, rtol * float(scale), equal_nan=True)


def _of_one_dtype(case: Case) -> str:
    narrow = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in case.arrays]
    found = case.gradient(narrow)
    if found.dtype != np.float32:
        return f"a gradient of dtype {found.dtype} for a float32 input"
    exact = case.gradient([a.astype(np.float64) if a.dtype.kind == "f" else a for a in narrow])
    if _differ(found, exact, FLOAT32_RTOL):
        return "float32 inputs give another gradient than float64 ones"
    return ""


def _of_any_target(case: Case) -> str:
    """Slopes say nothing of a cast to float32: it is a stair."""
    if "dtype" not in case.params:
        return ""
    found = replace(case, params={**case.params, "dtype": dtypes.float32}).gradient()
    if found.dtype != case.x.dtype or _differ(found, case.plain, FLOAT32_RTOL):
        return "a cast to float32 gives another gradient than one to float64"
    return ""


def _linear(case: Case) -> str:
    for factor in (FACTOR, 1 / FACTOR):
        if _differ(case.gradient(factor=factor), factor * case.plain, 1e-14):
            return f"{factor:.3g} times the upstream gradient does not give {factor:.3g} times the gradient"
    return ""


def _alike(case: Case) -> str:
    if case.op.kind == "elementwise":
        return ""
    for axis in range(case.x.ndim):
        if case.x.shape[axis] > 1 and _turning_changes_nothing(case, axis):
            there = np.flip(case.gradient(case.with_argument(np.flip(case.x, axis))), axis)
            if _differ(there, case.plain, 1e-12):
                return f"elements in other order along axis {axis}, which the op does not heed, get other gradients"
    return ""


def _turning_changes_nothing(case: Case, axis: int) -> bool:
    """Of this op with these parameters, by trying numbers that are all different."""
    drawn, one = case.drawn
    other = value_of(case.op, case.with_argument(np.flip(drawn, axis)), case.params)
    return one.shape == other.shape and np.allclose(one, other, 1e-12, 1e-12)


def _of_one_tensor(case: Case) -> str:
    like = [a.shape == case.x.shape and a.dtype == case.x.dtype for a in case.arrays]
    one = [case.x if alike else a for alike, a in zip(like, case.arrays, strict=True)]
    if sum(like) > 1 and _differ(case.gradient(one), case.gradient([a.copy() for a in one]), 1e-12):
        return "an input given twice gets another gradient than two equal ones"
    return ""


def _differentiable(case: Case) -> str:
    """The slope of the rule along a direction of upstream gradient and inputs, by differentiating it and by its values."""
    line = _Line(case)
    found = slopes(line.values)
    low, high = np.minimum(found.left, found.right), np.maximum(found.left, found.right)
    size = np.maximum(np.abs(low), np.abs(high))
    if not (found.error <= 1e-3 * (size + 1e-6)).all():
        return ""
    again, allowed = line.slope_by_rule(), float(found.error.sum() + AGAIN_RTOL * size.sum())
    if low.sum() - allowed <= again <= high.sum() + allowed:
        return ""
    return f"differentiated again it gives {again:.6g}, its values give {float(found.left.sum()):.6g}"


class _Line:
    """A rule as a function of upstream gradient and inputs, along a random direction of all that are floating."""

    def __init__(self, case: Case) -> None:
        rng = np.random.default_rng(6)
        self.case = case
        self.point = [upstream(value_of(case.op, case.arrays, case.params).shape), *case.arrays]
        self.direction = [rng.standard_normal(a.shape) if a.dtype.kind == "f" else None for a in self.point]
        self.weights = upstream(case.x.shape)

    def values(self, t: Any) -> Array:
        if isinstance(t, complex):
            raise TypeError("rules are formulas over real tensors")
        moved = [a if v is None else a + t * v for a, v in zip(self.point, self.direction, strict=True)]
        with graph.grad_mode(False):
            return np.asarray(self._rule([tensor(a) for a in moved])._node.value * self.weights)

    def slope_by_rule(self) -> float:
        leaves = [tensor(a, requires_grad=a.dtype.kind == "f") for a in self.point]
        value = (self._rule(leaves) * tensor(self.weights)).sum()
        if value.requires_grad:
            value.backward()
        grads = [None if leaf.grad is None else np.asarray(leaf.grad._node.value) for leaf in leaves]
        return sum(
            float((g * v).sum()) for g, v in zip(grads, self.direction, strict=True) if g is not None and v is not None
        )

    def _rule(self, point: list[Tensor]) -> Tensor:
        case, (dY, *inputs) = self.case, point
        rule: Any = case.op.rule(case.argument)
        if rule is None:
            return tensor(np.zeros(case.x.shape))
        product: Tensor = rule(dY, apply(case.op, *inputs, **case.params), *inputs, **case.params)
        return product.sum_to_size(case.x.shape)
