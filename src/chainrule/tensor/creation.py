"""Tensors from data, from a constant, from counting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.borrowed import lend
from chainrule.devices import on_cpu
from chainrule.dtypes import DType
from chainrule.errors import DataError, DtypeError, ShapeError, kind_of
from chainrule.graph import Array, Shape
from chainrule.names import takes_keywords
from chainrule.ops import random
from chainrule.ops import shaping as shaping_ops
from chainrule.tensor.core import Handle, Number, apply, integer, number, scalar, sizes, wrap
from chainrule.tensor.memory import copied
from chainrule.tensor.ranges import check_fits

if TYPE_CHECKING:
    from chainrule.tensor import Tensor


@takes_keywords("torch")
def tensor(data: Any, dtype: object = None, requires_grad: bool = False, *, device: object = None) -> Tensor:
    """A new tensor holding a copy of `data`.

    Args:
        data: a number, nested sequences of numbers, a NumPy array, or a tensor.
        dtype: default: of the data; Python floats become float32, Python ints int64.
        requires_grad: record operations on it, so that backward fills its ``grad``.
        device: the CPU, like that of every function which makes tensors.

    Raises:
        DtypeError: the data are not numbers (text, objects, ragged lists).
        SettingError: another device.

    >>> import chainrule as cr
    >>> cr.tensor([[1, 2], [3, 4.5]])
    tensor([[1.0000, 2.0000],
            [3.0000, 4.5000]])
    """
    on_cpu(device)
    same = dtypes.same(data.dtype) if dtype is None and type(data) is np.ndarray else None
    array, wanted = _as_array(data, dtype) if same is None else (data, same)
    if isinstance(data, (np.ndarray, Handle)) or not array.flags.c_contiguous:
        array = copied(array, wanted.numpy)
    result = wrap(graph.leaf(array, wanted))
    return result.requires_grad_() if requires_grad else result


def in_bfloat16(data: Any) -> bool:
    """Is it a tensor or array of bfloat16: one of ours, of PyTorch's, or of the package ml_dtypes'?"""
    kind = getattr(data, "dtype", None)
    if isinstance(kind, (DType, np.dtype)):
        return kind is dtypes.bfloat16 or dtypes.is_bfloat16(kind)
    return kind is not None and str(kind) == "torch.bfloat16"


def readable(data: Any) -> Any:
    """What NumPy can read: of bfloat16, which it has not, the same numbers as float32; everything else as it is."""
    if not in_bfloat16(data):
        return data
    if isinstance(data, Handle):
        return dtypes.numbers_of(data._node.value)
    if isinstance(data, (np.ndarray, np.generic)):
        return dtypes.widened(np.asarray(data))
    return data.detach().float().numpy()


def _as_array(data: Any, dtype: object) -> tuple[Array, DType]:
    if isinstance(data, Handle):
        dtype, data = data.dtype if dtype is None else dtype, dtypes.numbers_of(data._node.value)
    elif in_bfloat16(data):
        dtype, data = dtype or dtypes.bfloat16, readable(data)
    elif hasattr(data, "__array__") and not isinstance(data, (np.ndarray, np.generic)):
        data = np.asarray(data)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise DtypeError(
            f"{graph.who('tensor')}: nested sequences must have equal lengths ({error}). Pad them first."
        ) from error
    if dtypes.is_bfloat16(array.dtype):  # that of ml_dtypes, of what gives such an array
        dtype, array = dtype or dtypes.bfloat16, dtypes.widened(array)
    numbers = isinstance(data, (np.ndarray, np.generic))
    if array.dtype.kind not in "biuf" or (array.dtype == np.uint64 and not numbers):  # Python's integers beyond int64
        raise DtypeError(
            f"{graph.who('tensor')}: the data must be numbers that fit one of chainrule's dtypes, got {array.dtype} from "
            f"{type(data).__name__}. Convert text or objects to numbers first."
        )
    if dtype is not None:
        wanted = dtypes.as_dtype(dtype)
    elif numbers or array.dtype.kind == "b":
        wanted = dtypes.as_dtype(array.dtype)
    else:
        wanted = dtypes.promote(_kinds(data)) if array.size else dtypes.float32
    if dtype is not None and wanted.is_integer and not numbers and not isinstance(data, np.ndarray):
        check_fits(array, wanted, "tensor")
    with np.errstate(all="ignore"):
        if wanted.only_stores:
            return dtypes.narrowed(array.astype(np.float32, order="C")), wanted
        return array.astype(wanted.numpy, order="C", copy=False), wanted


def _kinds(data: Any) -> set[DType]:
    """The dtypes that stand in nested sequences: those of arrays, tensors and NumPy's scalars, Python's own for numbers."""
    if isinstance(data, (list, tuple)):
        types = set(map(type, data))
        if types <= {bool, int, float}:
            return set(map(dtypes.as_dtype, types))
        return {dtype for item in data for dtype in _kinds(item)}
    return {data.dtype if isinstance(data, Handle) else dtypes.as_dtype(getattr(data, "dtype", type(data)))}


def given(value: object, name: str, what: str = "input") -> Tensor:
    """What a function takes as a tensor: a tensor as it is, an array or numbers as a tensor of their dtype.

    The one door: whatever else comes is refused alike everywhere.
    """
    if isinstance(value, Handle):
        return value._tensor
    if isinstance(value, (np.ndarray, np.generic, bool, int, float, list, tuple)):
        if isinstance(value, tuple) and _are_several(value):
            raise DtypeError(
                f"{graph.who(name)}: {what} must be one tensor, got a tuple of {', '.join(map(kind_of, value))}. Take one of them: "
                f"nn.LSTM, nn.GRU and nn.RNN give (output, state)."
            )
        return tensor(value)
    raise DtypeError(
        f"{graph.who(name)}: {what} must be a tensor, an array or numbers, got {kind_of(value)}. "
        f"Convert it with cr.tensor(...)."
    )


def _are_several(values: tuple[Any, ...]) -> bool:
    """Are these tensors that no one tensor holds, as what a recurrent layer gives?"""
    shapes = [getattr(value, "shape", None) for value in values]
    return any(isinstance(value, Handle) for value in values) and shapes.count(shapes[0]) < len(shapes)


@takes_keywords("torch")
def as_tensor(data: Any, dtype: object = None, device: object = None) -> Tensor:
    """`data` itself where it is a tensor of that dtype, else a new tensor with a copy.

    Where we deviate from PyTorch: an array is copied, too; `from_numpy` shares its memory.

    >>> import chainrule as cr
    >>> x = cr.zeros(2)
    >>> cr.as_tensor(x) is x, cr.as_tensor([1, 2])
    (True, tensor([1, 2]))
    """
    if isinstance(data, Handle):
        return data._tensor.to(dtype, device=device)
    return tensor(data, dtype, device=device)


def from_stored(array: Array) -> Tensor:
    """A tensor with a copy of what `stored` gave, or a file has: an array of numbers, or of the words of bfloat16."""
    if array.dtype == dtypes.bfloat16.numpy:
        return wrap(graph.leaf(array.copy(), dtypes.bfloat16))
    return tensor(array)


def saved_value(value: Any) -> Tensor | None:
    """A value of a state_dict as a tensor; None where it holds no numbers."""
    if isinstance(value, Handle):
        return value._tensor
    try:
        return tensor(value if in_bfloat16(value) else np.asarray(value))
    except (TypeError, ValueError):
        return None


@takes_keywords("torch")
def from_numpy(array: Array) -> Tensor:
    """A tensor in the memory of `array`, without a copy: what is written to the array is seen by the tensor.

    So it is by its views, and by compiled functions at their next call, which read a row-major array where it lies
    and copy any other at every call. A clone, and whatever copies in PyTorch, does not see it. Values that a graph
    keeps for its backward pass are not protected: write to the array after ``backward()``, not before.

    The other way round nothing is written: an in-place operation gives a tensor memory of its own, as everywhere
    here, and leaves the array as it was (in PyTorch it writes to the array). So a read-only array is as good as any.
    Inside a compiled function the array is copied when it is traced, like every other constant.

    Args:
        array: any shape and strides, of one of chainrule's dtypes but bfloat16, which NumPy has not.

    Raises:
        TypeError: not an array.
        DtypeError: a dtype, a byte order or an alignment that cannot be shared.

    >>> import numpy as np
    >>> import chainrule as cr
    >>> a = np.array([1.0, 2.0])
    >>> x = cr.from_numpy(a)
    >>> a[0] = 5
    >>> x
    tensor([5., 2.], dtype=chainrule.float64)
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"{graph.who('from_numpy')}: must be a NumPy array, got {type(array).__name__}. Use cr.tensor(data)."
        )
    wanted = dtypes.as_dtype(array.dtype)
    if array.dtype != wanted.numpy or not array.flags.aligned:
        came = str(array.dtype) if array.flags.aligned else f"unaligned {array.dtype}"
        raise DtypeError(
            f"{graph.who('from_numpy')}: can share the memory of aligned arrays in one of chainrule's dtypes and this "
            f"machine's byte order, got {came}. Use cr.tensor(array), which copies."
        )
    return tensor(array) if graph.tracing() else wrap(graph.leaf(lend(array), wanted))


