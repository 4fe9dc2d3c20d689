"""Reverse-mode differentiation: from a graph to a graph.

The walk visits each node once, after everything that reads it, multiplies the gradient that arrived by
the op's own derivative rule, and hands the products to its inputs. The rules are formulas over Tensors,
so the result is a graph like any other: printed, compiled, differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from chainrule import graph
from chainrule.borrowed import borrowed
from chainrule.errors import DtypeError, GradientError, ShapeError
from chainrule.graph import Node
from chainrule.ops import elementwise as ew
from chainrule.tensor import Tensor
from chainrule.tensor.core import Engine, apply, lifted, wrap
from chainrule.tensor.creation import ones_like, zeros, zeros_like

Function = Callable[..., Any]


# -- the walk ---------------------------------------------------------------------------------


def gradients(
    outputs: Sequence[Tensor], seeds: Sequence[Tensor], targets: Iterable[Node], create_graph: bool = False
) -> dict[Node, Tensor]:
    """The gradient of sum(<output, seed>) with respect to each target node it depends on.

    dL/dX = sum over the readers Y of X of (dL/dY)(dY/dX), Y being visited before X.
    """
    wanted = set(targets)
    order = [node for node in graph.toposort(map(lifted, outputs)) if node.requires_grad]
    for node in order:
        if node.released:
            raise GradientError(
                f"backward: the history{node.whereabouts()} was freed by an earlier backward pass. "
                f"Call the first one with retain_graph=True, or run the forward pass again."
            )
    leading = _leading_to(wanted, order)
    arrived: dict[Node, Tensor] = {}
    trace = graph.current_trace()
    with graph.grad_mode(create_graph), graph.provenance() as stand_for:
        for output, seed in zip(outputs, seeds, strict=True):
            _accumulate(arrived, lifted(output), seed)
        for node in reversed(order):
            if node in arrived and node in leading:
                dY = arrived[node] if node in wanted else arrived.pop(node)
                if trace is not None:
                    trace.differentiated(node, dY._node)
                stand_for(node)
                distribute(node, dY, leading, arrived)
    return {node: arrived[node] for node in wanted if node in arrived}


def _leading_to(wanted: set[Node], order: list[Node]) -> set[Node]:
    """The nodes whose gradient matters: some path leads from them to a wanted one."""
    leading: set[Node] = set()
    for node in order:
        if node in wanted or any(source in leading for source in node.inputs):
            leading.add(node)
    return leading


def distribute(node: Node, dY: Tensor, leading: set[Node], arrived: dict[Node, Tensor]) -> None:
    """One application of the chain rule: `node`'s gradient becomes contributions to its inputs."""
    if node.op is ew.detach:
        return  # a leaf inside a trace
    reaching = [argument for argument, source in enumerate(node.inputs) if source.requires_grad and source in leading]
    if not reaching:
        return
    Y, inputs = wrap(node), tuple(map(wrap, node.inputs))
    joint = node.op.joint(dY, Y, *inputs, **node.params) if node.op.joint is not None else None
    for argument in reaching:
        if joint is not None:
            product = joint[argument]
        else:
            rule = node.op.rule(argument)
            product = None if rule is None else rule(dY, Y, *inputs, **node.params)
        source = node.inputs[argument]
        # Broadcasting is undone here, once, for every rule. No rule: the derivative is zero where it exists.
        _accumulate(
            arrived, source, zeros_like(inputs[argument]) if product is None else product.sum_to_size(source.shape)
        )


def _accumulate(arrived: dict[Node, Tensor], node: Node, contribution: Tensor) -> None:
    arrived[node] = arrived[node] + contribution if node in arrived else contribution


