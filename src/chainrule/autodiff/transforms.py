"""Functions of functions: vjp, jvp, grad and what is made of them.

Each runs its function at *variables* of its own, so that a derivative is with respect to these and nothing else.
What such a derivative depends on beside them (a parameter in the closure, a tangent or cotangent, the variable of a
derivative around it) may itself be asked for later. So the backward pass is recorded wherever one of those can be
reached, and its results keep their history exactly where they lead there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.autodiff.trees import aligned, filled, leaves, mapped, outline
from chainrule.autodiff.walk import gradients, renamed
from chainrule.errors import GradientError, ShapeError
from chainrule.graph import Node
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import as_leaf, lifted, wrap
from chainrule.tensor.creation import as_tensor, ones_like, zeros, zeros_like
from chainrule.tensor.functions import stack

Function = Callable[..., Any]
Tree = Any


# -- one run of a function -------------------------------------------------------------------------


class _Run:
    """A function's value at variables of its own, and the way back from cotangents to gradients."""

    def __init__(
        self, name: str, function: Function, inputs: Sequence[Tree], has_aux: bool = False,
        places: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self._name = name
        numbers = range(len(inputs)) if places is None else places
        arguments = [
            mapped(partial(_variable, name, number), given) for number, given in zip(numbers, inputs, strict=True)
        ]
        self._inputs = tuple(arguments)
        self.variables: list[Tensor] = leaves(self._inputs)
        self._nodes = list(map(lifted, self.variables))  # the function may give a handle another node
        with graph.grad_mode(True):
            result = function(*arguments)
        for node in self._nodes:
            node.owner = None  # from here on nothing outside can ask for its gradient
        output, aux = _with_aux(name, result) if has_aux else (result, None)
        self._output = mapped(lambda leaf: _output(name, leaf), output)
        self.flat: list[Tensor] = leaves(self._output)
        self._outside = _reaching_outside(self.flat)
        self.value = filled(self._output, _kept(self.flat))
        self.aux = mapped(lambda leaf: _kept([leaf])[0] if isinstance(leaf, Tensor) else leaf, aux)

    def pullback(self, *cotangents: Tree) -> tuple[Tree, ...]:
        """One gradient for each input, built as the input is."""
        output = self._output
        found = aligned(output, cotangents[0]) if len(cotangents) == 1 else None
        if found is None and isinstance(output, (tuple, list)):
            found = aligned(output, cotangents)
        if found is None:
            raise GradientError(
                f"{graph.who(self._name)}: the pullback takes one gradient for each output, built as the outputs are, "
                f"{outline(output)}, got {', '.join(map(outline, cotangents)) or 'none'}. Pass zeros for outputs that "
                f"do not matter."
            )
        seeds = [_fitted(self._name, "gradient", y, seed) for y, seed in zip(self.flat, found, strict=True)]
        return self.as_inputs(self.pull(seeds))

    def as_inputs(self, found: list[Tensor]) -> tuple[Tree, ...]:
        """One tensor for each variable, built as the inputs are."""
        result: tuple[Tree, ...] = filled(self._inputs, found)
        return result

    def pull(self, seeds: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of all variables, from those of all outputs."""
        pairs = [(y, seed) for y, seed in zip(self.flat, seeds, strict=True) if y.requires_grad]
        record = graph.is_grad_enabled() and (bool(self._outside) or any(seed.requires_grad for _, seed in pairs))
        found = gradients([y for y, _ in pairs], [seed for _, seed in pairs], self._nodes, record)
        result = [
            renamed(found[node]) if node in found else zeros_like(x)
            for node, x in zip(self._nodes, self.variables, strict=True)
        ]
        return _kept(result)


def _variable(name: str, number: int, value: Any) -> Tensor:
    """A new node for a leaf of argument `number`."""
    if not isinstance(value, (Tensor, bool, int, float, np.generic, np.ndarray)):
        raise GradientError(
            f"{graph.who(name)}: argument {number} must hold tensors, arrays or numbers to differentiate by, got "
            f"{type(value).__name__}. Name the arguments to differentiate by with argnums, or bind the others in a lambda."
        )
    tensor = as_tensor(value)
    if not tensor.dtype.is_floating_point:
        raise GradientError(
            f"{graph.who(name)}: only floating-point arguments have derivatives, got {tensor.dtype.name} in argument "
            f"{number}. Name the others out with argnums, or convert with .float()."
        )
    if tensor.requires_grad:
        with graph.grad_mode(True):
            return tensor.clone()
    variable = wrap(lifted(tensor))
    variable._node = as_leaf(lifted(tensor), variable)
    return variable


def _with_aux(name: str, result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        came = f"{len(result)} results" if isinstance(result, tuple) else type(result).__name__
        raise GradientError(
            f"{graph.who(name)}: with has_aux the function must return a pair (output, aux), got {came}. "
            f"Put all that is not differentiated into aux."
        )
    return result


def _output(name: str, value: Any) -> Tensor:
    if not isinstance(value, (Tensor, bool, int, float, np.generic, np.ndarray)):
        raise GradientError(
            f"{graph.who(name)}: the function must return tensors (alone, or in lists, tuples and dicts), got "
            f"{type(value).__name__}. Return other results as aux, with has_aux=True."
        )
    return as_tensor(value)


def _reaching_outside(tensors: Sequence[Tensor]) -> set[Node]:
    """The nodes behind the tensors that lead to a leaf which someone outside may differentiate by."""
    found: set[Node] = set()
    for node in graph.toposort(map(lifted, tensors)):
        leads = node.owner is not None or node.released or (not node.is_leaf and not found.isdisjoint(node.inputs))
        if node.requires_grad and leads:
            found.add(node)
    return found


def _kept(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors with their history where it leads outside, else without."""
    outside = _reaching_outside(tensors) if graph.is_grad_enabled() else set()
    return [wrap(as_leaf(lifted(t), None)) if t.requires_grad and lifted(t) not in outside else t for t in tensors]


def _fitted(name: str, what: str, like: Tensor, given: Any) -> Tensor:
    """A tangent or cotangent, converted to the dtype of what it belongs to."""
    tensor = _output(name, given)
    if tensor.shape != like.shape:
        raise ShapeError(
            f"{graph.who(name)}: each {what} must have the shape of its tensor, {like.shape}, got {tensor.shape}. "
            f"Expand or reshape it."
        )
    return tensor.to(like.dtype)


# -- the public functions --------------------------------------------------------------------------


@takes_keywords("torch")
def vjp(function: Function, *inputs: Tree, has_aux: bool = False) -> Any:
    """The output of `function`, and the map from output gradients to input gradients, v -> J^T v.

    Args:
        function: from tensors to tensors; arguments and results may be lists, tuples and dicts of them.
        inputs: floating-point tensors, arrays or numbers, the point at which to differentiate.
        has_aux: `function` returns a pair (output, aux), and aux is handed through.

    Returns:
        (output, pullback), or (output, pullback, aux). ``pullback(v)`` takes a gradient built as the output is (for a
        tuple of outputs also ``pullback(v1, v2)``) and gives a tuple with one gradient for each input. All of them
        keep their derivatives by whatever else `function` and v depend on.

    Raises:
        GradientError: an input that is not floating-point, or a gradient built otherwise than the output.

    >>> import chainrule as cr
    >>> y, pullback = cr.vjp(lambda x: x ** 2, cr.tensor([1.0, 3.0]))
    >>> pullback(cr.ones(2))
    (tensor([2., 6.]),)
    """
    run = _Run("vjp", function, inputs, has_aux)
    return (run.value, run.pullback, run.aux) if has_aux else (run.value, run.pullback)


@takes_keywords("torch")
def jvp(function: Function, inputs: Sequence[Tree], tangents: Sequence[Tree], has_aux: bool = False) -> Any:
    """(output, J v): how the output moves when the inputs move along `tangents`.

    The pullback u -> J^T u is linear in u; its own derivative with respect to u is J. So a second reverse
    walk gives forward-mode products, and no op needs a second rule.

    Args:
        function: from tensors to tensors; arguments and results may be lists, tuples and dicts of them.
        inputs: a tuple or list, one entry for each argument.
        tangents: one for each input, of its structure and shapes.
        has_aux: `function` returns a pair (output, aux), and the result is (output, J v, aux).

    Raises:
        GradientError: tangents built otherwise than the inputs.
        ShapeError: a tangent of another shape than its input.

    >>> import chainrule as cr
    >>> cr.jvp(lambda x: x * x, [cr.tensor([3.0])], [cr.tensor([1.0])])
    (tensor([9.]), tensor([6.]))
    """
    for given in (inputs, tangents):
        if not isinstance(given, (tuple, list)):
            raise GradientError(
                f"{graph.who('jvp')}: inputs and tangents must be tuples or lists with an entry for each argument, got "
                f"{type(given).__name__}. Write cr.jvp(f, (x,), (v,))."
            )
    moves = aligned(inputs, tangents)
    if moves is None:
        raise GradientError(
            f"{graph.who('jvp')}: there must be one tangent for each input, built as the inputs are, "
            f"{outline(tuple(inputs))}, got {outline(tuple(tangents))}. Pass zeros for inputs that stand still."
        )
    run = _Run("jvp", function, inputs, has_aux)
    v = [_fitted("jvp", "tangent", x, move) for x, move in zip(run.variables, moves, strict=True)]
    moved = filled(run.value, _pushed(run, v))
    return (run.value, moved, run.aux) if has_aux else (run.value, moved)


def _pushed(run: _Run, tangents: Sequence[Tensor]) -> list[Tensor]:
    """J v for every output: the derivative of u -> J^T u, pulled at v. An output of integers does not move."""
    still = [zeros_like(y) for y in run.flat]
    moving = [i for i, y in enumerate(run.flat) if y.dtype.is_floating_point]

    def transposed(*u: Tensor) -> list[Tensor]:
        seeds = list(still)
        for i, seed in zip(moving, u, strict=True):
            seeds[i] = seed
        return run.pull(seeds)

    way = _Run("jvp", transposed, [still[i] for i in moving])
    for i, moved in zip(moving, way.pull(tangents), strict=True):
        still[i] = moved
    return still


@takes_keywords("torch")
def value_and_grad(function: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """A function that gives (value, gradient) of a scalar `function` with respect to its arguments `argnums`.

    Args:
        function: returns one element. The arguments to differentiate by are tensors, arrays or numbers, or lists,
            tuples and dicts of them; the others may be anything.
        argnums: an argument's position, counted from the end where negative, or several: then the gradient is a tuple.
        has_aux: `function` returns a pair (value, aux), and the result is ((value, aux), gradient).

    Raises:
        GradientError: no such argument, one that is not floating-point, or a value that is not, or has several elements.

    >>> import chainrule as cr
    >>> cr.value_and_grad(lambda x: (x * x).sum())(cr.tensor([1.0, 2.0]))
    (tensor(5.), tensor([2., 4.]))
    """

    @wraps(function)
    def with_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        run = _at("grad", function, argnums, has_aux, args, kwargs)
        if not isinstance(run.value, Tensor) or run.value.numel() != 1:
            came = run.value.shape if isinstance(run.value, Tensor) else outline(run.value)
            raise GradientError(
                f"{graph.who('grad')}: the function must return a tensor with one element, got {came}. "
                f"Reduce it (.sum(), .mean()), or use cr.vjp; return further results as aux, with has_aux=True."
            )
        if not run.value.dtype.is_floating_point:
            raise GradientError(
                f"{graph.who('grad')}: the function must return a floating-point tensor, got {run.value.dtype.name}, which does "
                f"not vary smoothly with anything. Convert it with .float() before what is to be differentiated."
            )
        found = run.pullback(ones_like(run.value))
        return ((run.value, run.aux) if has_aux else run.value), _chosen(argnums, found)

    return with_gradient


@takes_keywords("torch")
def grad(function: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The gradient of a scalar `function` with respect to its arguments `argnums`, as a function.

    Arguments as for `value_and_grad`; with `has_aux` it gives (gradient, aux).

    >>> import chainrule as cr
    >>> cr.grad(cr.grad(lambda x: x ** 3))(cr.tensor(2.0))
    tensor(12.)
    """

    @wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = value_and_grad(function, argnums, has_aux)(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


@takes_keywords("torch")
def jacobian(function: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """dY/dX of a tensor-valued `function`, of shape Y.shape + X.shape, one output element at a time.

    Where Y or X are lists, tuples or dicts, so is the result: built as Y, and at each leaf as X. Arguments as for
    `value_and_grad`; with `has_aux` it gives (jacobian, aux).

    >>> import chainrule as cr
    >>> cr.jacobian(lambda x: x * x)(cr.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @wraps(function)
    def rows(*args: Any, **kwargs: Any) -> Any:
        run = _at("jacobian", function, argnums, has_aux, args, kwargs)
        found = filled(run.value, [_chosen(argnums, _block(run, i)) for i in range(len(run.flat))])
        return (found, run.aux) if has_aux else found

    return rows


def _block(run: _Run, position: int) -> tuple[Tree, ...]:
    """The derivative of one output with respect to every input."""
    y = run.flat[position]
    if not y.dtype.is_floating_point:
        raise GradientError(
            f"{graph.who('jacobian')}: only floating-point results have derivatives, got {y.dtype.name}. "
            f"Return others as aux, with has_aux=True."
        )
    still = [zeros_like(other) for other in run.flat]
    pulled = [run.pull([*still[:position], unit, *still[position + 1 :]]) for unit in _units(y)]
    columns = zip(*pulled, strict=True) if pulled else ([] for _ in run.variables)
    blocks = [
        stack(column).reshape(*y.shape, *x.shape) if column else zeros(*y.shape, *x.shape, dtype=x.dtype)
        for column, x in zip(columns, run.variables, strict=True)
    ]
    return run.as_inputs(blocks)


def _units(y: Tensor) -> list[Tensor]:
    """For each element a tensor that is one there and zero elsewhere."""
    one = ones_like(y).reshape(-1).narrow(0, 0, min(1, y.numel()))
    return [one._pad((i,), (y.numel() - 1 - i,), (0,)).reshape(y.shape) for i in range(y.numel())]


@takes_keywords("torch")
def hessian(function: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The matrix of second derivatives of a scalar `function`, of shape X.shape + X.shape.

    Arguments and structure as for `jacobian`, of which it is that of `grad`.

    >>> import chainrule as cr
    >>> cr.hessian(lambda x: (x ** 3).sum())(cr.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacobian(grad(function, argnums, has_aux), argnums, has_aux)


# -- which arguments -------------------------------------------------------------------------------


def _at(
    name: str, function: Function, argnums: int | Sequence[int], has_aux: bool, args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> _Run:  # fmt: skip
    """A run of the function in which the chosen arguments are variables and the others stay as they are."""
    positions = [_position(name, number, len(args)) for number in _numbers(name, argnums)]
    if len(set(positions)) != len(positions):
        raise GradientError(
            f"{graph.who(name)}: argnums must name each argument once, got {argnums}. Remove the repetition."
        )

    def of_chosen(*chosen: Tree) -> Any:
        given = list(args)
        for position, value in zip(positions, chosen, strict=True):
            given[position] = value
        return function(*given, **kwargs)

    return _Run(name, of_chosen, [args[position] for position in positions], has_aux, positions)


def _numbers(name: str, argnums: Any) -> list[int]:
    """`argnums` as a list of integers."""
    try:
        numbers = [operator.index(n) for n in (argnums if isinstance(argnums, (tuple, list)) else (argnums,))]
    except TypeError:
        raise GradientError(
            f"{graph.who(name)}: argnums must be an integer or a tuple of integers, got {argnums!r}. "
            f"It counts the positional arguments from 0."
        ) from None
    return numbers


def _position(name: str, number: int, count: int) -> int:
    if not -count <= number < count:
        raise GradientError(
            f"{graph.who(name)}: argnums must name positional arguments, of which there are {count}, got {number}. "
            f"Pass the arguments to differentiate by by position, not by name."
        )
    return number % count


def _chosen(argnums: int | Sequence[int], found: tuple[Tree, ...]) -> Any:
    """A tuple where several arguments were asked for, else the one."""
    return found if isinstance(argnums, (tuple, list)) else found[0]
