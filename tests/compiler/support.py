"""What tests of compiled functions share."""

from __future__ import annotations

from typing import Any

from chainrule import Tensor


def values(*tensors: Tensor | None) -> list[Any]:
    return [None if t is None else t.detach().tolist() for t in tensors]