def _backward(
    output: Tensor, gradient: Tensor | None, retain_graph: bool, create_graph: bool, inputs: Sequence[Tensor] | None
) -> None:
    """`Tensor.backward`: accumulate into ``grad`` of every leaf."""
    if not output.requires_grad:
        raise GradientError(
            f"{graph.who('backward')}: this tensor does not require grad and has no history. "
            f"Compute it from a tensor with requires_grad=True, outside no_grad."
        )
    seed = _seed(output, gradient, "backward")
    order = graph.toposort([lifted(output)])
    chosen = None if inputs is None else {lifted(x) for x in inputs}
    leaves = [
        node for node in order if node.owner is not None and node.requires_grad and (chosen is None or node in chosen)
    ]
    found = gradients([output], [seed], leaves, create_graph)
    with graph.grad_mode(create_graph):
        for node in leaves:
            owner = node.owner() if node.owner is not None else None
            if owner is not None and node in found:
                # A handle of its own: an in-place change of one .grad must not reach another's.
                new = _renamed(found[node])
                owner.grad = new if owner.grad is None else owner.grad + new
    if not retain_graph and not graph.tracing():
        for node in order:
            node.release()


def _renamed(tensor: Tensor) -> Tensor:
    """Another handle for the same node, which no compiled step may then overwrite."""
    if tensor._node._value is not None and borrowed(tensor._node._value):  # the caller's, who passed it as dY
        tensor = tensor.clone()
    node = lifted(tensor)
    node.seen = True
    return wrap(node)


def _seed(output: Tensor, gradient: Tensor | None, name: str) -> Tensor:
    if gradient is None:
        if output.numel() != 1:
            raise GradientError(
                f"{graph.who(name)}: only a tensor with one element has an implied gradient of 1, got shape "
                f"{output.shape}. Reduce it first (.sum(), .mean()), or pass gradient=."
            )
        return ones_like(output)
    if not isinstance(gradient, Tensor):
        raise DtypeError(
            f"{graph.who(name)}: gradient must be a tensor of shape {output.shape}, got {type(gradient).__name__}. "
            f"Convert it with cr.tensor(...)."
        )
    if gradient.shape != output.shape:
        raise ShapeError(
            f"{graph.who(name)}: gradient must have the shape of the tensor, {output.shape}, got "
            f"{gradient.shape}. Expand or reshape it."
        )
    return gradient.to(output.dtype)


Engine.backward = staticmethod(_backward)


# -- functions of tensors -------------------------------------------------------------------------


def _variables(tensors: Sequence[Tensor]) -> list[Tensor]:
    """New nodes for the arguments, so that a derivative is with respect to these and nothing else."""
    with graph.grad_mode(True):
        fresh = []
        for tensor in tensors:
            if not tensor.dtype.is_floating_point:
                raise GradientError(
                    f"{graph.who('grad')}: only floating-point arguments have derivatives, got {tensor.dtype.name}. "
                    f"Name the others out with argnums, or convert with .float()."
                )
            copy = tensor.clone() if tensor.requires_grad else tensor.detach()
            fresh.append(copy if copy.requires_grad else _leaf(copy))
        return fresh


def _leaf(tensor: Tensor) -> Tensor:
    tensor._views = None
    return tensor.requires_grad_()


def _positions(argnums: int | Sequence[int]) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def _outer_history(outputs: Sequence[Tensor], variables: Sequence[Tensor]) -> bool:
    """Do the outputs depend on something that requires grad beside the variables made for this derivative?"""
    inner = {lifted(x) for x in variables if x.is_leaf}
    return any(
        node.requires_grad and node.owner is not None and node not in inner
        for node in graph.toposort(map(lifted, outputs))
    )


