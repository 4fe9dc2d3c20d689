"""The verifier of the loop IR: what must hold of every decided nest, checked after each pass in tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations

from chainrule import dtypes
from chainrule.compiler.schedule.index import Expr, Var, atom_vars
from chainrule.compiler.schedule.kernels import (
    ROOM,
    Chain,
    Check,
    Dot,
    Kernel,
    Load,
    Reduce,
    Result,
    RowFolds,
    Store,
    Value,
    walk,
)
from chainrule.compiler.schedule.loops import (
    Accumulate,
    Alloc,
    Bind,
    Block,
    Combine,
    Contract,
    For,
    Let,
    Nest,
    Statement,
    Way,
    inside,
)
from chainrule.errors import VerifyError
from chainrule.graph import Node
from chainrule.ops import reduction

Around = tuple[Statement, ...]  # the loops and folds that a statement stands in, the outermost first


def verify(nest: Nest, kernel: Kernel, stage: str = "nest") -> None:
    """Raise `VerifyError` unless the nest computes all that the kernel does, each once, from what is there."""
    try:
        _stages(kernel)
        _Verifier(kernel).block(nest.body, ())
        _all_there(nest, kernel)
        _rooms_apart(nest)
    except _Fault as fault:
        raise VerifyError(f"{stage}: {fault}. This is a bug in chainrule.") from None


def verify_products(kernels: Sequence[Kernel], stage: str = "kernels") -> None:
    """Raise `VerifyError` unless all kernels together sum up the terms of each product that is stored as it is, each once."""
    found: Counter[Node] = Counter()
    for kernel in kernels:
        for loops, part in _parts(kernel):
            if isinstance(part.core, Dot):
                times = math.prod(var.size for var in {*loops, *part.loops}) * part.core.terms
                found.update({s.node: times for s in part.stores if s.value is part.core.result})
    for node, times in found.items():
        if node.op.kind == "contraction" and times != math.prod(node.shape) * node.inputs[0].shape[-1]:
            each = Fraction(times, math.prod(node.shape))
            raise VerifyError(
                f"{stage}: of each element of {node!r} {each} terms are summed, and it has {node.inputs[0].shape[-1]}. "
                "This is a bug in chainrule."
            )


def _parts(kernel: Kernel) -> Iterator[tuple[tuple[Var, ...], Kernel]]:
    """The kernels it goes through one after the other, and the loops around them."""
    if isinstance(kernel.core, Chain):
        yield from ((kernel.loops, part) for part in kernel.core.parts)
    else:
        yield (), kernel


class _Fault(Exception):
    """What is wrong, as the middle of a sentence."""


def _stages(kernel: Kernel) -> None:
    """Is each fold over a row named by its place? By their names the text tells them apart, and the text is the identity."""
    for _, part in _parts(kernel):
        if isinstance(part.core, RowFolds):
            names = [stage.result.stage for stage in part.core.stages]
            if names != list(range(len(names))):
                raise _Fault(f"the folds over a row are named {names}, not by their order")


class _Verifier:
    """Walks a nest in the order in which it runs."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.results: set[int] = set()  # that stand at this place
        self.rooms: set[Node] = set()
        self.filled: set[Node] = set()

    def block(self, block: Block, around: Around) -> None:
        before = set(self.results)
        for statement in block:
            self.statement(statement, around)
        self.results = before | (self.results if not around else set())

    def statement(self, statement: Statement, around: Around) -> None:
        if isinstance(statement, For):
            _loop(statement, around)
            self._bound(statement)
            self.block(statement.body, (*around, statement))
        elif isinstance(statement, Accumulate):
            self._accumulate(statement, around)
        elif isinstance(statement, Contract):
            self._contract(statement, around)
        elif isinstance(statement, Bind):
            _in_loops(statement.index.vars(), around, f"index {statement.var}")
        elif isinstance(statement, Alloc):
            self.rooms.add(statement.room)
        elif isinstance(statement, Combine):
            _combine(statement, around)
            self._readable(statement.core.value, around)
        elif isinstance(statement, Let):
            self._readable(statement.load or statement.value, around)
        else:
            self._store(statement, around)

    def _bound(self, loop: For) -> None:
        """A loop that runs through several goes through them in row-major order, which is how threads divide it."""
        index = {statement.var: statement.index for statement in loop.body if isinstance(statement, Bind)}
        place = Expr()
        for var in self.kernel.loops:
            place = place * var.size + index[var] if var in index else place
        if index and place != Expr({loop.var: 1}):
            raise _Fault(f"loop {loop.var} does not run through its loops in their order")

    def _readable(self, value: Value, around: Around) -> None:
        """It depends on no loop and on no result but those that it stands behind or in."""
        _in_loops(value.vars(), around, "a value")
        for part in walk([value]):
            if isinstance(part, Result) and id(part) not in self.results:
                raise _Fault(f"result {part.stage if part.stage is not None else ''} is read before it is there")
            if isinstance(part, Load):
                self._loadable(part)

    def _loadable(self, load: Load) -> None:
        if load.node.op is ROOM and load.node not in self.filled:
            raise _Fault("a room is read before anything was stored in it")
        if not load.guards:  # which say where it is not read
            _within(load.node, load.index, "read")

    def _accumulate(self, statement: Accumulate, around: Around) -> None:
        core = statement.core
        if not isinstance(core, Check) and not _carries(core.op, core.value.dtype, core.result.dtype):
            raise _Fault(f"{core.op.name} of {core.value.dtype.short} carries {core.result.dtype.short}")
        self.block(statement.body, (*around, statement))
        dims = set(self.kernel.loops if isinstance(core, Check) else core.dims)
        terms = [path for leaf, path in _leaves(statement.body) if isinstance(leaf, Combine) and leaf.core is core]
        _each_once(terms, dims, f"the terms of {_name(statement)}")
        cut = [loop for path in terms for loop in path if loop.by_leaf]
        if isinstance(core, Reduce) and core.halved is not None and len(cut) != len(terms):
            raise _Fault(f"{_name(statement)} is cut into leaves, but its loop over {core.halved} is not")
        self.results.add(id(core.result))

    def _contract(self, statement: Contract, around: Around) -> None:
        core = statement.core
        inside = (*around, statement)
        if core.carried is not None:
            _carries_on(statement, around)
        _in_loops(core.a.vars() | core.b.vars() - set(core.summed), inside, "a factor", set(core.summed))
        for factor in (core.a, core.b):
            self._loadable(factor)
        self.results.add(id(core.result))
        self.block(statement.body, inside)
        self.results.discard(id(core.result))  # a vector of it at a time

    def _fill(self, store: Store) -> None:
        if store.node not in self.rooms:
            raise _Fault("a value is stored where there is no room for it")
        self.filled.add(store.node)

    def _store(self, store: Store, around: Around) -> None:
        self._readable(store.value, around)
        _in_loops(store.index.vars(), around, "a store")
        _within(store.node, store.index, "stored")
        if store.node.op is ROOM:
            self._fill(store)  # each thread has rooms of its own
        elif any(isinstance(statement, Accumulate) for statement in around):
            raise _Fault("a store stands in a fold")
        for loop in around:
            if (
                isinstance(loop, For)
                and loop.in_register
                and store.combine is None
                and not store.index.coefficient(loop.var)
            ):
                raise _Fault(f"the lanes along {loop.var} write to the same element, or nobody knows where")
        shared = [var for loop in around if isinstance(loop, For) and loop.unit for var in _loops_of(loop)]
        if shared and store.node.op is not ROOM and not _apart(store, shared):
            raise _Fault(f"threads that share {', '.join(map(str, shared))} may write to the same element")


