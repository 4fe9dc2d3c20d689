"""Reverse-mode differentiation: from a graph to a graph.

The walk visits each node once, after everything that reads it, multiplies the gradient that arrived by
the op's own derivative rule, and hands the products to its inputs. The rules are formulas over Tensors,
so the result is a graph like any other: printed, compiled, differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from chainrule import graph
from chainrule.autodiff.formulas import formula_of
from chainrule.autodiff.plain import Plain, array_of, plain
from chainrule.borrowed import borrowed
from chainrule.errors import DtypeError, GradientError, ShapeError
from chainrule.graph import Node
from chainrule.ops import elementwise as ew
from chainrule.several import RESULT, Several
from chainrule.tensor import Tensor, hooks
from chainrule.tensor.core import Engine, lifted, wrap
from chainrule.tensor.creation import filled, ones_like, zeros_like

# By node its gradient, as far as the walk has come; at a node of several results one by the position of each.
Arrived = dict[Node, Any]

# -- the walk ---------------------------------------------------------------------------------


def gradients(
    outputs: Sequence[Tensor],
    seeds: Sequence[Tensor],
    targets: Iterable[Node],
    create_graph: bool = False,
    order: Iterable[Node] | None = None,
) -> dict[Node, Tensor]:
    """The gradient of sum(<output, seed>) with respect to each target node it depends on.

    dL/dX = sum over the readers Y of X of (dL/dY)(dY/dX), Y being visited before X. `order` is the toposort of the
    outputs, where it is known.
    """
    wanted = set(targets)
    if order is None:
        order = graph.toposort(map(lifted, outputs))
    order = [node for node in order if node.requires_grad]
    for node in order:
        if node.op is graph.RELEASED:
            raise GradientError(
                f"backward: the history{node.whereabouts()} was freed by an earlier backward pass. "
                f"Call the first one with retain_graph=True, or run the forward pass again."
            )
    leading = _leading_to(wanted, order)
    arrived: Arrived = {}
    trace = graph.current_trace()
    handle = wrap if create_graph or graph.deferred() else plain
    hooked = hooks.any_registered()
    hooks.guarded()
    # By `try`, not `with`, at whose end a signal's handler may raise before anything was put back.
    local = graph._local
    outer = local.grad_enabled, local.aliasing, local.layer, local.line
    local.grad_enabled, local.aliasing = create_graph, False
    try:
        for output, seed in zip(outputs, seeds, strict=True):
            _accumulate(arrived, lifted(output), handle(lifted(seed)))
        for node in reversed(order):
            if node in arrived and node in leading:
                dY = arrived[node] if node in wanted else arrived.pop(node)
                if hooked and not isinstance(node, Several):
                    dY = _through_hooks(node, dY, handle)
                    if node in wanted:
                        arrived[node] = dY
                if trace is not None and not isinstance(node, Several):
                    trace.differentiated(node, dY._node)
                if handle is wrap or not _by_formula(node, dY, leading, arrived):
                    local.layer, local.line = node.layer, node.line
                    distribute(node, dY, leading, arrived, handle)
    finally:
        local.grad_enabled, local.aliasing, local.layer, local.line = outer
    return {node: arrived[node] for node in wanted if node in arrived}


def _through_hooks(node: Node, dY: Any, handle: Callable[[Node], Tensor]) -> Any:
    after = hooks.arriving(node, dY)
    return after if after is dY or handle is wrap else plain(lifted(after))


def _leading_to(wanted: set[Node], order: list[Node]) -> set[Node]:
    """The nodes whose gradient matters: some path leads from them to a wanted one."""
    leading: set[Node] = set()
    for node in order:
        if node in wanted or not leading.isdisjoint(node.inputs):
            leading.add(node)
    return leading


def reaching(outputs: Iterable[Node], targets: Sequence[Node]) -> list[frozenset[int]]:
    """For each output, the positions of the targets that a gradient of it would arrive at."""
    outputs = list(outputs)
    own = {node: 1 << position for position, node in enumerate(targets)}
    behind: dict[Node, int] = {}  # as bits
    for node in graph.toposort(outputs):
        found = own.get(node, 0) if node.requires_grad else 0
        if node.requires_grad and node.op is not ew.detach:
            for source in node.inputs:
                found |= behind[source]
        behind[node] = found
    return [frozenset(i for i in range(len(targets)) if behind[node] >> i & 1) for node in outputs]


def _by_formula(node: Node, dY: Any, leading: set[Node], arrived: Arrived) -> bool:
    """`distribute` on arrays, where the rules of such a node are known as a formula; was it done?"""
    kind, inputs = node.kind, node.inputs
    if kind is None:
        return False
    reaching = tuple([i for i, source in enumerate(inputs) if source in leading])  # those alone require grad
    formula = formula_of(node, kind, reaching) if reaching else None
    if formula is None:
        return False
    products = formula.products(node, dY._array if type(dY) is Plain else array_of(dY))
    for argument, array in zip(reaching, products, strict=True):
        source, product = inputs[argument], Plain(array)
        before = arrived.get(source)
        arrived[source] = product if before is None else before + product
    return True


def distribute(
    node: Node, dY: Any, leading: set[Node], arrived: Arrived, handle: Callable[[Node], Tensor] = wrap
) -> None:
    """One application of the chain rule: `node`'s gradient becomes contributions to its inputs."""
    op = node.op
    if op is ew.detach:
        return  # a leaf inside a trace
    reaching = [argument for argument, source in enumerate(node.inputs) if source.requires_grad and source in leading]
    if not reaching:
        return
    if op is RESULT:  # those of all results wait for each other: one rule serves them
        _accumulate(arrived.setdefault(node.inputs[0], {}), node.params["position"], dY)
        return
    joint = None if op.joint is None else _joint(node, dY, op.joint)
    if joint is None:
        Y, inputs = handle(node), [handle(source) for source in node.inputs]
    for argument in reaching:
        if joint is not None:
            product = joint[argument]
        else:
            rule = op.rule(argument)
            product = None if rule is None else rule(dY, Y, *inputs, **node.params)
        source = node.inputs[argument]
        # Broadcasting is undone here, once, for every rule. No rule: the derivative is zero where it exists.
        if product is None:
            if isinstance(node, Several):  # no result that a gradient arrived at depends on it
                continue
            product = zeros_like(handle(source))
        elif product.shape != source.shape:
            product = product.sum_to_size(source.shape)
        if handle is plain and type(product) is Tensor:
            product = plain(lifted(product))
        arrived[source] = arrived[source] + product if source in arrived else product


