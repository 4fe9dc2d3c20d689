"""One application of an op: its value by its NumPy reference, its gradient by its rule, as the engine takes it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from inspect import signature
from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.graph import Node, Op, leaf
from chainrule.ops import elementwise as ew
from chainrule.several import Several, part
from chainrule.tape import at_once
from chainrule.tensor import Tensor
from chainrule.tensor.core import apply_several
from chainrule.tensor.creation import tensor

Array = np.ndarray[Any, Any]


def value_of(op: Op, inputs: Sequence[Array], params: dict[str, Any]) -> Array:
    """The output, for real inputs or complex ones."""
    with np.errstate(all="ignore"):
        return np.asarray(op.numpy(*inputs, **params))


def takes_complex(op: Op, inputs: int, params: dict[str, Any]) -> bool:
    """Is an elementwise op a function of complex numbers too? One that has stairs (floor, round) is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        try:
            given = [np.array([1.5 + 0.25j / (i + 1)]) for i in range(inputs)]
            return bool(value_of(op, given, params).imag.any())
        except TypeError:
            return False


def results_at(node: Node, read: Iterable[int]) -> list[Op]:
    """As `results_of`, for the op of a node of which just some results are read."""
    if not isinstance(node, Several):
        return results_of(node.op)
    real = [i for i in read if node.types[i].dtype.is_floating_point]
    return [_result_of(node.op, len(node.inputs), i) for i in real]


def results_of(op: Op) -> list[Op]:
    """The op; of one of several results each that is a real number, as an op of its own with what the joint rule says."""
    if op.joint is None or op is ew.custom:
        return [op]
    count = len([p for p in signature(op.infer).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD])
    types = op.infer(*[leaf(np.zeros(()), dtypes.float64)] * count)
    return [_result_of(op, count, i) for i, type in enumerate(types) if type.dtype.is_floating_point]


def _result_of(op: Op, count: int, position: int) -> Op:
    def products(dY: Tensor, Y: Tensor, *inputs: Tensor, **params: Any) -> Any:
        found = apply_several(op, *inputs, **params)
        results = (*found[:position], Y, *found[position + 1 :])
        given = tuple(dY if i == position else None for i in range(len(found)))
        return op.joint(given, results, *inputs, **params) if op.joint is not None else ()

    rules = tuple(partial(_argument, products, argument) for argument in range(count))
    return replace(part(op, position), vjp=rules)


def _argument(products: Callable[..., Any], argument: int, *given: Tensor, **params: Any) -> Any:
    return products(*given, **params)[argument]


@lru_cache(maxsize=256)
def upstream(shape: tuple[int, ...]) -> Array:
    """Upstream gradients of both signs, none near 0, all different."""
    rng = np.random.default_rng(1)
    made = np.asarray(rng.uniform(0.5, 2.0, shape) * np.where(rng.random(shape) < 0.5, -1, 1))
    made.flags.writeable = False
    return made


@at_once
def pulled_back(op: Op, argument: int, inputs: Sequence[Array], params: dict[str, Any], Y: Array, dY: Array) -> Array:
    """The gradient by the rule: the rule, then broadcasting undone."""
    x, handles = inputs[argument], {id(a): tensor(a) for a in inputs}
    tensors = [handles[id(a)] for a in inputs]  # an array that stands twice is one tensor
    with graph.grad_mode(False):
        if op.joint is not None:
            product = op.joint(tensor(dY), tensor(Y), *tensors, **params)[argument]
        else:
            rule: Callable[..., Any] | None = op.rule(argument)
            product = None if rule is None else rule(tensor(dY), tensor(Y), *tensors, **params)
        if product is None:
            return np.zeros_like(x)
        dX = product.sum_to_size(x.shape)
    return np.array(dX._node.value)
