"""Layers that only models which are deployed have."""

from __future__ import annotations

from chainrule.nn import Module
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given


class Exp(Module):
    """``exp(x)``: what a network with a loss of logarithms, such as Poisson's, ends in."""

    def forward(self, input: Tensor) -> Tensor:
        """The exponential of an input of any shape."""
        return given(input, "Exp").exp()
