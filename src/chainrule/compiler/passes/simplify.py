"""Simplification: the same values from fewer equations.

One forward walk rebuilds the graph. Each node is first rewritten by the rules below, then shared with an
equal one if there is any (common subexpressions); what nothing reads is simply never reached (dead code).
Every rule keeps NaN, infinity and the sign of zero (a sum over one element is that element, even -0.0).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from chainrule import dtypes, graph
from chainrule.compiler.passes.convolution import (
    as_product,
    before_permuting,
    by_phases,
    lies_as_before,
    of_padded,
    of_part,
)
from chainrule.compiler.passes.regions import Trimmed, trimmed
from chainrule.control.loop import Form, scan_op
from chainrule.dtypes import as_stored, numbers_of
from chainrule.graph import CONST, INPUT, LEAF, Graph, Node, Op
from chainrule.ops import contraction, convolution, indexing, random, reduction, shaping
from chainrule.ops import elementwise as ew
from chainrule.several import RESULT, Several, single


def simplify(program: Graph) -> Graph:
    """The simplified graph, with the same inputs and as many outputs."""
    return simplified(program)[0]


def simplified(program: Graph) -> tuple[Graph, dict[Node, Node]]:
    """The simplified graph, and what each node of the old one became."""
    return _simplified(program, {})


def _simplified(program: Graph, given: dict[Node, Node]) -> tuple[Graph, dict[Node, Node]]:
    """The simplified graph, with other inputs in the place of those `given`, and what each node of the old one became."""
    nodes = graph.toposort([*program.inputs, *program.outputs])
    builder = Builder(nodes, program.outputs)
    builder.image.update(given)
    for node in nodes:
        builder.visit(node)
    outputs = [builder.image[node] for node in program.outputs]
    inputs = [found for node in program.inputs if (found := given.get(node, node)).op in (INPUT, LEAF)]
    return Graph(list(dict.fromkeys(inputs)), outputs, program.names), builder.image


class Builder:
    """The graph being rebuilt: images of old nodes, and the nodes that exist by what they compute."""

    def __init__(self, nodes: list[Node], outputs: list[Node]) -> None:
        self.image: dict[Node, Node] = {}
        self.shared: dict[Any, Node] = {}
        self.origin: Node | None = None
        reads = Counter(source for node in nodes for source in node.inputs)
        reads.update(outputs)
        self.read_once = {node for node, count in reads.items() if count == 1}
        self.used: dict[Node, set[int]] = {}  # which results of nodes with regions are read
        for node in nodes:
            if node.op is RESULT:
                self.used.setdefault(node.inputs[0], set()).add(node.params["position"])
        self.results: dict[Node, dict[int, Node]] = {}
        self.convolved: set[Node] = set()  # what convolutions gave, and what has its channels last as that has

    def visit(self, node: Node) -> None:
        if node in self.image:
            return
        if isinstance(node, Several):
            if node.op is scan_op:
                self.results[node] = self._loop(node)
            return  # each of its results is made by itself
        if node.op is RESULT and node.inputs[0] in self.results:
            self.image[node] = self.results[node.inputs[0]][node.params["position"]]
        elif node.op in (INPUT, LEAF):
            self.image[node] = node
        else:
            self._visit_equation(node)

    def _visit_equation(self, node: Node) -> None:
        self.origin = node
        if node.op is CONST:
            self.image[node] = self.const(node.params["value"], node.dtype)
        else:
            op, inputs, params = single(node)
            self.image[node] = self.make(op, tuple(self.image[source] for source in inputs), params)

    def _loop(self, node: Several) -> dict[int, Node]:
        """The results of a loop that are read: of one without what nobody asks for, and with a simplified region."""
        self.origin = node
        inputs, form, used = [self.image[x] for x in node.inputs], node.params["form"], self.used.get(node, set())
        if not form.length:
            return {i: self._of_no_step(node, inputs, i) for i in used}
        whole = trimmed(node.params["body"], form, used)
        results = {c: inputs[i] for c, i in whole.still.items()}
        outer = [inputs[i] for i in whole.inputs]
        given = self._given(whole, outer)
        body, _ = _simplified(whole.body, given)
        place = {given[inner]: image for inner, image in zip(whole.body.inputs, outer, strict=True)}
        form = whole.form._replace(slices=sum(given[x].op is INPUT for x in whole.form.parts(whole.body.inputs)[2]))
        rest = trimmed(body, form, range(len(body.outputs)))
        results.update({whole.outputs[c]: place[body.inputs[i]] for c, i in rest.still.items()})
        if rest.outputs:
            sources = tuple(place[x] for x in rest.body.inputs)
            params = {"body": rest.body, "form": rest.form}
            made = Several(scan_op, sources, params, scan_op.infer(*sources, **params))
            made.stand_for(node)
            results.update({whole.outputs[i]: made.result(new, None) for new, i in enumerate(rest.outputs)})
        return results

    def _given(self, loop: Trimmed, outer: list[Node]) -> dict[Node, Node]:
        """What stands for each input of a region: one input for equal consts; a number is written where it is read."""
        first, last = loop.form.consts(outer), loop.form.consts(outer) + loop.form.carries
        found: dict[Node, Node] = {}
        consts: dict[Node, Node] = {}
        for i, (inner, image) in enumerate(zip(loop.body.inputs, outer, strict=True)):
            number = image.inputs[0] if image.op is shaping.expand else image
            fresh = Node(INPUT, (), {}, inner.type)
            if number.op is CONST and not first <= i < last:
                fresh = _expanded(self, number, inner.shape)
            found[inner] = consts.setdefault(image, fresh) if i < first else fresh
        return found

    def _of_no_step(self, node: Several, inputs: list[Node], position: int) -> Node:
        form: Form = node.params["form"]
        if position < form.carries:
            return inputs[form.consts(inputs) + position]
        type = node.types[position]
        return _expanded(self, self.const(0, type.dtype), type.shape)

    def make(self, op: Op, inputs: tuple[Node, ...], params: dict[str, Any] | None = None) -> Node:
        """The node for `op` on `inputs`: rewritten, shared, or new."""
        params = params or {}
        simpler = rewrite(self, op, inputs, params)
        if simpler is not None:
            return simpler
        key = (op, inputs, tuple(params.items()))
        found = self.shared.get(key)
        if found is None:
            self.shared[key] = found = self._stamp(Node(op, inputs, params, op.infer(*inputs, **params)))
            if lies_as_before(op) and not self.convolved.isdisjoint(inputs):
                self.convolved.add(found)
        return found

    def const(self, value: Any, dtype: dtypes.DType) -> Node:
        key = (CONST, repr(value), dtype)
        if key not in self.shared:
            self.shared[key] = self._stamp(graph.const(value, dtype))
        return self.shared[key]

    def _stamp(self, node: Node) -> Node:
        if self.origin is not None:
            node.stand_for(self.origin)
        return node


def rewrite(b: Builder, op: Op, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    """A simpler node for the same value, or None."""
    if any(0 in node.shape for node in inputs) and op is not shaping.expand:
        nothing = _of_nothing(b, op, inputs, params)
        if nothing is not None:
            return nothing
    rule = RULES.get(op)
    found = rule(b, inputs, params) if rule is not None else None
    if found is not None or op.kind != "elementwise":
        return found
    if all(node.op is CONST for node in inputs) and op is not indexing.check_index and op not in _NATIVE:
        type = op.infer(*inputs, **params)
        value = graph.evaluate(op, [as_stored(n.params["value"], n.dtype) for n in inputs], params, type)
        return b.const(numbers_of(value).item(), type.dtype)
    return before_permuting(b.make, op, inputs, params, b.convolved) or _without_expand(b, op, inputs, params)


# Functions whose last bit NumPy may round otherwise than a kernel: of a number too they are the kernel's.
_FUNCTIONS = ew.pow, ew.exp, ew.expm1, ew.log, ew.log1p, ew.rsqrt, ew.sin, ew.cos, ew.tanh, ew.sigmoid, ew.erf, ew.erfc
_NATIVE = frozenset((*_FUNCTIONS, ew.mish))


def _of_nothing(b: Builder, op: Op, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    """What has no elements, and a sum of no terms, needs no loop: a number repeated as often as there is room."""
    shape, dtype = op.infer(*inputs, **params)
    if 0 in shape or op in (reduction.sum, contraction.matmul, convolution.conv):
        return _expanded(b, b.const(0, dtype), shape)
    return None


def _without_expand(b: Builder, op: Op, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    """An elementwise op broadcasts by itself: an expanded input need not be, if another sets the shape."""
    shape = op.infer(*inputs, **params).shape
    for position, node in enumerate(inputs):
        if node.op is shaping.expand:
            shorter = (*inputs[:position], node.inputs[0], *inputs[position + 1 :])
            if op.infer(*shorter, **params).shape == shape:
                return b.make(op, shorter, params)
    if len(inputs) == 1 and inputs[0].op is shaping.expand:  # compute first, repeat afterwards
        inner = b.make(op, inputs[0].inputs, params)
        return b.make(shaping.expand, (inner,), inputs[0].params)
    return None


# -- rules, by op ---------------------------------------------------------------------------------

Rewrite = Callable[[Builder, tuple[Node, ...], dict[str, Any]], "Node | None"]


def _is(node: Node, value: float) -> bool:
    """Is the node this number, perhaps expanded? (-0.0 is not 0.0.)"""
    while node.op in (shaping.expand, shaping.reshape):
        node = node.inputs[0]
    if node.op is not CONST:
        return False
    number = node.params["value"]
    return bool(number == value) and math.copysign(1, number) == math.copysign(1, value)


def _first(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node:
    return inputs[0]


def _expanded(b: Builder, node: Node, shape: graph.Shape) -> Node:
    return node if node.shape == shape else b.make(shaping.expand, (node,), {"shape": shape})


def _other(value: float, commutes: bool) -> Rewrite:
    """x op `value` is x (and `value` op x too, where the op commutes)."""

    def rule(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
        left, right = inputs
        shape = ew.broadcast_shapes("simplify", left.shape, right.shape)
        if _is(right, value):
            return _expanded(b, left, shape)
        if commutes and _is(left, value):
            return _expanded(b, right, shape)
        return None

    return rule


def _div(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    """Division by a power of two is an exact product."""
    if inputs[1].op is CONST:
        divisor = inputs[1].params["value"]
        if math.isfinite(divisor) and divisor and abs(math.frexp(divisor)[0]) == 0.5 and 1e-30 < abs(divisor) < 1e30:
            return b.make(ew.mul, (inputs[0], b.const(1 / divisor, inputs[1].dtype)))
    return None


def _neg(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    (x,) = inputs
    if x.op is ew.neg:
        return x.inputs[0]
    if x.op is ew.where and x.inputs[2].op is CONST:  # a gradient put in one place: the sign goes in with it
        hit, value, other = x.inputs
        return b.make(ew.where, (hit, b.make(ew.neg, (value,)), b.make(ew.neg, (other,))))
    return None


def _cast(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    return inputs[0] if inputs[0].dtype == params["dtype"] else None


def _reshape(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    (x,), shape = inputs, params["shape"]
    if x.shape == shape:
        return x
    if x.op is shaping.reshape:
        return b.make(shaping.reshape, x.inputs, params)
    if x.op is shaping.expand and not x.inputs[0].shape:  # one number everywhere
        return b.make(shaping.expand, x.inputs, params)
    return None


def _permute(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    (x,), dims = inputs, params["dims"]
    if dims == tuple(range(len(dims))):
        return x
    if x.op is shaping.permute:
        return b.make(shaping.permute, x.inputs, {"dims": tuple(x.params["dims"][axis] for axis in dims)})
    swapped = (*range(len(dims) - 2), len(dims) - 1, len(dims) - 2)
    # Of the product that the user's own permute is of, and not of its factors in turn: each has readers of its own.
    of = b.origin.inputs[0] if b.origin is not None and b.origin.op is shaping.permute else None
    once = of in b.read_once and b.image.get(of) is x
    if x.op is contraction.matmul and dims == swapped and once and _sums_alike(x):
        # (A B)^T = B^T A^T: written in the order it is read
        left, right = (_transposed(b, factor) for factor in x.inputs)
        return b.make(contraction.matmul, (right, left), x.params)
    return None


def _sums_alike(x: Node) -> bool:
    """Does the product of the transposed factors in turn add up its terms as this one does?"""
    (m, n), k = x.shape[-2:], x.inputs[0].shape[-1]
    return contraction.in_lanes(m, k) == contraction.in_lanes(n, k)


def _transposed(b: Builder, x: Node) -> Node:
    rank = len(x.shape)
    return b.make(shaping.permute, (x,), {"dims": (*range(rank - 2), rank - 1, rank - 2)})


def _expand(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    (x,) = inputs
    if x.shape == params["shape"]:
        return x
    return b.make(shaping.expand, x.inputs, params) if x.op is shaping.expand else None


def _sum(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    """A sum over axes of size 1 only moves elements."""
    (x,), dims = inputs, params["dims"]
    if all(x.shape[axis] == 1 for axis in dims) and x.dtype.is_floating_point:
        return b.make(shaping.reshape, (x,), {"shape": reduction.sum.infer(x, dims=dims).shape})
    if x.op is ew.where and len(dims) == 1:
        return _sum_of_one(b, x, dims[0])
    return None


def _sum_of_one(b: Builder, x: Node, axis: int) -> Node | None:
    """The sum over an axis along which just one place, that of a checked index, is not zero."""
    hit, value, other = x.inputs
    if not (_is(other, 0.0) or _is(other, -0.0)) or hit.op is not ew.eq or hit.shape != x.shape:
        return None
    count, index = hit.inputs
    spread = len(x.shape) - len(value.shape) <= axis and value.shape[axis - len(x.shape)] != 1
    if spread or not _counts(count, x.shape, axis) or not _inside(index, x.shape, axis):
        return None
    shape = tuple(1 if a == axis else size for a, size in enumerate(x.shape))
    single = _expanded(b, value, shape)
    kept = b.make(shaping.reshape, (single,), {"shape": reduction.sum.infer(x, dims=(axis,)).shape})
    return b.make(ew.add, (kept, b.const(0.0, kept.dtype)))  # a sum starts at 0.0, which -0.0 does not change


def _counts(count: Node, shape: graph.Shape, axis: int) -> bool:
    """Is it 0, 1, 2, ... along the axis, and the same along any other?"""
    along = tuple(size if a == axis else 1 for a, size in enumerate(shape))
    seen = count.shape
    source = count.inputs[0] if count.op is shaping.reshape else count
    return source.op is random.iota and (1,) * (len(shape) - len(seen)) + seen == along


def _inside(index: Node, shape: graph.Shape, axis: int) -> bool:
    """Is it a number along the axis, and just one for all places of it?"""
    if len(shape) - len(index.shape) <= axis and index.shape[axis - len(shape)] != 1:
        return False
    while index.op in (shaping.expand, shaping.reshape) or (index.op is ew.cast and index.dtype.itemsize >= 4):
        index = index.inputs[0]
    return index.op is indexing.check_index and index.params["size"] <= shape[axis]


def _put_add(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    """Adding into zeros where each row receives one element is a comparison: no scatter, and it fuses.

    put_add(0, s, i, idx)[r, c] = s[r] if c == idx[r] else 0, with i the row numbers.
    """
    base, source, *indices = inputs
    if not _is(base, 0.0) or not len(indices) == len(base.shape) == len(source.shape) or not indices:
        return None
    data = [axis for axis, index in enumerate(indices) if not _counts_rows(index, axis, base.shape)]
    if len(data) != 1 or any(size != 1 for size in _along(source.shape, data[0])):
        return None
    axis = data[0]
    index = _expanded(b, _checked(b, indices[axis], base.shape[axis]), source.shape)
    size = base.shape[axis]
    counts = dtypes.int32 if size < 1 << 31 else dtypes.int64  # 8 bits may not count that far, 64 take two registers
    index = b.make(ew.cast, (index,), {"dtype": counts})
    count = b.make(random.iota, (), {"size": size, "dtype": index.dtype})
    shape = tuple(size if a == axis else 1 for a in range(len(base.shape)))
    hit = b.make(ew.eq, (b.make(shaping.reshape, (count,), {"shape": shape}), index))
    return b.make(ew.where, (hit, source, b.const(0.0, base.dtype)))


def _checked(b: Builder, index: Node, size: int) -> Node:
    """The index counted from the start, behind a check that it lies inside its axis."""
    core = index
    while core.op in (shaping.expand, shaping.reshape):
        core = core.inputs[0]
    if core.op in (random.iota, indexing.check_index) and core.params["size"] <= size:
        return index
    if core.op is CONST and 0 <= core.params["value"] < size:
        return index
    return b.make(indexing.check_index, (index,), {"size": size, "least": -size})


def _check_indices(op: Op, first: int) -> Rewrite:
    """Every index that is data passes through `check_index`."""

    def rule(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
        shape = inputs[0].shape
        checked = tuple(_checked(b, index, shape[axis]) for axis, index in enumerate(inputs[first:]))
        return None if checked == inputs[first:] else b.make(op, (*inputs[:first], *checked), params)

    return rule


def _check_divisor(op: Op) -> Rewrite:
    """An integer that is data divides behind a check that it is not 0, as eager mode has it."""

    def rule(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
        dividend, divisor = inputs
        known = divisor.op is CONST and divisor.params["value"] != 0
        if divisor.dtype.is_floating_point or divisor.dtype is dtypes.bool_ or known or _is_checked(divisor):
            return None
        is_zero = b.make(ew.eq, (divisor, b.const(0, divisor.dtype)))
        place = b.make(
            ew.cast, (is_zero,), {"dtype": dtypes.int64}
        )  # the only place of an axis of 1, or the one behind it
        place = b.make(indexing.check_index, (place,), {"size": 1, "least": 0, "divisor": True})
        return b.make(
            op, (dividend, b.make(ew.add, (divisor, b.make(ew.cast, (place,), {"dtype": divisor.dtype})))), params
        )

    return rule


def _is_checked(divisor: Node) -> bool:
    place = divisor.inputs[1] if divisor.op is ew.add else divisor
    place = place.inputs[0] if place.op is ew.cast else place
    return place.op is indexing.check_index and bool(place.params.get("divisor"))


def _along(shape: graph.Shape, axis: int) -> tuple[int, ...]:
    return shape[axis : axis + 1]


def _counts_rows(index: Node, axis: int, shape: graph.Shape) -> bool:
    """Is the index tensor simply the position along its own axis, for every position?"""
    while index.op in (shaping.expand, shaping.reshape):
        if index.op is shaping.expand and index.inputs[0].shape != index.shape:
            return False
        index, seen = index.inputs[0], index.shape
        if index.op is random.iota:
            want = tuple(shape[axis] if a == axis else 1 for a in range(len(shape)))
            return index.params["size"] == shape[axis] and seen == want
    return index.op is random.iota and len(shape) == 1 and index.params["size"] == shape[axis]


def _conv(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node:
    product = by_phases(b.make, inputs, params) or as_product(b.make, inputs, params)
    b.convolved.add(product)
    return product


def _slice(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    """Of a convolution that nothing else reads, and of zeros around something."""
    (x,), origin = inputs, b.origin
    if origin is not None and origin.op is shaping.slice:
        (of,) = origin.inputs
        if of.op is convolution.conv and of in b.read_once and b.image[of] is x:
            given = tuple(b.image[source] for source in of.inputs)
            return of_part(b.make, given, of.params, params)
    return of_padded(b.make, x, params)


def _where(b: Builder, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    """Both choices are one."""
    condition, yes, no = inputs
    return yes if yes is no and ew.broadcast_shapes("where", condition.shape, yes.shape) == yes.shape else None


RULES: dict[Op, Rewrite] = {
    ew.alias: _first,
    ew.detach: _first,
    ew.custom: _first,
    ew.cast: _cast,
    ew.mul: _other(1.0, commutes=True),
    ew.div: lambda b, i, p: _other(1.0, commutes=False)(b, i, p) or _div(b, i, p),
    ew.sub: _other(0.0, commutes=False),
    ew.floor_divide: _check_divisor(ew.floor_divide),
    ew.remainder: _check_divisor(ew.remainder),
    ew.neg: _neg,
    ew.where: _where,
    convolution.conv: _conv,
    shaping.reshape: _reshape,
    shaping.slice: _slice,
    shaping.permute: _permute,
    shaping.expand: _expand,
    reduction.sum: _sum,
    indexing.take: _check_indices(indexing.take, 1),
    indexing.put: _check_indices(indexing.put, 2),
    indexing.put_add: lambda b, i, p: _put_add(b, i, p) or _check_indices(indexing.put_add, 2)(b, i, p),
}