def _within(node: Node, index: Expr, done: str) -> None:
    """Does an index lead to elements that there are? Asked where its parts move by themselves: it comes to both its bounds."""
    moved = [var for atom in index.terms for var in atom_vars(atom)]
    if len(moved) != len(set(moved)) or not all(var.size for var in moved):
        return
    (low, high), size = index.bounds(), math.prod(node.shape)
    if low < 0 or high >= size:
        raise _Fault(f"elements {low} to {high} are {done} in {_place(node)} of {size}")


def _place(node: Node) -> str:
    return "a room" if node.op is ROOM else f"{node!r}"


def _carries_on(statement: Contract, around: Around) -> None:
    """Sums that are carried stand as they are where the next iteration looks for them, and no thread overtakes another."""
    core = statement.core
    if len(statement.body) != 1 or not isinstance(store := statement.body[0], Store) or store.value is not core.result:
        raise _Fault("sums that are carried are not stored as they are, once")
    if core.halved:
        raise _Fault("sums are carried on, but added up in halves")
    _in_loops(core.carried.vars() if core.carried else set(), around, "where sums begin")
    along = core.carried.vars() if core.carried is not None else set()
    for loop in (loop for loop in around if isinstance(loop, For) and loop.var in along):
        if loop.unit or loop.way is not Way.SERIAL or store.index.coefficient(loop.var) != 0:
            raise _Fault(f"sums are carried along {loop.var}, which does not go on one after the other")


