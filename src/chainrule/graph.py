"""The graph: what a network computes, as immutable typed nodes (printed and verified in `equations`).

One node is one op applied to the nodes it reads. An op of several results is one node too (see
`several`). Eager nodes carry their NumPy value, made at once;
traced nodes carry none and belong to the trace that made them. No walk in this file recurses: a chain
of 100,000 ops is an ordinary graph.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from chainrule.available import OF_A_TENSOR, SURE, check_room
from chainrule.dtypes import DType, as_stored, numbers_of
from chainrule.errors import (
    DtypeError,
    GradientError,
    NotEnoughMemoryError,
    ShapeError,
    TraceError,
)
from chainrule.lines import Line, at_user_line, user_line
from chainrule.quiet import here, in_the_middle, quietly
from chainrule.recorder import Recorder as Recorder
from chainrule.recorder import Tape as Tape

Shape = tuple[int, ...]
Array = np.ndarray[Any, Any]
Rule = Callable[..., Any]


class Type(NamedTuple):
    """What a node's value is: its shape and dtype."""

    shape: Shape
    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype.short}[{', '.join(map(str, self.shape))}]"


class Kind(Type):
    """The type of what one op makes of inputs of certain types, under certain params: the same object each time.

    Attributes:
        formulas: what `autodiff` made of the op's derivative rules for these, by the inputs that a gradient is wanted of.
    """

    formulas: dict[Any, Any] | None = None


@dataclass(frozen=True, eq=False)
class Op:
    """One operation, declared in one place: types, reference, derivative, lowering.

    ``infer(*inputs, **params)`` gives the output's `Type` and raises on inputs that do not fit;
    ``numpy(*arrays, **params)`` is the reference; ``vjp`` holds, for each input, a formula
    ``(dY, Y, *inputs, **params) -> dX`` over Tensors, or None where the derivative is zero
    everywhere it exists; a callable ``vjp(i)`` serves ops of any number of inputs. ``lower`` is
    read by the compiler according to ``kind``.

    An op of several results says so in ``infer``, which then gives a tuple of types; ``numpy`` gives as many arrays,
    ``lower`` (of an elementwise op) as many values. Its ``joint`` takes a tuple of gradients, None for each result that
    none arrived at, and a tuple of results; an input that it gives None for gets no gradient.
    """

    name: str
    kind: str  # source | elementwise | view | reduction | contraction | take | put | join | call | projection | region
    infer: Callable[..., Any]  # a Type, or a tuple of them
    numpy: Callable[..., Any]
    vjp: tuple[Rule | None, ...] | Callable[[int], Rule | None]
    lower: Any = None
    float_only: bool = False  # integers are cast to the default float first, as PyTorch does
    cost: int = 1  # relative work an element, for the fusion heuristics
    # Where the derivative at a kink lies between the slopes on its left (0) and right (1); None: anywhere there.
    at_kink: float | None = None
    # What `infer` said, by the types of the inputs and the params: an eager op asks it again and again.
    types: dict[Any, Kind] | None = field(default_factory=dict, repr=False)  # None: its params are another at each call
    joint: Rule | None = None  # instead of `vjp`: one formula (dY, Y, *inputs, **params) -> (dX, ...) for all inputs
    exact_number: bool = (
        False  # beside bfloat16 its second operand, a number written out, is not rounded (as in PyTorch)
    )
    # It hands elements on as they are, and so takes a dtype that only stores numbers (bfloat16). Every other op refuses it,
    # by its types: what calls it casts, see `tensor.rounding`.
    moves: bool = False

    def __post_init__(self) -> None:
        if not self.moves and self.kind != "source":
            object.__setattr__(self, "infer", _of_numbers(self.name, self.infer))

    def rule(self, argument: int) -> Rule | None:
        """The derivative with respect to one input; None where it is zero."""
        vjp = self.vjp
        if not isinstance(vjp, tuple):
            return vjp(argument)
        if argument >= len(vjp):
            raise GradientError(
                f"{who(self.name)}: no derivative is declared with respect to argument {argument}. "
                f"Detach that argument, or give the derivative with cr.custom_vjp."
            )
        return vjp[argument]

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class StoredOnlyError(DtypeError):
    """An op that computes was given, or asked for, a dtype that only stores numbers."""

    def __str__(self) -> str:  # which is mostly caught, and never read
        return f"{who(self.args[0])}: computes with numbers, which bfloat16 only stores. Convert with .float() first."


