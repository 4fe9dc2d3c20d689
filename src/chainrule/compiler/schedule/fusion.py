"""Fusion: where in a kernel that exists already a further node can be computed.

A newcomer fits a kernel if the kernel loops over the newcomer's elements, and what the newcomer reads of the
kernel's own results is exactly the element (or the row) at hand. Folds over the last axes and element by
element work over the same rows become one kernel that goes over the rows once: see `RowFolds`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chainrule.compiler.schedule.expression import Expression, expr
from chainrule.compiler.schedule.index import Expr, Var, linear, variables
from chainrule.compiler.schedule.kernels import Compute, Dot, Kernel, Load, Reduce, Result, RowFolds, Store, Value, walk
from chainrule.compiler.schedule.materialize import LARGEST
from chainrule.graph import INPUT, Node, Shape
from chainrule.ops import reduction
from chainrule.ops.shaping import ravel, unravel

SHORT = 16  # rows up to this long are folded side by side, whatever the order of their elements in memory

NARROW = 8  # columns of a product, below which a vector of them is mostly empty
NEAR = 1 << 15  # elements that the second-level cache holds beside a product's factors, with their moments
UPDATE = 3  # additions: less than that is done in the product in no time


@dataclass
class FusionGroup:
    """A kernel and the expression that further nodes may be added to (None: it takes none)."""

    number: int
    kernel: Kernel
    expression: Expression | None

    def made(self) -> set[Node]:
        """The nodes it computes."""
        return {store.node for store in self.kernel.stores}


@dataclass
class Newcomer:
    """A node that looks for a kernel: what it loops over, which of those axes it folds, and what it reads."""

    node: Node
    shape: Shape
    folds: Shape  # sizes of the last axes that it folds away; () for work element by element
    loads: list[Load]
    work: int  # that differs from element to element, in additions
    expression: Expression

    @classmethod
    def of(cls, node: Node, kept: set[Node]) -> Newcomer | None:
        """None for folds that are not over rows: over other axes than the last, or with nothing beside them."""
        expression = Expression(kept)
        folds: Shape = ()
        if node.op.kind != "reduction":
            shape, value = node.shape, expression.compute(node, variables(node.shape))
        else:
            (source,), count = node.inputs, len(node.params["dims"])
            shape, first = source.shape, len(source.shape) - count
            folds = _counted(shape[first:])
            if node.params["dims"] != tuple(range(first, len(shape))) or not folds or not _counted(shape[:first]):
                return None
            if node.op in (reduction.argmax, reduction.argmin) or not math.prod(shape):
                return None
            value = expression.value(source, variables(shape))
        parts = walk([value])
        work = sum([part.op.cost for part in parts if isinstance(part, Compute) and part.vars()])
        loads = [part for part in parts if isinstance(part, Load)]
        return cls(node, shape, folds, loads, work, expression)


def _counted(shape: Shape) -> Shape:
    """The sizes that a loop nest loops over."""
    return tuple(size for size in shape if size != 1)


def _sizes(loops: tuple[Var, ...]) -> Shape:
    return tuple(var.size for var in loops)


@dataclass
class FusionPoint:
    """Where in a kernel the newcomer goes: among the elements of its loops, or of the rows `dims` inside them."""

    dims: tuple[Var, ...] = ()
    exact: bool = True  # the kernel's loops are the newcomer's axes, one for one

    def rows(self, kernel: Kernel) -> tuple[Var, ...]:
        """The loops around each row."""
        return tuple(var for var in kernel.loops if var not in self.dims)

    def move_in(self, newcomer: Newcomer, group: FusionGroup) -> None:
        """Compute the newcomer there."""
        node, kernel, expression = newcomer.node, group.kernel, group.expression
        if expression is None:
            raise TypeError("a kernel without an expression takes no further nodes; this is a bug in chainrule")
        stages = to_rows(kernel, self.dims).stages if self.dims else []
        at = linear((*kernel.loops, *self.dims))
        index = tuple(map(expr, unravel(at, newcomer.shape)))
        result: Value
        if newcomer.folds:
            value = expression.value(node.inputs[0], index)
            stage = Reduce(node.op, self.dims, value, Result(node.dtype, len(stages)), along=True)
            stages.append(stage)
            at, result = linear(kernel.loops), stage.result
        else:
            result = expression.compute(node, index)
        expression.give(node, result, at)
        kernel.stores.append(Store(node, at, result))


def place_for(newcomer: Newcomer, group: FusionGroup) -> FusionPoint | None:
    """Where the newcomer can be computed in a kernel, if it can."""
    kernel, expression = group.kernel, group.expression
    if expression is None or len(expression.memo) > 2 * LARGEST:  # LLVM's time grows faster than a function does
        return None
    sizes = _counted(newcomer.shape)
    if not newcomer.folds and not _apart(newcomer, group):
        place = _among_elements(newcomer.shape, sizes, kernel)
        if place is not None and _reads_own(newcomer, group, math.prod(newcomer.shape)):
            return place
    count = len(newcomer.folds) if newcomer.folds else len(sizes) - len(kernel.loops)
    dims = _rows_of(kernel, sizes, count) if 0 < count < len(sizes) else ()
    if (
        not dims
        or not _reads_own(newcomer, group, math.prod(sizes[:-count]))
        or not _along(dims, newcomer.loads, kernel)
    ):
        return None
    return FusionPoint(dims)


def _apart(newcomer: Newcomer, group: FusionGroup) -> bool:
    """Is it an update of state by a product's elements that is faster in a loop of its own, behind the product?

    In the product it goes tile by tile: a few columns leave its vectors mostly empty, and large arrays are read in
    small pieces far apart, where a loop of its own lets the CPU fetch ahead (measured with Adam: 2 to 7 % of a step).
    """
    core, elements = group.kernel.core, math.prod(newcomer.shape)
    if not isinstance(core, Dot) or newcomer.work < UPDATE:
        return False
    narrow = core.m is not None and (core.n is None or core.n.size < NARROW)
    state = any(load.node.op is INPUT and math.prod(load.node.shape) == elements for load in newcomer.loads)
    return (narrow or elements > NEAR) and state


def _among_elements(shape: Shape, sizes: Shape, kernel: Kernel) -> FusionPoint | None:
    loops = _sizes(kernel.loops)
    if math.prod(loops) != math.prod(shape):
        return None
    if sizes == loops:
        return FusionPoint()
    # Another shape of as many elements, if the index arithmetic stays simple: one shape refines the other.
    return FusionPoint(exact=False) if kernel.core is not None and sizes[-1:] == loops[-1:] else None


def _reads_own(newcomer: Newcomer, group: FusionGroup, rows: int) -> bool:
    """Does it read of the kernel's results only its own element, or what there is one of for its row?"""
    index = variables(newcomer.shape)
    own = expr(ravel(index, newcomer.shape))
    elements, made = math.prod(newcomer.shape), group.made()
    for load in newcomer.loads:
        if load.node in made:
            size = math.prod(load.node.shape)
            want = own if size == elements else _first_of(newcomer.shape, index, rows) if size == rows else None
            if want is None or load.index != want or load.guards:
                return False
    return True


