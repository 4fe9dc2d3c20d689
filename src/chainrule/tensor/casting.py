"""Tensor's conversions between dtypes. Apart, because methods named ``float`` and ``int`` hide the types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule import dtypes
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import Handle, apply

if TYPE_CHECKING:
    from chainrule.tensor import Tensor


class Casting(Handle):
    """``to`` and its short forms."""

    __slots__ = ()

    def to(self, dtype: object) -> Tensor:
        """This tensor in another dtype, or in that of another tensor; itself where nothing changes.

        Floats become integers by dropping the fraction, out-of-range integers wrap around. ``"cpu"``, the
        only device there is, changes nothing.

        Raises:
            DtypeError: `dtype` names none.

        >>> import chainrule as cr
        >>> cr.tensor([1.7, -1.7]).to(cr.int64)
        tensor([ 1, -1])
        """
        if dtype == "cpu":
            return self._tensor
        target = dtype.dtype if isinstance(dtype, Handle) else dtypes.as_dtype(dtype)
        return self._tensor if target is self.dtype else apply(ew.cast, self, dtype=target)

    def cpu(self) -> Tensor:
        """Itself: there is no other device."""
        return self._tensor

    def type_as(self, other: Tensor) -> Tensor:
        """This tensor in the dtype of `other`."""
        return self.to(other.dtype)

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