def _without_history(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    plain = tuple(t.detach() for t in tensors)
    for t in plain:
        t._views = None
    return plain


def vjp(
    function: Function, *inputs: Tensor, create_graph: bool | None = None
) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """The output of `function`, and the map from output gradients to input gradients, v -> J^T v.

    Args:
        function: from tensors to a tensor or a tuple of tensors.
        inputs: floating-point tensors, the point at which to differentiate.
        create_graph: record the backward pass, for derivatives of derivatives (default: where something
            outside, such as an enclosing derivative, may ask for them).

    Returns:
        (outputs, pullback): `pullback(*v)` takes one tensor for each output, of its shape, and gives a
        tuple with one gradient for each input.

    >>> import chainrule as cr
    >>> y, pullback = cr.vjp(lambda x: x ** 2, cr.tensor([1.0, 3.0]))
    >>> pullback(cr.ones(2))
    (tensor([2., 6.]),)
    """
    variables = _variables(inputs)
    with graph.grad_mode(True):
        outputs = function(*variables)
    several = isinstance(outputs, (tuple, list))
    flat: list[Tensor] = list(outputs) if several else [outputs]
    if not all(isinstance(y, Tensor) for y in flat):
        came = ", ".join(type(y).__name__ for y in flat)
        raise GradientError(
            f"{graph.who('vjp')}: the function must return a tensor or a tuple of tensors, got {came}. "
            f"Return tensors only; keep other results outside."
        )
    outer = graph.is_grad_enabled() and _outer_history(flat, variables)
    record = outer if create_graph is None else create_graph
    plain = flat if outer or create_graph else _without_history(flat)

    def pullback(*seeds: Tensor) -> tuple[Tensor, ...]:
        if len(seeds) != len(flat):
            raise GradientError(
                f"{graph.who('vjp')}: the pullback takes one gradient for each of the {len(flat)} outputs, got "
                f"{len(seeds)}. Pass zeros for outputs that do not matter."
            )
        fitted = [_seed(y, seed, "vjp") for y, seed in zip(flat, seeds, strict=True)]
        pairs = [(y, seed) for y, seed in zip(flat, fitted, strict=True) if y.requires_grad]
        nodes = [lifted(x) for x in variables]
        found = gradients([y for y, _ in pairs], [seed for _, seed in pairs], nodes, record)
        return tuple(
            _renamed(found[node]) if node in found else zeros_like(x) for node, x in zip(nodes, variables, strict=True)
        )

    return (tuple(plain) if several else plain[0]), pullback


def value_and_grad(function: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that gives (value, gradient) of a scalar `function` with respect to its arguments `argnums`.

    >>> import chainrule as cr
    >>> cr.value_and_grad(lambda x: (x * x).sum())(cr.tensor([1.0, 2.0]))
    (tensor(5.), tensor([2., 4.]))
    """
    positions = _positions(argnums)

    @wraps(function)
    def with_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        def of_chosen(*chosen: Tensor) -> Tensor:
            filled = list(args)
            for position, tensor in zip(positions, chosen, strict=True):
                filled[position] = tensor
            result = function(*filled, **kwargs)
            if not isinstance(result, Tensor) or result.numel() != 1:
                came = result.shape if isinstance(result, Tensor) else type(result).__name__
                raise GradientError(
                    f"{graph.who('grad')}: the function must return a tensor with one element, got {came}. "
                    f"Reduce it (.sum(), .mean()), or use cr.vjp."
                )
            return result

        value, pullback = vjp(of_chosen, *(args[position] for position in positions))
        found = pullback(ones_like(value))
        return value, found[0] if isinstance(argnums, int) else found

    return with_gradient


def grad(function: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The gradient of a scalar `function` with respect to its arguments `argnums`, as a function.

    >>> import chainrule as cr
    >>> cr.grad(cr.grad(lambda x: x ** 3))(cr.tensor(2.0))
    tensor(12.)
    """

    @wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return value_and_grad(function, argnums)(*args, **kwargs)[1]

    return gradient


def jvp(function: Function, inputs: Sequence[Tensor], tangents: Sequence[Tensor]) -> tuple[Any, Any]:
    """(outputs, J v): how the outputs move when the inputs move along `tangents`.

    The pullback u -> J^T u is linear in u; its own derivative with respect to u is J. So a second reverse
    walk gives forward-mode products, and no op needs a second rule.

    >>> import chainrule as cr
    >>> cr.jvp(lambda x: x * x, [cr.tensor([3.0])], [cr.tensor([1.0])])
    (tensor([9.]), tensor([6.]))
    """
    outer = graph.is_grad_enabled() and any(x.requires_grad for x in inputs)
    for x, tangent in zip(inputs, tangents, strict=False):
        _seed(x, tangent, "jvp")
    if len(inputs) != len(tangents):
        raise GradientError(
            f"{graph.who('jvp')}: there must be one tangent for each of the {len(inputs)} inputs, got {len(tangents)}. "
            f"Pass zeros for inputs that stand still."
        )
    outputs, pullback = vjp(function, *inputs, create_graph=True)
    several = isinstance(outputs, (tuple, list))
    flat = tuple(outputs) if several else (outputs,)
    _, push = vjp(pullback, *map(zeros_like, flat), create_graph=outer)
    moved = push(*tangents)
    plain = flat if outer else _without_history(flat)
    return (plain, moved) if several else (plain[0], moved[0])


def jacobian(function: Function, argnums: int = 0) -> Function:
    """dY/dX of a tensor-valued `function`, of shape Y.shape + X.shape, one output element at a time.

    >>> import chainrule as cr
    >>> cr.jacobian(lambda x: x * x)(cr.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    from chainrule.tensor.functions import stack

    @wraps(function)
    def rows(*args: Any, **kwargs: Any) -> Tensor:
        x = args[argnums]
        y, pullback = vjp(lambda t: function(*args[:argnums], t, *args[argnums + 1 :], **kwargs), x)
        if not y.numel():
            return zeros(*y.shape, *x.shape, dtype=y.dtype)
        units = (ones_like(y).reshape(-1)[i : i + 1]._pad((i,), (y.numel() - 1 - i,), (0,)) for i in range(y.numel()))
        return stack([pullback(unit.reshape(y.shape))[0] for unit in units]).reshape(*y.shape, *x.shape)

    return rows


def hessian(function: Function, argnums: int = 0) -> Function:
    """The matrix of second derivatives of a scalar `function`, of shape X.shape + X.shape.

    >>> import chainrule as cr
    >>> cr.hessian(lambda x: (x ** 3).sum())(cr.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacobian(grad(function, argnums), argnums)


def custom_vjp(forward: Function, backward: Function) -> Function:
    """A function with a derivative of your own: `backward(dY, Y, *inputs)` replaces the chain rule through `forward`.

    Args:
        forward: from tensors to one tensor.
        backward: from the output's gradient, the output and the inputs to one gradient for each input
            (a tensor for one input, else a tuple; None where there is none).

    >>> import chainrule as cr
    >>> clip_gradient = cr.custom_vjp(lambda x: x, lambda dY, Y, x: dY.clamp(-1, 1))
    >>> x = cr.tensor([1.0, 2.0], requires_grad=True)
    >>> (clip_gradient(x) * 5).sum().backward()
    >>> x.grad
    tensor([1., 1.])
    """

    def rule(dY: Tensor, Y: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        given = backward(dY, Y, *inputs)
        found = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        if len(found) != len(inputs):
            raise GradientError(
                f"{graph.who('custom_vjp')}: backward must return one gradient for each of the {len(inputs)} inputs, "
                f"got {len(found)}. Return None for inputs without one."
            )
        for position, (dX, x) in enumerate(zip(found, inputs, strict=True)):
            _check_custom(dX, x, position)
        return found

    @wraps(forward)
    def function(*inputs: Tensor) -> Tensor:
        with graph.grad_mode(False):
            output = forward(*inputs)
        return apply(ew.custom, output.detach(), *inputs, rule=rule)

    return function


def _check_custom(dX: object, x: Tensor, position: int) -> None:
    if dX is None:
        return
    if not isinstance(dX, Tensor) or dX.shape != x.shape or dX.dtype != x.dtype:
        came = str(lifted(dX).type) if isinstance(dX, Tensor) else type(dX).__name__
        raise GradientError(
            f"{graph.who('custom_vjp')}: backward must return a tensor of the type of input {position}, "
            f"{lifted(x).type}, got {came}. Reshape or convert it, or return None."
        )