def _joint(node: Node, dY: Any, rule: graph.Rule) -> tuple[Tensor | None, ...]:
    """The products with respect to all inputs. The rule gets ordinary tensors: a user's own may do anything with them."""
    given, Y = _several(node, dY) if isinstance(node, Several) else (wrap(lifted(dY)), wrap(node))
    with graph.aliasing(True):  # the user's own formula may write to what it made
        found: tuple[Tensor | None, ...] = rule(given, Y, *map(wrap, node.inputs), **node.params)
        return found


def _several(node: Several, arrived: dict[int, Tensor]) -> tuple[tuple[Tensor | None, ...], tuple[Tensor, ...]]:
    """The gradients by result, None where none arrived, and the results, none where their values were not kept."""
    given = tuple([wrap(lifted(arrived[i])) if i in arrived else None for i in range(len(node.types))])
    return given, tuple(map(wrap, node.results()))


def _accumulate(arrived: dict[Any, Any], key: Node | int, contribution: Tensor) -> None:
    arrived[key] = arrived[key] + contribution if key in arrived else contribution


def _backward(
    output: Tensor, gradient: Tensor | None, retain_graph: bool, create_graph: bool, inputs: Sequence[Tensor] | None
) -> None:
    """`Tensor.backward`: accumulate into ``grad`` of every leaf."""
    if not output.requires_grad:
        raise GradientError(
            f"{graph.who('backward')}: this tensor does not require grad and has no history. "
            f"Compute it from a tensor with requires_grad=True, outside no_grad."
        )

    def take(owner: Tensor, found: Tensor) -> None:
        # By a handle of its own: one .grad changed in place changes no other.
        add_gradient(owner, renamed(found), create_graph)

    def walk() -> None:
        into_leaves(output, seed_of("backward", output, gradient), take, retain_graph, create_graph, inputs)

    tape = graph.waiting()
    plainly = (
        gradient is None and not retain_graph and not create_graph and inputs is None and not hooks.any_registered()
    )
    if tape is None or not plainly or not tape.backward(output, walk):
        walk()


def into_leaves(
    output: Tensor,
    seed: Tensor,
    take: Callable[[Tensor, Tensor], None],
    retain_graph: bool = False,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """`take(leaf, gradient)` for every leaf that a gradient of <output, seed> arrives at; then the history is freed, unless retained."""
    order = graph.toposort([lifted(output)])
    chosen = None if inputs is None else {lifted(x) for x in inputs}
    leaves = [
        node for node in order if node.owner is not None and node.requires_grad and (chosen is None or node in chosen)
    ]
    found = gradients([output], [seed], leaves, create_graph, order)
    graph.in_grad_mode(create_graph, _taken, leaves, found, take)
    tape = graph.waiting()
    if retain_graph and tape is not None:
        tape.mark("retained")
    if not retain_graph:
        release(order)


def _taken(leaves: Iterable[Node], found: Mapping[Node, Any], take: Callable[[Tensor, Tensor], None]) -> None:
    """Each leaf that is still somebody's takes its gradient."""
    for node in leaves:
        owner = node.owner() if node.owner is not None else None
        if owner is not None and node in found:
            take(owner, found[node])
            hooks.accumulated(owner)


def release(order: Iterable[Node]) -> None:
    """Free the history of these nodes; inside a trace it is the program's, and stays."""
    if not graph.tracing():
        for node in order:
            if node.inputs:
                node.release()


def add_gradient(owner: Tensor, new: Tensor, create_graph: bool) -> None:
    """Into the tensor that is there already, which somebody may hold, as PyTorch does; a recorded sum is another one."""
    before = owner.grad
    if before is None or create_graph:
        owner.grad = new if before is None else before + new
        return
    trace = graph.current_trace()
    if trace is not None:
        trace.touch_grad(owner, reading=True, assigned=True)
    before._rebind(before + new, "backward")


def renamed(tensor: Tensor) -> Tensor:
    """Another handle for the same node, which no compiled step may then overwrite."""
    if type(tensor) is Plain and tensor._made is None and not borrowed(tensor._array):
        return wrap(tensor._node)  # a leaf that nobody else knows
    node = lifted(tensor)
    if node._array is not None and borrowed(node._array):  # the caller's, who passed it as dY
        tensor = tensor.clone()
    node = lifted(tensor)
    node.seen = True
    return wrap(node)


def seed_of(name: str, output: Tensor, gradient: Tensor | None) -> Tensor:
    """What arrives at an output: 1, or what was given, if it is of its shape."""
    if gradient is None:
        if output.numel() != 1:
            raise GradientError(
                f"{graph.who(name)}: only a tensor with one element has an implied gradient of 1, got shape "
                f"{output.shape}. Reduce it first (.sum(), .mean()), or pass gradient=."
            )
        if graph.deferred():
            return wrap(graph.const(1, output.dtype)) if not output.ndim else ones_like(output)
        return wrap(graph.leaf(filled(output.shape, 1, output.dtype), output.dtype))
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