def _rooms_apart(nest: Nest) -> None:
    """Do rooms in scratch memory overlap neither each other nor what products pack there?"""
    end = max((product.tiles.scratch for product in nest.products), default=0)
    rooms = [s for s in inside(nest.body) if isinstance(s, Alloc) and s.offset is not None]
    for alloc in sorted(rooms, key=lambda alloc: alloc.offset or 0):
        if (alloc.offset or 0) < end:
            raise _Fault(f"a room begins at byte {alloc.offset} of the scratch memory, which is taken up to {end}")
        end = alloc.end


def _loop(loop: For, around: Around) -> None:
    if loop.way is None:
        raise _Fault(f"the way of loop {loop.var} is not decided")
    outer = [other for other in around if isinstance(other, For)]
    if any(other.var == loop.var for other in outer):
        raise _Fault(f"loop {loop.var} stands in itself")
    if loop.in_register and any(other.in_register for other in outer):
        raise _Fault(f"loop {loop.var} is vectors inside vectors")
    if loop.way is Way.DEALT and (loop.lanes & loop.lanes - 1 or not any(isinstance(s, Accumulate) for s in around)):
        raise _Fault(f"loop {loop.var} deals its terms to {loop.lanes} sums")
    extent = loop.var.size * math.prod(var.size for var in loop.joined)
    if not 0 <= loop.begin <= loop.end <= extent:
        raise _Fault(f"loop {loop.var} runs from {loop.begin} to {loop.end} of {extent}")
    if loop.by_leaf:
        _by_leaf(loop, around)
    elif loop.way is not Way.UNROLLED and (loop.count > loop.lanes if loop.is_one_turn else loop.count % loop.lanes):
        raise _Fault(f"loop {loop.var} has {loop.count} iterations in turns of {loop.lanes}")
    if loop.unit and loop.unit != loop.lanes and not loop.is_one_turn:
        raise _Fault(f"threads share loop {loop.var} in units of {loop.unit}, its turns are {loop.lanes}")


def _by_leaf(loop: For, around: Around) -> None:
    """It goes over all rows, in the fold that is cut into leaves there."""
    folds = [other.core for other in around if isinstance(other, Accumulate) and isinstance(other.core, Reduce)]
    if not folds or folds[-1].halved != loop.var:
        raise _Fault(f"loop {loop.var} goes leaf by leaf, but no fold around it does")
    if loop.way not in (Way.SERIAL, Way.VECTOR) or loop.count != loop.var.size or loop.unit or loop.joined:
        raise _Fault(f"loop {loop.var} goes leaf by leaf, but not serially or by vectors over all rows")


def _loops_of(loop: For) -> list[Var]:
    """The loops that it runs through; itself, where it is one alone."""
    return [statement.var for statement in loop.body if isinstance(statement, Bind)] or [loop.var]


def _combine(statement: Combine, around: Around) -> None:
    folds = [other for other in around if isinstance(other, Accumulate)]
    if not folds or folds[-1].core is not statement.core:
        raise _Fault("a term stands outside of its fold")


def _carries(op: object, value: dtypes.DType, result: dtypes.DType) -> bool:
    """Is this the type of a fold over such values?"""
    if op in (reduction.argmax, reduction.argmin):
        return result == dtypes.int64
    return result == value or (op is reduction.sum and not value.is_floating_point and result == dtypes.int64)


