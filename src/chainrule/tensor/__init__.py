"""Tensor, the functions that make and join tensors, and randomness."""

from chainrule.tensor import views as views  # fills in what writing to a view does
from chainrule.tensor.tensor import Tensor

__all__ = ["Tensor"]