def _of_numbers(name: str, infer: Callable[..., Any]) -> Callable[..., Any]:
    """The type rule of an op that computes: as declared, of dtypes that one can compute with."""

    @wraps(infer)
    def checked(*inputs: Node, **params: Any) -> Any:
        given = [node.dtype for node in inputs]
        found = None if any(dtype.only_stores for dtype in given) else infer(*inputs, **params)
        made = [found] if isinstance(found, Type) else found or ()
        if found is None or any(type.dtype.only_stores for type in made):
            raise StoredOnlyError(name)
        return found

    return checked


_made = itertools.count(1)  # over all traces and threads: only which of two nodes is the later one counts


class Node:
    """One equation of the graph. Fields are set once; only `release` and the eager value's upkeep change one."""

    place: int
    __slots__ = (
        "__weakref__",
        "_array",
        "dtype",
        "entry",
        "inputs",
        "kind",
        "layer",
        "line",
        "made",
        "op",
        "owner",
        "params",
        "place",
        "requires_grad",
        "seen",
        "segment",
        "shape",
        "trace",
        "where",
    )

    def __init__(
        self,
        op: Op,
        inputs: tuple[Node, ...],
        params: dict[str, Any],
        type: tuple[Shape, DType],
        value: Array | None = None,
        requires_grad: bool = False,
        trace: Recorder | None = None,
        owner: weakref.ref[Any] | None = None,
    ) -> None:
        self.op, self.inputs, self.params = op, inputs, params
        self.shape, self.dtype = type
        self._array = value
        self.segment: Any = None  # where it waits to be computed, at `place` (`tape`)
        self.entry: Any = None  # how a tape that looked at it once lets it enter (`tape.path`)
        self.requires_grad = requires_grad
        self.trace = trace
        self.where: int | None = None  # its value's address, once a tape has asked for it
        self.kind: Kind | None = None  # of an eager node with a history
        self.owner = owner  # the leaf Tensor whose .grad receives this node's gradient
        self.seen = True  # someone may hold the value: a compiled step must not overwrite it in place
        self.made = 0 if trace is None else next(_made)  # in a trace: the order in which its nodes were made
        local = _local
        self.layer = local.layer
        self.line: Line | None = local.line

    @property
    def type(self) -> Type:
        return Type(self.shape, self.dtype)

    def stand_for(self, other: Node) -> None:
        """Come from the layer, the line and the moment that `other` comes from."""
        self.layer, self.line, self.made = other.layer, other.line, other.made

    @property
    def _value(self) -> Array | None:
        """The value without a word to compiled steps, None inside a trace; one that waits is computed now."""
        return self._array if self._array is not None or self.segment is None else self.segment.settle(self)

    @property
    def value(self) -> Array:
        """The eager value; from here on it may be shared, so no compiled step overwrites it."""
        if (value := self._value) is None:
            raise TraceError(
                f"{self.op.name}{self.whereabouts()}: a traced tensor has no value yet, but Python asked for one"
                f"{at_user_line()}. Inside {self.trace.name if self.trace is not None else Recorder.name} keep to tensor "
                f"operations (cr.where instead of `if`), or return the tensor and read it outside."
            )
        self.seen = True
        return value

    @property
    def is_leaf(self) -> bool:
        """True where history starts: a source, or (inside a trace) a value cut off from its history."""
        return not self.requires_grad or (not self.released and (not self.inputs or self.op.name == "detach"))

    @property
    def released(self) -> bool:
        return self.op is RELEASED

    def release(self) -> None:
        """Forget the history after a backward pass, as PyTorch frees its saved tensors."""
        if self.inputs:
            self.op, self.inputs, self.params = RELEASED, (), {}
            if self._array is not None:
                self.segment = None  # that it came from

    def whereabouts(self) -> str:
        """`` in layer 'Sequential.0' (train.py:12 in step)``, as far as known."""
        return (f" in layer '{self.layer}'" if self.layer else "") + (f" ({self.line})" if self.line else "")

    def __repr__(self) -> str:
        return f"<{self.op.name}: {self.type}>"


