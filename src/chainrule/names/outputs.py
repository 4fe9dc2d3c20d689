"""PyTorch's ``out=``: what a function gives is written into a tensor that is there."""

from __future__ import annotations

from typing import Any

from chainrule.errors import DtypeError, GradientError, SettingError, ShapeError


def written(name: str, out: Any, result: Any) -> Any:
    """The tensor `out`, or each of a tuple of them, with the values of the result.

    Args:
        name: of the function.

    Raises:
        GradientError: the result has a history, which is not written.
        DtypeError, ShapeError, SettingError: it does not fit.
    """
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise SettingError(
                f"{name}: out must be a tuple of {len(result)} tensors. Assign the results, or give so many."
            )
        parts = [written(name, *pair) for pair in zip(out, result, strict=True)]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    if type(out).__name__ not in ("Tensor", "Parameter"):
        raise SettingError(f"{name}: out must be a tensor, got {type(out).__name__}. Assign the result.")
    if result.requires_grad:
        raise GradientError(
            f"{name}: what goes into out has no history, and an argument requires a gradient. Assign the result, or write under "
            f"cr.no_grad()."
        )
    if out.shape != result.shape:
        raise ShapeError(
            f"{name}: out must have the shape of the result, {result.shape}, got {out.shape}. Assign the result, or make out by "
            f"cr.empty{result.shape}."
        )
    if result.dtype.category > out.dtype.category:
        raise DtypeError(
            f"{name}: the result has dtype {result.dtype.name}, which out of {out.dtype.name} cannot hold. Assign the result."
        )
    return out.copy_(result)
