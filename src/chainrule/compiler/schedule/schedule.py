"""Scheduling: from a graph to kernels.

1. Choose the nodes that get a buffer (see `materialize`).
2. Give each such node a kernel, or let it join one that already loops over the same elements: so an activation
   follows its product, a whole optimizer update is one loop, and the folds of a softmax or a layer norm read
   each row once.
3. Order the kernels as the program made their values; drop the stores that nobody outside their kernel reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from chainrule.compiler.schedule.axes import Axes, among_rows, axes_of
from chainrule.compiler.schedule.dependency import Dependencies
from chainrule.compiler.schedule.expression import Expression, broadcast, expr, vars_of
from chainrule.compiler.schedule.fusion import FusionGroup, Newcomer, gather, once_a_row, place_for
from chainrule.compiler.schedule.index import Expr, Var, variables
from chainrule.compiler.schedule.kernels import Chain, Check, Compute, Dot, Kernel, Load, Reduce, Result, Store
from chainrule.compiler.schedule.materialize import choose
from chainrule.compiler.schedule.nesting import Elsewhere, Nested, blocks
from chainrule.compiler.schedule.products import dot
from chainrule.compiler.schedule.regions import Region, carriable, orientation, regions
from chainrule.compiler.schedule.serial import Schedule, Serial
from chainrule.graph import INPUT, LEAF, Graph, Node, toposort
from chainrule.ops import elementwise as ew
from chainrule.ops import indexing, reduction
from chainrule.ops.shaping import ravel
from chainrule.several import RESULT, Several

RECENT = 4  # how many of the latest readers of a row are asked to fold it along


def written_apart(graph: Graph) -> Graph:
    """The graph with a node of its own for each output: an input is copied, and what is returned twice."""
    outputs: dict[Node, None] = {}
    for node in graph.outputs:
        again = node in outputs or node.op in (INPUT, LEAF)
        outputs[copy_of(node) if again else node] = None
    return Graph(graph.inputs, list(outputs), graph.names)


def copy_of(node: Node) -> Node:
    """A node of its own for the same values."""
    copy = Node(ew.alias, (node,), {}, node.type)
    copy.stand_for(node)
    return copy


def schedule(graph: Graph, watched: bool = False) -> Schedule:
    """The kernels of a simplified graph; `watched` ones store every value that gets a buffer, read or not."""
    nodes = toposort(graph.outputs)
    found = [] if watched else regions(graph, nodes)  # what is not stored cannot be watched
    kept = choose(graph, nodes, set[Node]().union(*(region.inside for region in found)))
    builder = _Scheduler(graph, kept, found)
    for node in nodes:
        if node.op is indexing.check_index:
            builder.check(node)
        if isinstance(node, Several):
            builder.loop(node)
        elif node in kept and node.op not in (INPUT, LEAF, RESULT):
            builder.add(node)
    return Schedule(graph, builder.ordered(watched), builder.checks)


class _Scheduler:
    """The kernels made so far, and who depends on whom."""

    def __init__(self, graph: Graph, kept: set[Node], regions: Sequence[Region]) -> None:
        self.graph, self.kept = graph, kept
        self.nested = {node for region in regions for node in region.products}  # no kernel of their own
        self.nests: dict[Region, list[list[Nested]]] = {
            region: [] for region in regions
        }  # those of a list share the rows
        self.taken = {node: region for region in regions for node in region.takers}
        self.groups: list[FusionGroup] = []
        self.order = Dependencies()
        self.home: dict[Node, int] = {}  # the kernel that completes a kept node
        self.readers: dict[Node, list[int]] = {}
        self.results = {(n.inputs[0], n.params["position"]): n for n in kept if n.op is RESULT}
        self.checks: list[Node] = []
        self.checked: dict[Node, int] = {}

    # -- adding ---------------------------------------------------------------------------
    def add(self, node: Node) -> None:
        kind = node.op.kind
        if node in self.nested:
            return
        if node in self.taken:
            self._nest(node, self.taken[node])
        elif kind == "contraction":
            self._dot(node)
        elif kind == "join":
            self._cat(node)
        elif kind == "put":
            self._put(node)
        elif not self._join(node):
            self._reduce(node) if kind == "reduction" else self._loop(node)

    def _new(self, kernel: Kernel, completes: Node | None, source: Expression, joinable: bool = False) -> None:
        reads = kernel.reads()
        number = self.order.add(self._needed(reads, source))
        self.groups.append(FusionGroup(number, kernel, source if joinable else None))
        self._note(number, reads)
        if completes is not None:
            self.home[completes] = number
            kernel.layer, kernel.made = completes.layer, completes.made

    def _needed(self, reads: Iterable[Node], expression: Expression) -> list[int]:
        """The kernels that must come before one that reads these nodes."""
        needed = [self.home[node] for node in reads if node in self.home]
        return needed + [self.checked[node] for node in expression.checks]

    def _note(self, number: int, reads: Iterable[Node]) -> None:
        """Remember that the kernel reads these nodes."""
        for node in reads:
            readers = self.readers.setdefault(node, [])
            if number not in readers[-1:]:
                readers.append(number)

    def check(self, node: Node) -> None:
        """A kernel that stops the program at an index outside its axis."""
        code = len(self.checks)
        self.checks.append(node)
        loops = variables(node.shape)
        expression = Expression(self.kept)
        value = expression.value(node.inputs[0], loops)
        bounds = node.params["least"], node.params["size"]
        kernel = Kernel(vars_of(loops), [], Check(value, *bounds, code + 1), layer=node.layer, made=node.made)
        self._new(kernel, None, expression)
        self.checked[node] = len(self.groups) - 1

    def _loop(self, node: Node) -> None:
        index = variables(node.shape)
        expression = Expression(self.kept)
        value = expression.compute(node, index)
        store = Store(node, expr(ravel(index, node.shape)), value)
        expression.give(node, value, store.index)
        self._new(Kernel(vars_of(index), [store]), node, expression, joinable=True)

    def _reduce(self, node: Node) -> None:
        (source,), dims = node.inputs, node.params["dims"]
        outer = variables(node.shape)
        inner = variables(tuple(source.shape[axis] for axis in dims), len(vars_of(outer)))
        index, kept_axes, folded = [], iter(outer), iter(inner)
        for axis in range(len(source.shape)):
            index.append(next(folded) if axis in dims else next(kept_axes))
        expression = Expression(self.kept)
        last = max((axis for axis, size in enumerate(source.shape) if size != 1), default=0)
        value = expression.value(source, tuple(index))
        core = Reduce(node.op, vars_of(inner), value, Result(node.dtype), along=last in dims)
        if core.ordered and reduction.in_halves(source.shape, dims):
            core.halved = core.dims[0]
        self._with_core(node, outer, outer, core, core.result, expression)

    def _dot(self, node: Node) -> None:
        left, right = node.inputs
        axes = axes_of(node, self.kept) or Axes(node.shape[-2:-1], left.shape[-1:])
        loops = variables((*node.shape[:-2], *axes.rows, node.shape[-1]))
        *batch, column_at = loops[: len(node.shape) - 2] + loops[-1:]
        rows = loops[len(batch) : -1]
        row_at = expr(ravel(rows, axes.rows))
        summed = variables(axes.terms, len(loops))
        term = expr(ravel(summed, axes.terms))
        expression = Expression(self.kept)
        a = expression.value(left, (*broadcast((*batch, row_at), left.shape[:-1]), term))
        b = expression.value(right, (*broadcast(tuple(batch), right.shape[:-2]), term, column_at))
        if not isinstance(a, Load) or not isinstance(b, Load) or not (a.is_strided and b.is_strided):
            raise TypeError(f"the factors of {node!r} must be strided loads; this is a bug in chainrule")
        result = Result(node.dtype)
        index = (*batch, row_at, column_at)
        if node.dtype.is_floating_point:
            row, column = among_rows(vars_of(rows)), next(iter(vars_of((column_at,))), None)
            outside = Expression(self.kept)  # of the sum
            outside.checks = expression.checks
            terms = vars_of(summed) or (Var(len(loops), left.shape[-1]),)
            if column is None and (len(terms) == 1 or row is None or a.index.coefficient(row) == 1):
                row, column, a, b = column, row, b, a  # it is computed as a row, C^T = B^T A^T: vectors lie along it
            self._with_core(node, loops, index, dot(node, row, column, terms, a, b, result), result, outside)
        else:
            product = Compute(node.dtype, ew.mul, (a, b), {})
            core = Reduce(reduction.sum, vars_of(summed), product, result, along=True)
            self._with_core(node, loops, index, core, result, Expression(self.kept))

    def _with_core(
        self, node: Node, loops: tuple[Expr, ...], index: tuple[Expr, ...], core: Reduce | Dot, result: Result,
        expression: Expression,
    ) -> None:  # fmt: skip
        store = Store(node, expr(ravel(index, node.shape)), result)
        expression.give(node, result, store.index)
        self._new(Kernel(vars_of(loops), [store], core), node, expression, joinable=True)

    def _cat(self, node: Node) -> None:
        """One kernel for each part, each writing its own range of the buffer."""
        dim, start = node.params["dim"], 0
        for part in node.inputs:
            index = variables(part.shape)
            expression = Expression(self.kept)
            value = expression.value(part, index)
            at = tuple(i + start if axis == dim else i for axis, i in enumerate(index))
            self._more(node, Kernel(vars_of(index), [Store(node, expr(ravel(at, node.shape)), value)]), expression)
            start += part.shape[dim]

    def _put(self, node: Node) -> None:
        """The base is copied, then the source is written position by position."""
        base, source, *indices = node.inputs
        index = variables(node.shape)
        expression = Expression(self.kept)
        value = expression.value(base, index)
        self._more(node, Kernel(vars_of(index), [Store(node, expr(ravel(index, node.shape)), value)]), expression)
        index = variables(source.shape)
        expression = Expression(self.kept)
        value = expression.value(source, index)
        shape = ew.broadcast_shapes("index", *(i.shape for i in indices))
        at, rest = index[: len(shape)], index[len(shape) :]
        inner = tuple(expression.index_of(i, broadcast(at, i.shape), node.shape[a]) for a, i in enumerate(indices))
        store = Store(node, expr(ravel((*inner, *rest), node.shape)), value, combine=node.op)
        self._more(node, Kernel(vars_of(index), [store], first=(node,)), expression)

    def _more(self, node: Node, kernel: Kernel, expression: Expression) -> None:
        """One of several kernels that fill `node`'s buffer: it comes after those before it."""
        if node in self.home:
            kernel.first = (node,)
        self._new(kernel, node, expression)

    def loop(self, node: Several) -> None:
        """The first carries, each in the buffer that the steps go on with; then the steps."""
        body, form = written_apart(node.params["body"]), node.params["form"]
        inner, outer = form.parts(body.inputs), form.parts(node.inputs)
        results = [self.results.get((node, i)) or node.result(i, None) for i in range(len(body.outputs))]
        self.kept.update(results)
        for result, first in zip(results, outer[1], strict=False):
            index = variables(result.shape)
            expression = Expression(self.kept)
            store = Store(result, expr(ravel(index, result.shape)), expression.value(first, index))
            self._more(result, Kernel(vars_of(index), [store]), expression)
        count = form.carries
        kernel = Serial(
            (), [], first=(*outer[0], *results[:count], *outer[2]), layer=node.layer, body=schedule(body),
            steps=form.length, reverse=form.reverse, whole=list(zip(inner[0], outer[0], strict=True)),
            carries=list(zip(inner[1], body.outputs, results, strict=False)),
            slices=list(zip(inner[2], outer[2], strict=True)),
            stacks=list(zip(body.outputs[count:], results[count:], strict=True)),
        )  # fmt: skip
        self._take_checks(kernel.body)
        for result in results:
            kernel.writes(result)
        self._new(kernel, results[0], Expression(self.kept))
        self.home.update(dict.fromkeys(results, len(self.groups) - 1))

    def _take_checks(self, body: Schedule) -> None:
        """The checks of a region have codes behind those before them."""
        for kernel in body.all_kernels():
            if isinstance(kernel.core, Check):
                kernel.core.code += len(self.checks)
        self.checks += body.checks

    # -- nests of several cores -------------------------------------------------------------------
    def _nest(self, node: Node, region: Region) -> None:
        """What takes the values of a region, in a nest that has them already or in one of its own."""
        found = orientation(node, region)
        across, needed = found is not None and found.across, self._needed_in_nest(node)
        ways = [across, True] if carriable(node, region) else [across]
        nests = [nest for way in ways for nest in reversed(self.nests[region]) if nest[0].across == way]
        for nest in nests:
            if self._fits(needed, nest) and self._taken_in(node, nest):
                return
        across = ways[-1]
        parts = [Nested(region, self.kept, across, *block) for block in blocks(region.shape[-1 if across else -2])]
        for part in parts:
            part.number = self.order.add([part.number for part in parts if part.number >= 0])
            part.kernel.layer = node.layer
            self.groups.append(FusionGroup(part.number, part.kernel, None))
        self.nests[region].append(parts)
        if not self._taken_in(node, parts):
            raise TypeError(f"{node!r} finds no place in a nest of its own; this is a bug in chainrule")

    def _needed_in_nest(self, node: Node) -> dict[Node, int]:
        """What is complete before a nest computes this node, and the kernels that complete it."""
        found, seen, waiting = dict[Node, int](), set[Node](), list(node.inputs)
        while waiting:
            source = waiting.pop()
            if source in seen:
                continue
            seen.add(source)
            if source in self.checked:
                found[source] = self.checked[source]
            if source not in self.kept or source in self.nested:
                waiting += source.inputs
            elif source in self.home:
                found[source] = self.home[source]
        return found

    def _fits(self, needed: dict[Node, int], nest: Sequence[Nested]) -> bool:
        """Can the nest wait for all this? Its own folds over the row at hand are there."""
        own = {part.number for part in nest}
        for node, number in needed.items():
            if number in own and node.op.kind == "reduction":
                continue
            if number in own or any(self.order.after(number, other) for other in own):
                return False
        return True

    def _taken_in(self, node: Node, nest: Sequence[Nested]) -> bool:
        try:
            for part in nest:
                part.add(node)
        except Elsewhere:
            return False
        for part in nest:
            reads = part.kernel.reads()
            self.order.put(part.number, self._needed(reads, part.expression))
            self._note(part.number, reads)
            self.home[node] = part.number
        return True

    # -- fusion ---------------------------------------------------------------------------------
    def _join(self, node: Node) -> bool:
        """Compute `node` in a kernel that already loops over what it reads."""
        newcomer = Newcomer.of(node, self.kept)
        if newcomer is None:
            return False
        self._gather(newcomer)
        for number in self._candidates(newcomer):
            group = self.groups[number]
            place = place_for(newcomer, group)
            if place is not None and self._in_time(newcomer, number):
                place.move_in(newcomer, group)
                self._moved_in(newcomer, number)
                return True
        return False

    def _candidates(self, newcomer: Newcomer) -> list[int]:
        """Kernels that make what it reads, those with a core first; then those that read the same rows."""
        homes = {self.home[load.node] for load in newcomer.loads if load.node in self.home}

        def rank(number: int) -> tuple[bool, bool, int, int]:
            """Among equals the one that waits for most already: others might come to wait for nothing they need."""
            group = self.groups[number]
            return group.kernel.core is None, not self._lies_ready(group), -self.order.depth(number), -number

        numbers = sorted(homes, key=rank)
        if newcomer.folds:
            elements = math.prod(newcomer.shape)
            big = {load.node for load in newcomer.loads if math.prod(load.node.shape) == elements}
            beside = {number for node in big for number in self.readers.get(node, [])[-RECENT:]} - homes
            numbers += sorted(beside, reverse=True)
        return numbers

    def _lies_ready(self, group: FusionGroup) -> bool:
        """Does it make one product or sum and nothing else? Nobody waits for it yet but who reads that now.

        So a sum of products is built up from one to the next, and not in the first one when all are there.
        """
        return len(group.kernel.stores) == 1 and isinstance(group.kernel.stores[0].value, Result)

    def _in_time(self, newcomer: Newcomer, number: int) -> bool:
        """Is all that it reads from elsewhere complete before kernel `number`?"""
        made = self.groups[number].made()
        elsewhere = (load.node for load in newcomer.loads if load.node not in made)
        return not any(
            needed == number or self.order.after(needed, number)
            for needed in self._needed(elsewhere, newcomer.expression)
        )

    def _gather(self, newcomer: Newcomer) -> None:
        """One kernel for several that it reads element for element, as it reads both new moments."""
        homes = sorted({self.home[load.node] for load in newcomer.loads if load.node in self.home})
        places = {number: place_for(newcomer, self.groups[number]) for number in homes}
        alike = [number for number, place in places.items() if place is not None and place.exact]
        rows = next((place.rows(self.groups[n].kernel) for n, place in places.items() if place and place.dims), ())
        if rows:
            alike += [n for n in homes if n not in alike and once_a_row(newcomer, self.groups[n], rows)]
        for number in alike[1:]:
            first, other = self.groups[alike[0]], self.groups[number]
            if first.kernel.core is None and other.kernel.core is not None:
                first, other = other, first
            if not self._dependent(first.number, other.number) and gather(first, other):
                alike[0] = first.number
                self.order.merge(first.number, other.number)
                self.home.update(dict.fromkeys(first.made(), first.number))
                self._note(first.number, first.kernel.reads())

    def _dependent(self, a: int, b: int) -> bool:
        return self.order.after(a, b) or self.order.after(b, a)

    def _moved_in(self, newcomer: Newcomer, number: int) -> None:
        group, node = self.groups[number], newcomer.node
        self.home[node] = number
        group.kernel.layer = group.kernel.layer or node.layer
        reads = [load.node for load in newcomer.loads]
        self.order.put(number, self._needed(reads, newcomer.expression))
        self._note(number, reads)

    # -- order ------------------------------------------------------------------------------------
    def ordered(self, watched: bool = False) -> list[Kernel]:
        """The kernels, each after what it needs; stores only where someone else reads them."""
        kernels = [group.kernel for group in self.groups]
        outside: set[Node] = set(self.graph.outputs)
        for number, kernel in enumerate(kernels):
            outside.update(node for node in kernel.reads() if self.home.get(node) != number or node in kernel.first)
            if isinstance(kernel, Serial):
                outside.update(store.node for store in kernel.stores)
        for kernel in kernels:
            kernel.stores = [store for store in kernel.stores if watched or store.node in outside]
            if isinstance(kernel.core, Chain):
                kernel.core.keep(kernel.stores)
        result = [kernels[number] for number in self.order.linear([kernel.made for kernel in kernels])]
        result = [kernel for kernel in result if kernel.stores or isinstance(kernel.core, Check)]
        for number, kernel in enumerate(result):
            kernel.number = number
            kernel.settle()
        return result