def _no_value(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("a source node's value is given, not computed")


def _given(name: str) -> Op:
    """A source whose type and value come with the node."""
    return Op(name, "source", infer=_no_value, numpy=_no_value, vjp=())


LEAF = _given("leaf")  # an eager value, or a constant array inside a trace
INPUT = _given("input")  # a value the compiled program receives at each call
RELEASED = _given("released")
# A Python number; folded into every expression that reads it.
CONST = Op("const", "source", infer=_no_value, numpy=lambda value, dtype: as_stored(value, dtype), vjp=())


# -- the state of this thread --------------------------------------------------------------


class _Local(threading.local):
    trace: Recorder | None = None
    tape: Any = None  # a Tape, where this thread's operations wait
    grad_enabled: bool = True
    line: Line | None = None

    aliasing: bool = True  # views follow the tensors they were taken from
    layer: str = ""  # the qualified name of the layer that is running


_local = _Local()


def deferred() -> bool:
    """Do operations give no value yet: inside a trace, or where they wait on a tape?"""
    return _local.trace is not None or waiting() is not None


def written() -> bool:
    """Must an operation be written down although its value is known: inside a trace, or in what a tape finds again as a whole?"""
    return _local.trace is not None or (_local.tape is not None and _local.tape.inside)


def waiting() -> Any:
    """The tape on which this thread's operations wait, or None: they are computed at once, or traced."""
    tape = _local.tape
    return tape.itself if tape is not None and _local.trace is None and not tape.rest else None


def tracing() -> bool:
    """Is a ``cr.compile`` function being traced on this thread?"""
    return _local.trace is not None


def unchecked(*what: Any) -> bool:
    """Inside a trace, where there are no values to look at: true, and the trace notes what was left unchecked."""
    trace = _local.trace
    if trace is None:
        return False
    trace.unchecked.append(what)
    return True


def current_trace() -> Recorder | None:
    return _local.trace


@contextmanager
def recording(trace: Recorder | None) -> Iterator[None]:
    """Make `trace` the one that new nodes belong to."""
    outer, _local.trace = _local.trace, trace
    try:
        yield
    finally:
        _local.trace = outer


def is_grad_enabled() -> bool:
    """True where operations record their history for backward (outside ``no_grad``)."""
    return _local.grad_enabled


def set_grad_mode(enabled: bool) -> bool:
    """Record history on this thread from here on (or do not); gives what was in force."""
    outer, _local.grad_enabled = _local.grad_enabled, enabled
    return outer


def in_grad_mode(enabled: bool, work: Callable[..., Any], *args: Any) -> Any:
    """What `work` gives for the arguments, with history recorded (or not) meanwhile.

    By `try`, not `with`, at whose end a signal's handler may raise before the mode is back.
    """
    outer, _local.grad_enabled = _local.grad_enabled, enabled
    try:
        return work(*args)
    finally:
        _local.grad_enabled = outer


class grad_mode:
    """Record history (or not) inside the block; what runs in every step does so by `in_grad_mode`."""

    __slots__ = ("_enabled", "_outer")

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        self._outer, _local.grad_enabled = _local.grad_enabled, self._enabled

    def __exit__(self, *error: object) -> None:
        _local.grad_enabled = self._outer


class aliasing:
    """Whether views made inside the block follow their tensors: formulas that write to nothing need not pay for that.

    A signal's handler that raises where such a block ends leaves it as it was inside; what runs in every step puts it back by
    `try` instead.
    """

    __slots__ = ("_enabled", "_outer")

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        self._outer, _local.aliasing = _local.aliasing, self._enabled

    def __exit__(self, *error: object) -> None:
        _local.aliasing = self._outer


@contextmanager
def provenance() -> Iterator[Callable[[Node], None]]:
    """Gives `stand_for(node)`: nodes made after it, inside the block, carry the layer and line of `node`."""
    layer, line = _local.layer, _local.line

    def stand_for(node: Node) -> None:
        _local.layer, _local.line = node.layer, node.line

    try:
        yield stand_for
    finally:
        _local.layer, _local.line = layer, line


def current_layer() -> str:
    """The qualified name of the layer that is running, or an empty string."""
    return _local.layer


def who(name: str) -> str:
    """The start of an error: the op, its layer and the user's line."""
    layer, line = current_layer(), _local.line or user_line()
    return name + (f" in layer '{layer}'" if layer else "") + (f" ({line})" if line else "")


def shape_error(name: str, must: str, came: str, remedy: str) -> ShapeError:
    return ShapeError(f"{who(name)}: {must}, got {came}. {remedy}")


# -- making nodes -------------------------------------------------------------------------


def leaf(value: Array, dtype: DType, requires_grad: bool = False, owner: weakref.ref[Any] | None = None) -> Node:
    """A node for a value that is simply there."""
    return Node(LEAF, (), {}, (value.shape, dtype), value, requires_grad, _local.trace, owner)


def const(value: float | int | bool, dtype: DType) -> Node:
    """A node for a Python number; outside traces one for all that are equal."""
    if _local.trace is not None:
        return _const(value, dtype)
    key = value or str(value), type(value), dtype  # 0.0 and -0.0 are equal
    found = _CONSTANTS.get(key)
    if found is None:
        if len(_CONSTANTS) >= _MANY:
            _CONSTANTS.clear()
        with provenance():
            _local.layer, _local.line = "", None
            found = _CONSTANTS[key] = _const(value, dtype)
    return found


_MANY = 4096  # of what is kept for its next use
_CONSTANTS: dict[Any, Node] = {}


def _const(value: float | int | bool, dtype: DType) -> Node:
    try:
        array = quietly(as_stored, value, dtype)
    except (OverflowError, ValueError, TypeError):
        array = _wrapped(value, dtype)
    number = numbers_of(array).item()
    return Node(CONST, (), {"value": number, "dtype": dtype}, Type((), dtype), value=array, trace=_local.trace)


def _wrapped(value: float | int | bool, dtype: DType) -> Array:
    """A number out of the dtype's range: integers wrap around, as in PyTorch."""
    array = np.asarray(value)
    if array.dtype.kind not in "bif":  # unsigned: beyond int64
        raise DtypeError(f"{who('const')}: the number {value} does not fit {dtype.name}. Use a float.")
    result: Array = quietly(array.astype, dtype.numpy)
    return result


def apply(op: Op, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node:
    """`op` on `inputs`, where no tape takes it: evaluated at once on NumPy, or recorded when a trace is on."""
    type = type_of(op, inputs, params)
    if _local.trace is not None:
        return _recorded(op, inputs, params, type, _local.trace)
    history, arrays = False, []
    for node in inputs:
        if node.requires_grad:
            history = True
        value = node._array
        node.seen = True
        arrays.append(node.value if value is None else value)
    value = evaluate(op, arrays, params, type)
    if not history or not _local.grad_enabled or not type[1].is_floating_point or op.name == "detach":
        return Node(LEAF, (), {}, type, value)  # nothing will ask where it came from
    made = Node(op, inputs, params, type, value, True)
    if type.__class__ is Kind:
        made.kind = type
    if made.line is None:
        made.line = user_line(3)  # neither this function nor who calls it is the user's
    return made


def _recorded(op: Op, inputs: tuple[Node, ...], params: dict[str, Any], type: Type, trace: Recorder) -> Node:
    """A node of a trace. (`detach` is recorded, and cuts the history all the same.)"""
    history = any(node.requires_grad for node in inputs) and op.name != "detach"
    history = history and _local.grad_enabled and type.dtype.is_floating_point
    made = Node(op, inputs, params, type, None, history, trace)
    if made.line is None:
        made.line = user_line(4)  # neither these two functions nor who calls them is the user's
    return made


def type_of(op: Op, inputs: tuple[Node, ...], params: dict[str, Any]) -> Type:
    """What `op` makes of these inputs; raises where they do not fit."""
    known = op.types
    if known is None:
        type: Type = op.infer(*inputs, **params)
        return type
    key: Any
    if len(inputs) == 1:
        only = inputs[0]
        key = (only.shape, only.dtype, *params.items()) if params else (only.shape, only.dtype)
    elif len(inputs) == 2:
        a, b = inputs
        key = (a.shape, a.dtype, b.shape, b.dtype)
        if params:
            key = (*key, *params.items())
    else:
        key = (*[node.shape for node in inputs], *[node.dtype for node in inputs], *params.items())
    found = known.get(key)
    if found is None:
        made: Type = op.infer(*inputs, **params)
        if _is_large(made.shape, made.dtype):  # not remembered: there must be room for each
            if op.kind != "view" and not tracing():
                check_size(op.name, made.shape, made.dtype)
            return made
        if len(known) >= _MANY:
            known.clear()
        found = known[key] = Kind(*made)
    return found


def check_size(name: str, shape: Shape, dtype: DType) -> None:
    """Raise where a tensor of this shape finds no room.

    Raises:
        NotEnoughMemoryError: it takes more bytes than are available.
    """
    if _is_large(shape, dtype):
        size = math.prod(shape) * dtype.numpy.itemsize
        check_room(size, lambda: f"{who(name)}: a tensor of shape {shape} and {dtype}", OF_A_TENSOR)


def _is_large(shape: Shape, dtype: DType) -> bool:
    return math.prod(shape) * dtype.numpy.itemsize > SURE


def evaluate(op: Op, arrays: Sequence[Array], params: dict[str, Any], type: Type) -> Array:
    """The NumPy reference of `op`, with its value in the declared dtype."""
    try:
        value = here.run(op.numpy, *arrays, **params)
    except RuntimeError as error:
        value = in_the_middle(error, op.numpy, *arrays, **params)
    except MemoryError:  # of a step on the way, or where nobody says how much there is
        raise NotEnoughMemoryError(
            f"{who(op.name)}: a tensor of shape {type.shape} and {type.dtype}, or what it is made by, finds no room in "
            f"memory. {OF_A_TENSOR}"
        ) from None
    wanted = type.dtype.numpy
    return value if value.__class__ is np.ndarray and value.dtype is wanted else np.asarray(value, wanted)


# -- graphs -------------------------------------------------------------------------------


def toposort(outputs: Iterable[Node]) -> list[Node]:
    """Every node the outputs depend on, each after the nodes it reads."""
    order: list[Node] = []
    done: set[Node] = set()
    outputs = list(outputs)
    for output in outputs:
        if output in done:
            continue
        done.add(output)
        stack = [(output, _sources(output))]
        while stack:
            node, sources = stack[-1]
            for source in sources:
                if source not in done:
                    done.add(source)
                    if source.inputs:
                        stack.append((source, _sources(source)))
                        break
                    order.append(source)
            else:
                order.append(node)
                stack.pop()
    return order


def _sources(node: Node) -> Iterator[Node]:
    segment = node.segment
    if segment is not None:  # what a tape recorded as a whole has its operations behind it from here on
        segment.write_out()
    return iter(node.inputs)


@dataclass(eq=False)
class Graph:
    """A closed computation: inputs in, outputs out, every equation between.

    Among the params of a node it is a region: what the node does again and again, or perhaps. It reads its own inputs and
    nothing else; a value from outside is an input of the node, which the node hands in.
    """

    inputs: list[Node]
    outputs: list[Node]
    names: dict[Node, str] = field(default_factory=dict)

    def nodes(self) -> list[Node]:
        return toposort(self.outputs)

    def __repr__(self) -> str:
        return f"<graph of {len(self.inputs)} inputs and {len(self.outputs)} outputs>"


def subgraphs(node: Node) -> list[Graph]:
    """The regions of a node."""
    return [value for value in node.params.values() if isinstance(value, Graph)]
