"""PyTorch's older constructors, one for each dtype: ``cr.FloatTensor([1, 2])``, ``cr.LongTensor(3)``."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.dtypes import DType
from chainrule.errors import DtypeError
from chainrule.tensor.core import Handle
from chainrule.tensor.creation import tensor, zeros
from chainrule.tensor.tensor import Tensor


class _Typed(type):
    """A tensor is an instance of the class that is called after its dtype; calling the class makes one."""

    dtype: DType

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, Handle) and value.dtype is cls.dtype

    def __call__(cls, data: Any = (), *sizes: int) -> Tensor:
        if isinstance(data, Handle) and (data.ndim or not data.dtype.is_integer):
            if data.dtype is not cls.dtype:
                raise DtypeError(
                    f"{graph.who(cls.__name__)}: a tensor must be of {cls.dtype.name}, got {data.dtype.name}. "
                    f"Convert it with .to(dtype)."
                )
            return data._tensor.detach()
        if isinstance(data, (list, tuple, np.ndarray)) and not sizes:
            return tensor(data, cls.dtype)
        if isinstance(data, float) or not hasattr(data, "__index__"):
            raise DtypeError(
                f"{graph.who(cls.__name__)}: must be called with sizes, or with a list, array or tensor, got "
                f"{type(data).__name__}. Use cr.tensor(...), which takes numbers."
            )
        return zeros(data, *sizes, dtype=cls.dtype)


def _typed(name: str) -> Any:
    made = _Typed(name, (), {"dtype": dtypes.TYPES[name], "__module__": __name__})
    made.__doc__ = f"""Values as {made.dtype.name}, or zeros of the sizes given; a tensor of that dtype is an instance.

    PyTorch's older constructor; `cr.tensor` takes a dtype and numbers, too.

    Raises:
        DtypeError: a single float, or a tensor of another dtype.
    """
    return made


BoolTensor = _typed("BoolTensor")
ByteTensor = _typed("ByteTensor")
IntTensor = _typed("IntTensor")
LongTensor = _typed("LongTensor")
BFloat16Tensor = _typed("BFloat16Tensor")
FloatTensor = _typed("FloatTensor")
DoubleTensor = _typed("DoubleTensor")
