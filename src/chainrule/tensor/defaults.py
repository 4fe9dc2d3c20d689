"""What scripts ask of dtypes, and set for the whole process in PyTorch: here it stands, and what cannot change is refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.dtypes import DType
from chainrule.errors import DtypeError, SettingError
from chainrule.names import takes_keywords
from chainrule.tensor.core import Handle
from chainrule.tensor.operands import as_operand, common_dtype


class finfo:  # PyTorch's name
    """How far a floating dtype reaches: ``max``, ``min``, ``eps``, ``tiny``, ``smallest_normal``, ``resolution``, ``bits``.

    >>> import chainrule as cr
    >>> cr.finfo(cr.float32).eps
    1.1920928955078125e-07
    """

    def __init__(self, dtype: Any = dtypes.float32) -> None:
        kind = dtypes.as_dtype(dtype)
        if not kind.is_floating_point:
            raise DtypeError(f"finfo: needs a floating-point dtype, got {kind.name}. Use cr.iinfo.")
        found = dtypes.limits(kind)
        self.dtype, self.bits = kind.name, 8 * kind.itemsize
        self.max, self.min, self.eps, self.tiny = found.max, -found.max, found.eps, found.tiny
        self.smallest_normal = found.tiny
        self.resolution = 10.0 ** -int(-np.log10(found.eps))

    def __repr__(self) -> str:
        return f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, dtype={self.dtype})"


class iinfo:  # PyTorch's name
    """How far an integer dtype reaches: ``max``, ``min``, ``bits``.

    >>> import chainrule as cr
    >>> cr.iinfo(cr.uint8).max
    255
    """

    def __init__(self, dtype: Any) -> None:
        kind = dtypes.as_dtype(dtype)
        if not kind.is_integer:
            raise DtypeError(f"iinfo: needs an integer dtype, got {kind.name}. Use cr.finfo.")
        found = np.iinfo(kind.numpy)
        self.dtype, self.bits, self.max, self.min = kind.name, 8 * kind.itemsize, int(found.max), int(found.min)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


def get_default_dtype() -> DType:
    """float32: what Python's floats become."""
    return dtypes.float32


@takes_keywords("torch")
def set_default_dtype(d: Any) -> None:
    """Checks that it is float32, and changes nothing.

    Raises:
        SettingError: another dtype.
    """
    if dtypes.typed(d) is not dtypes.float32:
        raise SettingError(
            f"set_default_dtype: Python's floats become float32 here, got {dtypes.typed(d).name}. "
            f"Give dtype= to what makes tensors, and call model.to(dtype)."
        )


set_default_tensor_type = set_default_dtype


@takes_keywords("torch")
def result_type(tensor1: Any, tensor2: Any) -> DType:
    """The dtype of an expression of both, tensors or numbers."""
    return common_dtype((as_operand(tensor1, "result_type"), as_operand(tensor2, "result_type")))


@takes_keywords("torch")
def promote_types(type1: Any, type2: Any) -> DType:
    """The smallest dtype that holds both."""
    return dtypes.promote((dtypes.as_dtype(type1), dtypes.as_dtype(type2)))


@takes_keywords("torch")
def can_cast(from_: Any, to: Any) -> bool:
    """Whether the kind of numbers (truths, whole numbers, floats) allows it."""
    return dtypes.as_dtype(from_).category <= dtypes.as_dtype(to).category


@takes_keywords("torch")
def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing: every result here is the same each time."""


def are_deterministic_algorithms_enabled() -> bool:
    """True."""
    return True


@takes_keywords("torch")
def set_float32_matmul_precision(precision: str) -> None:
    """Nothing: float32 is multiplied as float32 always."""


def get_float32_matmul_precision() -> str:
    """``"highest"``."""
    return "highest"


def is_inference_mode_enabled() -> bool:
    """False: there is `no_grad`, and nothing more."""
    return False


def is_storage(obj: object) -> bool:
    """False: tensors share no memory here."""
    return False


@takes_keywords("torch")
def typename(obj: Any) -> str:
    """PyTorch's name of a tensor's type, or of the type of anything else."""
    return (
        dtypes.type_name(obj.dtype) if isinstance(obj, Handle) else f"{type(obj).__module__}.{type(obj).__qualname__}"
    )