@takes_keywords("torch")
def from_dlpack(ext_tensor: Any, *, device: object = None, copy: bool | None = None) -> Tensor:
    """A tensor in the memory of another library's tensor or array, handed over by DLPack; else as `from_numpy`.

    Args:
        ext_tensor: what has ``__dlpack__``: a tensor of PyTorch's or JAX's on the CPU, an array of NumPy's.
        device: the CPU.
        copy: True for memory of its own.

    Raises:
        DataError: it does not hand over what NumPy can read: it has no ``__dlpack__``, is on another device, requires a
            gradient, or is of a dtype that NumPy has not.
        DtypeError: a dtype that cannot be shared.

    >>> import numpy as np
    >>> import chainrule as cr
    >>> cr.from_dlpack(np.arange(3))
    tensor([0, 1, 2])
    """
    on_cpu(device)
    try:
        array = np.from_dlpack(ext_tensor)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(
            f"{graph.who('from_dlpack')}: needs values on the CPU that are handed over by DLPack, got {kind_of(ext_tensor)} ({error}). "
            f"Use cr.tensor(data), which copies; of a tensor that requires a gradient data.detach()."
        ) from error
    return tensor(array) if copy else from_numpy(array)


@takes_keywords("torch")
def full(
    size: Any, fill_value: Number, *, dtype: object = None, device: object = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of one number; its dtype is the number's unless said otherwise.

    >>> import chainrule as cr
    >>> cr.full((2, 2), 7)
    tensor([[7, 7],
            [7, 7]])
    """
    on_cpu(device)
    if isinstance(fill_value, Handle) and dtype is None:
        dtype = fill_value.dtype
    if not isinstance(fill_value, (bool, np.bool_)):
        fill_value = number(fill_value, "full", "fill_value")
    wanted = dtypes.as_dtype(dtype if dtype is not None else type(fill_value))
    if fill_value:
        check_fits(fill_value, wanted, "full")
    shape = sizes_of(size)
    if graph.written():
        one = scalar(fill_value, wanted)
        result = apply(shaping_ops.expand, one, shape=shape) if shape else one
    else:
        graph.check_size("full", shape, wanted)
        result = wrap(graph.leaf(filled(shape, fill_value, wanted), wanted))
    return result.requires_grad_() if requires_grad else result


def filled(shape: Shape, value: Number, dtype: DType) -> Array:
    """An array of one number. (Of zeros the system gives memory that nobody has touched yet.)"""
    if value.__class__ is float and value == 0 and math.copysign(1, value) > 0:  # as most are
        return np.zeros(shape, dtype.numpy)
    filler = graph.const(value, dtype).value
    return np.full(shape, filler) if any(filler.tobytes()) else np.zeros(shape, dtype.numpy)


def _filled(name: str, shape: Shape, value: float, dtype: object, device: object, requires_grad: bool) -> Tensor:
    if not graph.written():
        graph.check_size(name, shape, dtypes.as_dtype(dtype if dtype is not None else float))
    return full(shape, value, dtype=dtype, device=device, requires_grad=requires_grad)


def sizes_of(*shape: Any) -> Shape:
    """A shape from ``(2, 3)``, ``[2, 3]`` or ``2, 3``."""
    found = sizes(shape)
    if min(found, default=0) < 0:
        raise ShapeError(f"{graph.who('size')}: the sizes of a tensor must not be negative, got {found}. Check them.")
    return found


@takes_keywords("torch")
def zeros(*size: Any, dtype: object = None, device: object = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros, float32 unless said otherwise.

    >>> import chainrule as cr
    >>> cr.zeros(2, 3).shape, cr.zeros((2,), dtype=cr.int64)
    ((2, 3), tensor([0, 0]))
    """
    return _filled("zeros", sizes_of(*size), 0.0, dtype, device, requires_grad)


@takes_keywords("torch")
def ones(*size: Any, dtype: object = None, device: object = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones, float32 unless said otherwise."""
    return _filled("ones", sizes_of(*size), 1.0, dtype, device, requires_grad)


@takes_keywords("torch")
def empty(*size: Any, dtype: object = None, device: object = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros (PyTorch leaves it undefined; here every run gives the same bits)."""
    return _filled("empty", sizes_of(*size), 0.0, dtype, device, requires_grad)


@takes_keywords("torch")
def full_like(
    x: Tensor, fill_value: Number, dtype: object = None, requires_grad: bool = False, *, device: object = None,
    memory_format: object = None,
) -> Tensor:  # fmt: skip
    """A tensor of one number, of the shape and dtype of `x`."""
    return full(x.shape, fill_value, dtype=dtype or x.dtype, device=device, requires_grad=requires_grad)


@takes_keywords("torch")
def zeros_like(
    x: Tensor, dtype: object = None, requires_grad: bool = False, *, device: object = None, memory_format: object = None
) -> Tensor:
    """Zeros of the shape and dtype of `x`."""
    return full_like(x, 0.0, dtype, requires_grad, device=device)


@takes_keywords("torch")
def ones_like(
    x: Tensor, dtype: object = None, requires_grad: bool = False, *, device: object = None, memory_format: object = None
) -> Tensor:
    """Ones of the shape and dtype of `x`."""
    return full_like(x, 1.0, dtype, requires_grad, device=device)


@takes_keywords("torch")
def empty_like(
    x: Tensor, dtype: object = None, requires_grad: bool = False, *, device: object = None, memory_format: object = None
) -> Tensor:
    """Zeros of the shape and dtype of `x` (see `empty`)."""
    return full_like(x, 0.0, dtype, requires_grad, device=device)


@takes_keywords("torch")
def arange(
    start: Number, end: Number | None = None, step: Number = 1, dtype: object = None, *, device: object = None
) -> Tensor:
    """``start, start + step, ...`` up to but without `end`; floating-point if one of them is.

    Raises:
        ValueError: `step` is 0.

    >>> import chainrule as cr
    >>> cr.arange(4), cr.arange(1, 2, 0.25)
    (tensor([0, 1, 2, 3]), tensor([1.0000, 1.2500, 1.5000, 1.7500]))
    """
    on_cpu(device)
    if end is None:
        start, end = 0, start
    start, end, step = (number(value, "arange", "each bound") for value in (start, end, step))
    if step == 0:
        raise ValueError(f"{graph.who('arange')}: step must not be 0. Use cr.full for equal numbers.")
    floating = any(isinstance(value, float) for value in (start, end, step))
    wanted = dtypes.as_dtype(dtype if dtype is not None else float if floating else int)
    size = max(0, math.ceil((end - start) / step))
    if not graph.written():
        graph.check_size("arange", (size,), wanted)
        return wrap(graph.leaf(dtypes.as_stored(start + np.arange(size) * step, wanted), wanted))
    count = apply(random.iota, size=size, dtype=dtypes.computed(wanted))
    scaled = count if step == 1 else count * step
    return (scaled if start == 0 else scaled + start).to(wanted)


@takes_keywords("torch")
def linspace(start: float, end: float, steps: int, dtype: object = None, *, device: object = None) -> Tensor:
    """`steps` numbers at equal distances from `start` to `end`, both included.

    >>> import chainrule as cr
    >>> cr.linspace(0, 1, 5)
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    low, high = number(start, "linspace", "start"), number(end, "linspace", "end")
    count = integer(steps, "linspace", "steps")
    graph.check_size("linspace", (count,), dtypes.float64)
    wanted = dtypes.as_dtype(dtype or dtypes.float32)
    if wanted.is_integer:
        for bound in (low, high):
            check_fits(bound, wanted, "linspace")
    return tensor(np.linspace(low, high, count), wanted, device=device)


@takes_keywords("torch")
def eye(n: int, m: int | None = None, dtype: object = None, *, device: object = None) -> Tensor:
    """The identity matrix, or its n x m corner.

    >>> import chainrule as cr
    >>> cr.eye(2, 3)
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    return (arange(n, device=device).unsqueeze(1) == arange(n if m is None else m)).to(dtype or dtypes.float32)
