"""The handle: what a Tensor is before it has any methods.

A handle names a node. An in-place operation names another node by the same handle; no two handles share
memory (what a view owes to its root stands in `aliases.py`). That makes state visible to the compiler (a handle
that names a new node when the step ends) and every saved value safe from later writes.
"""

from __future__ import annotations

import operator
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from chainrule import dtypes, graph, several
from chainrule.borrowed import borrowed
from chainrule.dtypes import DType
from chainrule.errors import DtypeError, GradientError, IndexRangeError, InPlaceError, ShapeError, TraceError
from chainrule.graph import Array, Node, Op, Recorder, Shape, StoredOnlyError
from chainrule.ops import elementwise as ew
from chainrule.tensor.aliases import Family, Path, Pending, Shadow, Views
from chainrule.tensor.history import GradFn

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

Number = Union[int, float, bool]
Operand = Union["Tensor", Number, Array, np.generic]
Size = Union[int, Sequence[int]]  # ``f(2, 3)`` and ``f((2, 3))`` alike


class Engine:
    """What is needed below the class Tensor and stands above it; those modules fill it in when they are imported."""

    backward: Callable[..., None]
    tensor: type[Tensor]
    legacy: Callable[..., Node]
    write_through: Callable[[Tensor, Tensor, str], None]
    take_over: Callable[[Tensor, Tensor], None]
    uniform: Callable[..., Tensor]  # random.py's, whose generators keep their state in a Tensor
    normal: Callable[..., Tensor]


