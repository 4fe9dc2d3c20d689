"""Tensor's conversions between dtypes. Apart, because methods named ``float`` and ``int`` hide the types."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

from chainrule import dtypes
from chainrule.dtypes import DType
from chainrule.errors import SettingError
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import Handle, apply

if TYPE_CHECKING:
    from chainrule.tensor import Tensor


def destination(args: tuple[object, ...], dtype: object = None, device: object = None) -> DType | None:
    """The dtype that the arguments of a PyTorch ``to`` name, or None; a device must be the CPU."""
    for argument in args:
        if isinstance(argument, Handle):
            dtype = argument.dtype
        elif isinstance(argument, str) and argument.partition(":")[0] in {"cpu", "cuda", "mps", "xpu"}:
            device = argument
        else:
            dtype = argument
    if device is not None and str(device).partition(":")[0] != "cpu":
        raise SettingError(f"to(device={device!r}): chainrule computes on the CPU. Leave the device out, or say 'cpu'.")
    return None if dtype is None else dtypes.as_dtype(dtype)


class Casting(Handle):
    """``to`` and its short forms."""

    __slots__ = ()

    def to(self, *args: object, dtype: object = None, device: object = None, copy: bool = False) -> Tensor:
        """This tensor in another dtype, or in that of another tensor; itself where nothing changes.

        PyTorch's forms: ``to(dtype)``, ``to("cpu", dtype)``, ``to(other)``, each also with `copy`.

        Floats become integers by dropping the fraction; beyond the range they become its end, NaN 0 (where PyTorch
        leaves both to the CPU; uint8 by way of int64). Out-of-range integers wrap around. ``"cpu"``, the only device
        there is, changes nothing.

        Raises:
            DtypeError: `dtype` names none.
            SettingError: a device other than the CPU.

        >>> import chainrule as cr
        >>> cr.tensor([1.7, -1.7]).to(cr.int64)
        tensor([ 1, -1])
        """
        target = destination(args, dtype, device) or self.dtype
        if target is not self.dtype:
            return apply(ew.cast, self, dtype=target)
        return self._tensor.clone() if copy else self._tensor

    def is_floating_point(self) -> builtins.bool:
        """Whether the dtype is float32 or float64."""
        return self.dtype.is_floating_point

    def cpu(self) -> Tensor:
        """Itself: there is no other device."""
        return self._tensor

    def type_as(self, tensor: Tensor) -> Tensor:
        """This tensor in the dtype of `other`."""
        return self.to(tensor.dtype)

    def float(self) -> Tensor:
        """This tensor as float32."""
        return self.to(dtypes.float32)

    def double(self) -> Tensor:
        """This tensor as float64."""
        return self.to(dtypes.float64)

    def int(self) -> Tensor:
        """This tensor as int32."""
        return self.to(dtypes.int32)

    def long(self) -> Tensor:
        """This tensor as int64."""
        return self.to(dtypes.int64)

    def byte(self) -> Tensor:
        """This tensor as uint8."""
        return self.to(dtypes.uint8)

    def bool(self) -> Tensor:
        """This tensor as bool: True where it is not zero (NaN is not)."""
        return self.to(dtypes.bool_)
