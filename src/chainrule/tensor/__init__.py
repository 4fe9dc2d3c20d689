"""Tensor, the functions that make and join tensors, and randomness."""

from chainrule.tensor.tensor import Tensor

__all__ = ["Tensor"]
