"""Tensor's conversions between dtypes. Apart, because methods named ``float`` and ``int`` hide the types."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from chainrule import dtypes
from chainrule.devices import CPU, names_device, on_cpu
from chainrule.devices import device as Device
from chainrule.dtypes import DType, type_name, typed
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import Handle, apply

if TYPE_CHECKING:
    from chainrule.tensor import Tensor


def destination(args: tuple[object, ...], dtype: object = None, device: object = None) -> DType | None:
    """The dtype that the arguments of a PyTorch ``to`` name, or None; a device must be the CPU."""
    for argument in args:
        if isinstance(argument, Handle):
            dtype = argument.dtype
        elif isinstance(argument, builtins.bool) or argument is None:  # non_blocking, copy
            continue
        elif names_device(argument):
            device = argument
        else:
            dtype = argument
    on_cpu(device)
    return None if dtype is None else dtypes.as_dtype(dtype)


class Casting(Handle):
    """``to`` and its short forms."""

    __slots__ = ()

    def to(
        self,
        *args: object,
        dtype: object = None,
        device: object = None,
        non_blocking: builtins.bool = False,
        copy: builtins.bool = False,
        memory_format: object = None,
    ) -> Tensor:
        """This tensor in another dtype, or in that of another tensor; itself where nothing changes.

        PyTorch's forms: ``to(dtype)``, ``to("cpu", dtype)``, ``to(other)``, each also with `copy` and with `non_blocking`,
        which changes nothing.

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
        flags = [argument for argument in args if isinstance(argument, builtins.bool)]  # non_blocking, copy
        return self._tensor.clone() if copy or flags[1:] == [True] else self._tensor

    @property
    def device(self) -> Device:
        """The CPU.

        >>> import chainrule as cr
        >>> cr.ones(2).device
        device(type='cpu')
        """
        return CPU

    @property
    def is_cpu(self) -> builtins.bool:
        """True."""
        return True

    @property
    def is_cuda(self) -> builtins.bool:
        """False."""
        return False

    is_mps = is_xpu = is_cuda

    def cuda(self, device: object = None, non_blocking: builtins.bool = False) -> Tensor:
        """There is no CUDA here: it raises, as PyTorch's does on a machine without one.

        Raises:
            SettingError: always.
        """
        return self.to(device="cuda" if device is None else device)

    def pin_memory(self, device: object = None) -> Tensor:
        """Itself: there is no device to copy it to."""
        return self._tensor

    def is_pinned(self) -> builtins.bool:
        """False."""
        return False

    def is_floating_point(self) -> builtins.bool:
        """Whether the dtype is float32, float64 or bfloat16."""
        return self.dtype.is_floating_point

    def cpu(self) -> Tensor:
        """Itself: there is no other device."""
        return self._tensor

    def type_as(self, tensor: Tensor) -> Tensor:
        """This tensor in the dtype of `other`."""
        return self.to(tensor.dtype)

    def type(self, dtype: object = None, non_blocking: builtins.bool = False) -> Any:
        """The name of this tensor's type, PyTorch's; with a type (or its name, or a dtype) the tensor converted to it.

        >>> import chainrule as cr
        >>> cr.ones(2).type(), cr.ones(2).type(cr.LongTensor)
        ('torch.FloatTensor', tensor([1, 1]))
        """
        return type_name(self.dtype) if dtype is None else self.to(typed(dtype))

    def float(self) -> Tensor:
        """This tensor as float32."""
        return self.to(dtypes.float32)

    def bfloat16(self) -> Tensor:
        """This tensor as bfloat16: float32's range in two bytes, and three digits."""
        return self.to(dtypes.bfloat16)

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