class Handle:
    """A name for a node: identity, type, value, gradient, rebinding."""

    __slots__ = ("__dict__", "__weakref__", "_families", "_grad", "_node", "_views")
    _unmade = False  # has it no value yet (a lazy layer's parameter)?
    __array_priority__ = 1000  # NumPy leaves `array + tensor` to us

    def __init__(self, node: Any = None, *sizes: int) -> None:
        self._node: Node = node if type(node) is Node else Engine.legacy(node, *sizes)
        self._grad: Tensor | None = None
        self._views: Views | None = None  # of which tensor it is a view
        self._families: tuple[weakref.ref[Family], ...] = ()  # what views it

    @property
    def _tensor(self) -> Tensor:
        """This handle as what it is: every handle is a Tensor, which the classes between cannot know."""
        return self  # type: ignore[return-value]

    # -- type ---------------------------------------------------------------------------
    @property
    def shape(self) -> Shape:
        """The size of every axis."""
        return self._node.shape

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self._node.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._node.shape)

    @property
    def requires_grad(self) -> bool:
        """Whether backward computes a gradient for (or through) this tensor."""
        if graph._local.trace is not None:
            return lifted(self).requires_grad  # a tensor from outside: a program made for this answer must look again
        return self._node.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """True where the history starts: made by the user, or outside the recorded operations."""
        return self._node.is_leaf

    @property
    def grad_fn(self) -> GradFn | None:
        """The operation that this is the result of, if a gradient can go through it; None of a leaf."""
        node = lifted(self)
        return GradFn(node) if node.requires_grad and not node.is_leaf else None

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Record operations on this leaf from now on (or stop to), so that backward fills its ``grad``."""
        node = lifted(self)
        if requires_grad == node.requires_grad:
            return self._tensor
        if not node.is_leaf:
            raise GradientError(
                f"requires_grad_({requires_grad}): only a leaf can change it, got the result of an operation"
                f"{node.whereabouts()}. Use .detach() for a copy without history."
            )
        if requires_grad and not node.dtype.is_floating_point:
            raise DtypeError(
                f"requires_grad_: only floating-point tensors have gradients, got {node.dtype.name}. "
                f"Convert it with .float() first."
            )
        if self._views is not None and (self._views.grad or not self._views.own):
            self._views = Views(self._views.family, self._views.path, grad=False, own=True)
        self._name(as_leaf(node, self if requires_grad else None))
        return self._tensor

    # -- gradient -----------------------------------------------------------------------
    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward accumulated, or None."""
        trace = graph.current_trace()
        if trace is not None:
            trace.touch_grad(self, reading=True)
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and (value.shape != self.shape or value.dtype != self.dtype):
            raise ShapeError(
                f"grad: must have the tensor's own type {self._node.type}, got {value._node.type}. "
                f"Reshape or convert it, or assign None to clear it."
            )
        local = graph._local
        if local.trace is not None:
            local.trace.touch_grad(self, reading=False, assigned=value is not None)
        elif local.tape is not None and local.tape.results:
            local.tape.renamed.append((weakref.ref(self), "_grad", self._grad))
        self._grad = value

    # -- value --------------------------------------------------------------------------
    def numpy(self, *, force: bool = False) -> Array:
        """The value as a read-only NumPy array, without a copy (PyTorch's is writable and shared)."""
        if self.requires_grad and not force:
            raise GradientError(
                "numpy(): this tensor requires grad, and NumPy would lose its history. Use t.detach().numpy()."
            )
        if self.dtype.only_stores:
            raise DtypeError(f"numpy(): NumPy has no {self.dtype.name}. Use t.float().numpy().")
        return read_only(settled(self).value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        value = self.numpy()
        if copy is False and dtype not in (None, value.dtype):
            raise ValueError(
                f"__array__: {value.dtype} becomes {np.dtype(dtype)} only in a copy. Allow one (copy=None)."
            )
        return np.array(value, dtype=dtype) if copy or dtype not in (None, value.dtype) else value

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        """The values for another library (``torch.from_dlpack(x)``, ``torch.tensor(x)``): a copy, as what is in a tensor does not change.

        Raises:
            BufferError: no copy was allowed.
        """
        if copy is False:
            raise BufferError("__dlpack__: a tensor is given in a copy, which is writable. Allow one (copy=None).")
        asked = {
            "stream": stream,
            "max_version": max_version,
            "dl_device": dl_device,
        }  # NumPy 1.26 knows the first alone
        return np.array(self.numpy()).__dlpack__(**{name: value for name, value in asked.items() if value is not None})

    def __dlpack_device__(self) -> tuple[int, int]:
        """The CPU, as DLPack counts devices."""
        return 1, 0

    def item(self) -> Number:
        """The value of a one-element tensor as a Python number.

        Raises:
            ShapeError: it has several elements, or none.
            TraceError: inside ``cr.compile``, where it has no value yet.

        >>> import chainrule as cr
        >>> cr.tensor([2.5]).item()
        2.5
        """
        value = dtypes.numbers_of(settled(self).value)
        if value.size != 1:
            raise ShapeError(
                f"{graph.who('item')}: only a tensor with one element is a Python number, got shape {self.shape}. "
                f"Use .tolist(), or reduce it first."
            )
        result: Number = value.item()
        return result

    def tolist(self) -> Any:
        """The value as nested Python lists."""
        return dtypes.numbers_of(settled(self).value).tolist()

    # -- in place -----------------------------------------------------------------------
    def _rebind(self, new: Tensor, name: str, fresh: bool = False) -> Tensor:
        """Name `new`'s node from now on, in this handle's dtype; the one road of every in-place operation.

        Args:
            fresh: was it made for this, so that nobody else knows its node?
        """
        old = lifted(self)
        leaf = old.requires_grad and old.is_leaf
        if leaf and graph.is_grad_enabled():
            raise InPlaceError(
                f"{graph.who(name)}: an in-place write to a leaf that requires grad would lose its gradient. "
                f"Do it under `with cr.no_grad():`, or compute a new tensor out of place."
            )
        if new.shape != old.shape:
            raise ShapeError(
                f"{graph.who(name)}: an in-place result must keep the shape {old.shape}, got {new.shape}. "
                f"Use the out-of-place form."
            )
        if new.dtype.category > old.dtype.category:
            raise DtypeError(
                f"{graph.who(name)}: the result has dtype {new.dtype.name}, which {old.dtype.name} cannot hold. "
                f"Convert the tensor first, or use the out-of-place form."
            )
        new = new if new.dtype is old.dtype else apply(ew.cast, new, dtype=old.dtype)
        if not graph.is_grad_enabled() and old.requires_grad and not leaf and self._views is None:
            new = straight_through(new, self)
        node = lifted(new)
        if node._array is not None and borrowed(node._array):
            new = apply(ew.alias, new)
            node = new._node
        node.seen = True  # two handles name it now, so no compiled step may overwrite its value
        if self._views is not None:
            Engine.write_through(self._tensor, new, name)
        else:
            self._name(as_leaf(node, _owner(old, self), fresh) if leaf else node)
        return self._tensor

    def _name(self, node: Node) -> None:
        """Name another node; whatever views this handle follows."""
        tape = graph._local.tape
        if tape is not None and tape.results:
            tape.renamed.append((weakref.ref(self), "_node", self._node))
        self._node = node
        if self._families:
            self._moved()

    def _shares(self) -> bool:
        """Does it look at the elements of another tensor, or another at its?"""
        return self._views is not None or any(reference() is not None for reference in self._families)

    def _moved(self) -> None:
        families = [family for reference in self._families if (family := reference()) is not None]
        if not families:
            self._families = ()
        for family in families:
            family.moved()


def _owner(leaf: Node, handle: Handle) -> Handle:
    """Who receives the gradient: the handle, but for one that only keeps what views of another look at."""
    owner: Handle | None = leaf.owner() if leaf.owner is not None else None
    return handle if owner is None else owner


def straight_through(value: Tensor, x: Handle) -> Tensor:
    """`value` with the history of `x`: an unrecorded write has no part in the derivative."""
    with graph.grad_mode(True):
        return apply(ew.custom, value.detach(), x, rule=lambda dY, Y, x: (dY,))


def read_only(value: Array) -> Array:
    """A view that refuses writes: values are immutable."""
    view: Array = value.view()
    view.flags.writeable = False
    return view


def stored(handle: Handle) -> Array:
    """The value as it lies in memory, read-only: of bfloat16 its words, which only their dtype tells the meaning of."""
    return read_only(settled(handle).value)


def numbers(handle: Handle) -> Array:
    """The value as NumPy's numbers, read-only: those of bfloat16 as float32, which has all of them."""
    return read_only(dtypes.numbers_of(settled(handle).value))


def as_leaf(node: Node, owner: Handle | None, fresh: bool = False) -> Node:
    """The same value without history; with an owner, a leaf whose gradient the owner receives.

    Args:
        fresh: does nobody else know the node, so that it may itself become that?
    """
    reference = weakref.ref(owner) if owner is not None else None
    if graph.tracing():
        return Node(
            ew.detach, (node,), {}, node.type, requires_grad=owner is not None, trace=graph.current_trace(),
            owner=reference,
        )  # fmt: skip
    tape = graph._local.tape
    if tape is not None and node._array is None:
        leaf: Node = tape.leaf(node, owner, fresh)
        return leaf
    return graph.leaf(node.value, node.dtype, requires_grad=owner is not None, owner=reference)


def current(handle: Handle) -> Node:
    """The handle's node, with its value where it has one."""
    node = handle._node
    return node.settle() if type(node) is Pending else node


def settled(handle: Handle) -> Node:
    """The handle's node, for its value: what a tape records as a whole meanwhile depends on that, too."""
    tape = graph._local.tape
    if tape is not None and tape.inside:
        tape.itself.looked = True
    return at_rest(handle)


def at_rest(handle: Handle) -> Node:
    """The handle's node; where another thread is tracing with it (a first compiled step), once that is done."""
    node = current(handle)
    while (trace := node.trace) is not None and trace.thread != threading.get_ident():
        over = trace.ended.is_set()
        trace.wait()
        node = current(handle)  # which another trace may have by now
        if over and node.trace is trace:  # nobody puts it back: it was kept from inside
            break
    return node


def lifted(handle: Handle) -> Node:
    """The handle's node, as the current trace sees it: a value from outside becomes one of its inputs."""
    node, trace = handle._node, graph._local.trace
    if node.trace is trace:
        return node
    views = handle._views
    if views is not None and _follows(node, views, trace):
        return Pending.derive(handle)
    if trace is not None:
        found: Node = trace.lift(handle)
        return found
    node = at_rest(handle)
    if node.trace is None:
        return node
    raise TraceError(
        f"a tensor from inside a {node.trace.name} function ({node.op.name}{node.whereabouts()}) was used after tracing ended. "
        f"Return it from the function, or store it in a tensor that exists outside."
    )


def _follows(node: Node, views: Views, trace: Recorder | None) -> bool:
    """Must a view be derived: anew, or from what the trace names? (Leaves that require grad are inputs of a trace.)"""
    pending = type(node) is Pending
    if trace is None or not (views.own and node.requires_grad):
        return pending or trace is not None
    return isinstance(node, Pending) and node.history is not None and node.history.trace is trace


def wrap(node: Node) -> Tensor:
    """A new handle for a node."""
    return Engine.tensor(node)


def apply(op: Op, *tensors: Handle, **params: Any) -> Tensor:
    """One primitive on tensors of its dtypes: every operation of chainrule ends here."""
    if op.float_only and not tensors[0]._node.dtype.is_floating_point:
        tensors = tuple(apply(ew.cast, tensor, dtype=dtypes.float32) for tensor in tensors)
    local = graph._local
    trace, tape = local.trace, local.tape
    nodes = tuple([node if (node := tensor._node).trace is trace else lifted(tensor) for tensor in tensors])
    try:
        if tape is not None and trace is None:
            waits = tape.record(op, nodes, params)
            if waits is not None:
                return Engine.tensor(waits)
        made = Engine.tensor(graph.apply(op, nodes, params))
    except StoredOnlyError:
        return rounded(apply(op, *computable(op, tensors), **params))
    if trace is not None:
        trace.made(made)
    return made


def apply_several(op: Op, *tensors: Handle, **params: Any) -> tuple[Tensor, ...]:
    """As `apply`, for an op of several results."""
    try:
        return tuple(map(wrap, several.apply_several(op, tuple(map(lifted, tensors)), params)))
    except StoredOnlyError:
        pass
    return tuple(map(rounded, apply_several(op, *computable(op, tensors), **params)))


def computable(op: Op, tensors: Sequence[Handle]) -> list[Handle]:
    """What an op that computes takes where bfloat16 was given: the same numbers as float32.

    Raises:
        DtypeError: beside bfloat16 stands a tensor of another floating dtype (which a number written out has not).
    """
    floating = {t.dtype for t in tensors if t.dtype.is_floating_point and t._node.op is not graph.CONST}
    if floating != {dtypes.bfloat16}:
        if len(floating) < 2:
            raise StoredOnlyError(op.name)
        came = " and ".join(t.dtype.name for t in tensors)
        raise DtypeError(
            f"{graph.who(op.name)}: the operands must have one dtype, got {came}. Convert them with .to(dtype)."
        )
    return [apply(ew.cast, t, dtype=dtypes.float32) if t.dtype.only_stores else t for t in tensors]


def rounded(result: Tensor) -> Tensor:
    """A result that was computed for bfloat16."""
    return apply(ew.cast, result, dtype=dtypes.bfloat16) if result.dtype is dtypes.float32 else result


def view(op: Op, tensor: Handle, **params: Any) -> Tensor:
    """A primitive whose result PyTorch would let share memory with its input."""
    before = tensor._node
    return view_of(apply(op, tensor, **params), tensor, ((op, params),), before)


def view_of(result: Tensor, tensor: Handle, ops: Path, before: Node) -> Tensor:
    """`result`, which `ops` made of what `tensor` named before, as a view of it."""
    if graph._local.aliasing:
        views = viewed(tensor, ops)
        result._views = views
        views.family.add(result)
        if tensor._node is not before and not graph.tracing():  # another thread wrote to it
            result._node = Pending(result)
    return result


def same_view(tensor: Handle) -> Tensor:
    """Another handle for the same elements: what a view is that changes neither shape nor order."""
    if not graph._local.aliasing:
        return tensor._tensor
    node = lifted(tensor)
    if node.requires_grad and (node.is_leaf or not graph.is_grad_enabled()):
        return view(ew.alias, tensor)
    return view_of(wrap(node), tensor, (), node)


def viewed(tensor: Handle, ops: Path) -> Views:
    """How a view that `ops` make of `tensor` is made from the root of its family."""
    views, grad = tensor._views, graph.is_grad_enabled()
    if views is None or views.own:
        return Views(_unrecorded(tensor) if not grad else family_of(tensor), ops, grad)
    grad = grad and views.grad
    return Views(_unrecorded(views.family.root) if views.grad and not grad else views.family, (*views.path, *ops), grad)


def _unrecorded(root: Handle) -> Family:
    """The views of a tensor that need no history of its."""
    return shadow_of(root) if has_history(root) else family_of(root)


def has_history(handle: Handle) -> bool:
    """Does an operation that requires grad lie behind it?"""
    return handle._node.requires_grad and not handle._node.is_leaf


def family_of(root: Handle) -> Family:
    """The views of a tensor."""
    for reference in root._families:
        family = reference()
        if type(family) is Family:
            return family
    return _joined(root, Family(root))


def shadow_of(root: Handle) -> Family:
    """The detached views of a tensor with history (in a trace, which ends soon, like any others)."""
    if graph.tracing():
        return family_of(root)
    for reference in root._families:
        family = reference()
        if type(family) is Shadow:
            return family
    value = at_rest(root)
    shadow = Shadow(wrap(as_leaf(value, None)), root)
    shadow.root._families = (weakref.ref(shadow),)
    return _joined(root, shadow)


def _joined(root: Handle, family: Family) -> Family:
    root._families = (*(ref for ref in root._families if ref() is not None), weakref.ref(family))
    return family


def scalar(value: Number, dtype: DType) -> Tensor:
    """A Python number as a tensor without axes."""
    return wrap(graph.const(value, dtype))


def integer(value: object, name: str, what: str) -> int:
    """An argument that counts: an int, a NumPy integer, or an integer tensor of one element."""
    if type(value) is int:
        return value
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        with suppress(TypeError, ShapeError):  # several, or floats
            return operator.index(value)
    raise DtypeError(f"{graph.who(name)}: {what} must be an integer, got {value!r}. Use int(...).")


def number(value: object, name: str, what: str) -> float | int:
    """An argument that measures: any real number of Python or NumPy, or a tensor or array of one."""
    if type(value) is float or type(value) is int:
        return value
    if isinstance(value, (Handle, np.ndarray)) and not value.ndim:
        value = value.item()
    if isinstance(value, Real) and not isinstance(value, (bool, np.bool_)):
        return int(value) if isinstance(value, Integral) else float(value)
    raise DtypeError(f"{graph.who(name)}: {what} must be a number, got {value!r}. Use float(...).")


def sizes(shape: tuple[Any, ...], named: Size | None = None) -> Shape:
    """``f(2, 3)``, ``f((2, 3))`` and, by its keyword, ``f(shape=(2, 3))`` alike."""
    if named is not None:
        shape = (named,) if hasattr(named, "__index__") else tuple(named)
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    try:
        return tuple(map(operator.index, shape))
    except TypeError as error:
        came = ", ".join(map(repr, shape))
        raise DtypeError(f"{graph.who('size')}: sizes and axes must be integers, got {came}. Use int(...).") from error


def axes(name: str, dim: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """`dim` as sorted non-negative axes; None is all of them."""
    if dim is None:
        return tuple(range(ndim))
    if type(dim) is int:
        return (axis(name, dim, ndim),)
    given: tuple[Any, ...] = (dim,) if hasattr(dim, "__index__") else tuple(dim)
    result = tuple(sorted(axis(name, d, ndim) for d in given))
    if len(set(result)) != len(result):
        raise ShapeError(f"{graph.who(name)}: each axis may stand once in dim, got {dim}. Remove the repetition.")
    return result


def axis(name: str, dim: int, ndim: int) -> int:
    """`dim` as a non-negative axis."""
    dim = dim if type(dim) is int else integer(dim, name, "dim")
    limit = max(ndim, 1)
    if not -limit <= dim < limit:
        raise IndexRangeError(
            f"{graph.who(name)}: dim must be in [{-limit}, {limit - 1}] for a tensor with {ndim} axes, got {dim}. "
            f"Check the shape."
        )
    return dim % limit