def _first_of(shape: Shape, index: tuple[Expr, ...], rows: int) -> Expr:
    """The number of the row that an element lies in, where `rows` of them make up the shape."""
    outer = 0
    while math.prod(shape[:outer]) != rows:
        outer += 1
    return expr(ravel(index[:outer], shape[:outer]))


def _rows_of(kernel: Kernel, sizes: Shape, count: int) -> tuple[Var, ...]:
    """The loops over a row, if the kernel is one, or can become one, that folds the last `count` of these axes."""
    core, loops = kernel.core, kernel.loops
    if core is None:
        return loops[-count:] if _sizes(loops) == sizes else ()
    if not isinstance(core, (RowFolds, Reduce)) or _sizes((*loops, *core.dims)) != sizes or len(core.dims) != count:
        return ()
    return core.dims if _folds_rows(core) else ()


def _folds_rows(core: RowFolds | Reduce) -> bool:
    """Is it a fold over each row, or may it become one? A long sum down columns has another order."""
    if isinstance(core, RowFolds):
        return True
    keeps_order = core.along or not core.ordered or core.elements <= SHORT
    return keeps_order and core.halved is None and core.op not in (reduction.argmax, reduction.argmin)


def once_a_row(newcomer: Newcomer, group: FusionGroup, loops: tuple[Var, ...]) -> bool:
    """Is it work element by element over just these loops, of which the newcomer reads what belongs to its row?"""
    kernel, rows = group.kernel, math.prod(_sizes(loops))
    return (
        group.expression is not None
        and kernel.core is None
        and kernel.loops == loops
        and _reads_own(newcomer, group, rows)
    )


def _along(dims: tuple[Var, ...], loads: list[Load], kernel: Kernel) -> bool:
    """Do rows lie in memory as they are folded? Short ones need not."""
    if math.prod(_sizes(dims)) <= SHORT:
        return True
    return all(load.index.coefficient(dims[-1]) in (0, 1) for load in [*loads, *kernel.loads()])


def to_rows(kernel: Kernel, dims: tuple[Var, ...]) -> RowFolds:
    """Make it a kernel over rows, if it is not one yet; gives its core."""
    if isinstance(kernel.core, RowFolds):
        return kernel.core
    if isinstance(kernel.core, Reduce):
        kernel.core.result.stage = 0
        core = RowFolds(dims, [kernel.core])
    else:
        kernel.loops, core = kernel.loops[: -len(dims)], RowFolds(dims, [])
    kernel.core = core
    return core


def gather(group: FusionGroup, other: FusionGroup) -> bool:
    """Move all of kernel `other` into the kernel of `group`, if both go over the same elements or rows."""
    kernel, absorbed = group.kernel, other.kernel
    if group.expression is None or other.expression is None:
        return False
    if absorbed.core is None:
        if kernel.loops != absorbed.loops:
            dims = absorbed.loops[len(kernel.loops) :]
            if not isinstance(kernel.core, (RowFolds, Reduce)) or (*kernel.loops, *kernel.core.dims) != absorbed.loops:
                return False
            if not dims or not _folds_rows(kernel.core) or not _along(dims, absorbed.loads(), kernel):
                return False
            to_rows(kernel, dims)
    elif not _gather_stages(kernel, absorbed):
        return False
    for store in absorbed.stores:
        group.expression.give(store.node, other.expression.results[store.node], store.index)
    kernel.stores += absorbed.stores
    absorbed.stores, other.expression = [], None  # nothing is left of it, and nothing more goes there
    return True


def _gather_stages(kernel: Kernel, absorbed: Kernel) -> bool:
    core, further = kernel.core, absorbed.core
    if not isinstance(core, (RowFolds, Reduce)) or not isinstance(further, (RowFolds, Reduce)):
        return False
    if kernel.loops != absorbed.loops or not kernel.loops or core.dims != further.dims:
        return False
    if not _rows_of(kernel, _sizes((*kernel.loops, *core.dims)), len(core.dims)):
        return False
    if not _rows_of(absorbed, _sizes((*kernel.loops, *core.dims)), len(core.dims)):
        return False
    if not _along(core.dims, absorbed.loads(), kernel):
        return False
    stages = to_rows(kernel, core.dims).stages
    for stage in to_rows(absorbed, core.dims).stages:
        stage.result.stage = len(stages)
        stages.append(stage)
    return True