def _name(statement: Accumulate) -> str:
    return "a check" if isinstance(statement.core, Check) else statement.core.op.name


def _in_loops(variables: set[Var], around: Around, what: str, more: set[Var] = frozenset()) -> None:  # type: ignore[assignment]
    """Every variable belongs to a loop around it."""
    known = set(more)
    for statement in around:
        if isinstance(statement, For):
            known |= {statement.var, *statement.joined}
            known |= {bind.var for bind in statement.body if isinstance(bind, Bind)}
        elif isinstance(statement, Contract):
            known |= statement.indices
    for var in variables - known:
        raise _Fault(f"{what} depends on {var}, outside of its loop")


def _apart(store: Store, shared: list[Var]) -> bool:
    """Does every step of the shared loops lead to elements that no other step comes to?"""
    terms = store.index.terms
    if any(not isinstance(atom, Var) for atom in terms) or any(var not in terms for var in shared):
        return False
    reach = 0
    for factor, var in sorted((abs(factor), atom) for atom, factor in terms.items()):
        if factor <= reach:
            return False
        reach += factor * (var.size - 1)  # type: ignore[union-attr]
    return True


# -- each iteration once ----------------------------------------------------------------------------

Path = tuple[For, ...]


def _leaves(block: Block, path: Path = ()) -> Iterator[tuple[Statement, Path]]:
    """Every statement that is no loop, and the loops it stands in."""
    for statement in block:
        if isinstance(statement, For):
            yield from _leaves(statement.body, (*path, statement))
        else:
            yield statement, path
            if isinstance(statement, Contract):
                own = (For(var, (), 0, var.size) for var in statement.indices)
                yield from _leaves(statement.body, (*path, *own))


def _each_once(paths: list[Path], loops: set[Var], what: str) -> None:
    """Do these paths together come once to every iteration of the loops?"""
    extents = {var: var.size for var in loops}
    boxes = []
    for path in paths:
        for loop in path:
            bound = [statement.var for statement in loop.body if isinstance(statement, Bind)]
            extents[loop.var] = loop.var.size * math.prod(var.size for var in loop.joined)
            for var in (*loop.joined, *bound):
                extents.pop(var, None)
        boxes.append({loop.var: (loop.begin, loop.end) for loop in path})
    if any(box.keys() != extents.keys() for box in boxes):
        raise _Fault(f"{what} are not inside just their loops")
    volume = sum(math.prod(end - begin for begin, end in box.values()) for box in boxes)
    apart = all(any(a[v][1] <= b[v][0] or b[v][1] <= a[v][0] for v in a) for a, b in combinations(boxes, 2))
    if volume != math.prod(extents.values()) or not (apart or len(boxes) < 2):
        raise _Fault(f"{what} are not come to once each")


def _all_there(nest: Nest, kernel: Kernel) -> None:
    """Is every store of the kernel done once at every iteration, and no other?"""
    if not math.prod(var.size for var in kernel.loops):
        return
    paths: dict[int, list[Path]] = {id(store): [] for store in kernel.stores}
    for leaf, path in _leaves(nest.body):
        if isinstance(leaf, Store) and leaf.node.op is not ROOM:
            if id(leaf) not in paths:
                raise _Fault(f"a store to {leaf.node!r} is not the kernel's")
            paths[id(leaf)].append(path)
    for store, loops in _stored(kernel):
        _each_once(paths[id(store)], loops, f"the elements of {store.node!r}")


def _stored(kernel: Kernel) -> Iterator[tuple[Store, set[Var]]]:
    """Its stores, each with the loops that it is done in."""
    if isinstance(kernel.core, Chain):
        inner = [found for part in kernel.core.parts for found in _stored(part) if found[0].node.op is not ROOM]
        if len(inner) != len(kernel.stores):
            raise _Fault("what the parts of a chain store is not what the kernel stores")
        yield from ((store, loops | set(kernel.loops)) for store, loops in inner)
        return
    for store in kernel.stores:
        loops = set(kernel.loops)
        if isinstance(kernel.core, RowFolds) and store.index.vars() & set(kernel.core.dims):
            loops |= set(kernel.core.dims)
        yield store, loops
