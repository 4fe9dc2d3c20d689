"""What a multilayer perceptron of scikit-learn's computes: its outputs, the loss of each row, the penalty."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

import chainrule.nn.functional as F
from chainrule.tensor import Tensor

Activation = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    """x itself."""
    return x


ACTIVATIONS: dict[str, Activation] = {
    "identity": identity,
    "logistic": F.sigmoid,
    "tanh": F.tanh,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
}
OUTPUTS: dict[str, Activation] = {
    "identity": identity,
    "logistic": F.sigmoid,
    "softmax": lambda x: F.softmax(x, dim=1),
    "exp": lambda x: x.exp(),
}


def outputs(
    x: Tensor, coefs: Sequence[Tensor], intercepts: Sequence[Tensor], activation: str, dropout: float = 0.0
) -> Tensor:
    """What the last layer gives before its own activation.

    Args:
        x: rows, shape (N, features).
        coefs, intercepts: of each layer, shapes (in, out) and (out,), as scikit-learn has them.
        dropout: the share of each hidden layer's outputs to drop.
    """
    function = ACTIVATIONS[activation]
    for coef, intercept in zip(coefs[:-1], intercepts[:-1], strict=True):
        x = F.dropout(function(x @ coef + intercept), dropout)
    return x @ coefs[-1] + intercepts[-1]


def softmax_losses(z: Tensor, y: Tensor) -> Tensor:
    """``-log softmax(z)[y]`` for class numbers y, shape (N,)."""
    return F.cross_entropy(z, y, reduction="none").unsqueeze(1)


def logistic_losses(z: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy of yes-or-no answers y, shape (N, K)."""
    return F.binary_cross_entropy_with_logits(z, y, reduction="none")


def squared_losses(z: Tensor, y: Tensor) -> Tensor:
    """``(z - y)^2 / 2``."""
    return 0.5 * (z - y).square()


def poisson_losses(z: Tensor, y: Tensor) -> Tensor:
    """Half the Poisson deviance of ``exp(z)``: ``y log y - y z - y + exp(z)``."""
    return y * y.where(y > 0, 1.0).log() - y - y * z + z.exp()


# The losses of each row and output, shape (N, K), whose sum over the outputs is descended.
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "softmax": softmax_losses,
    "logistic": logistic_losses,
    "squared_error": squared_losses,
    "poisson": poisson_losses,
}


def reported(loss: str, losses: Tensor) -> Tensor:
    """Of each row, shape (N,), what scikit-learn reports and stops by.

    It keeps probabilities by a rounding away from 0 and 1, and takes the mean of squared errors over the outputs; the
    gradient that it follows knows of neither.
    """
    if loss == "squared_error":
        return losses.mean(1)
    if loss == "poisson":
        return losses.sum(1)
    rounding = float(np.finfo(losses.dtype.numpy).eps)
    return losses.clamp(-math.log1p(-rounding), -math.log(rounding)).sum(1)


def total(weights: Tensor | None, rows: int) -> Tensor | float:
    """The weight of all rows; 1 where they have none, so that their loss is 0."""
    if weights is None:
        return float(rows)
    found = weights.sum()
    return found.where(found > 0, 1.0)


def mean(losses: Tensor, weights: Tensor | None, whole: Tensor | float) -> Tensor:
    """The (weighted) mean over the rows, shape (N,)."""
    return (losses if weights is None else losses * weights).sum() / whole


def squares(coefs: Sequence[Tensor]) -> Tensor:
    """The sum of the squares of all weights."""
    found = coefs[0].square().sum()
    for coef in coefs[1:]:
        found = found + coef.square().sum()
    return found
