"""The dtype that an estimator computes in."""

from __future__ import annotations

from chainrule.dtypes import DType, as_dtype, float32, float64, is_widened
from chainrule.errors import DtypeError
from chainrule.nn import Module
from chainrule.nn.state import move


def full(owner: object, spec: object, instead: str = "Leave it out, or give one of these.") -> DType:
    """The dtype that an estimator was given: float32 or float64.

    Raises:
        DtypeError: it is another.
    """
    found = as_dtype(spec)
    if found not in (float32, float64) or spec is None or is_widened(spec):
        got = found.name if spec is not None and not is_widened(spec) else repr(spec)
        raise DtypeError(f"{type(owner).__name__}: dtype must be float32 or float64, got {got}. {instead}")
    return found


def computing_in(module: Module, dtype: DType) -> Module:
    """The module with what it has of float32 or float64 in a dtype; layers that store bfloat16 go on doing so."""
    move((t for t in [*module.parameters(), *module.buffers()] if not t.dtype.only_stores), dtype)
    return module
