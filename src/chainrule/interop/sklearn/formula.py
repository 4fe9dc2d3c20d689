"""What a multilayer perceptron of scikit-learn's computes: its outputs, the loss of each row, the penalty."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import chainrule.nn.functional as F
from chainrule.errors import ShapeError
from chainrule.tensor import Tensor

Activation = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


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
    "mish": F.mish,
    "celu": F.celu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "softsign": F.softsign,
}
OUTPUTS: dict[str, Activation] = {
    "identity": identity,
    "logistic": F.sigmoid,
    "softmax": lambda x: F.softmax(x, dim=1),
    "exp": lambda x: x.exp(),
}


# What normalises the inputs of each hidden layer's activation, and the values with which its numbers begin.
NORMALIZATIONS: dict[str, dict[str, float]] = {
    "batch": {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0},
    "layer": {"weight": 1.0, "bias": 0.0},
}
LEARNED = "weight", "bias"


@dataclass(frozen=True)
class Hidden:
    """What the hidden layers do beside their products.

    Attributes:
        activation: a key of `ACTIVATIONS`.
        normalization: a key of `NORMALIZATIONS`, or None.
        dropout: the share of a layer's outputs to drop.
    """

    activation: str
    normalization: str | None = None
    dropout: float = 0.0

    def apply(self, z: Tensor, norm: Mapping[str, Tensor], training: bool) -> Tensor:
        """The outputs of a layer whose products are z."""
        if self.normalization == "layer":
            z = F.layer_norm(z, z.shape[-1], norm["weight"], norm["bias"])
        elif self.normalization == "batch":
            z = F.batch_norm(z, norm["running_mean"], norm["running_var"], norm["weight"], norm["bias"], training)
        return F.dropout(ACTIVATIONS[self.activation](z), self.dropout, training)


def outputs(
    first: Tensor, coefs: Sequence[Tensor], intercepts: Sequence[Tensor], norms: Sequence[Mapping[str, Tensor]],
    hidden: Hidden, training: bool,
) -> Tensor:  # fmt: skip
    """What the last layer gives before its own activation.

    Args:
        first: the product of rows and the first of `coefs`, shape (N, out).
        coefs, intercepts: of each layer, shapes (in, out) and (out,), as scikit-learn has them.
        norms: the numbers of each hidden layer's normalisation.
    """
    z = first + intercepts[0]
    for i, (coef, intercept) in enumerate(zip(coefs[1:], intercepts[1:], strict=True)):
        z = hidden.apply(z, norms[i] if norms else {}, training) @ coef + intercept
    return z


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


def absolute_losses(z: Tensor, y: Tensor) -> Tensor:
    """``|z - y|``: what the median makes least."""
    return F.l1_loss(z, y, reduction="none")


def huber_losses(z: Tensor, y: Tensor) -> Tensor:
    """``(z - y)^2 / 2`` up to a distance of 1, ``|z - y| - 1/2`` beyond."""
    return F.huber_loss(z, y, reduction="none")


def quantile_losses(z: Tensor, y: Tensor, quantile: float) -> Tensor:
    """``q (y - z)`` where z is too low, ``(1 - q) (z - y)`` where it is too high: what the quantile q makes least."""
    error = y - z
    return (error * quantile).maximum(error * (quantile - 1))


# The losses of each row and output, shape (N, K), whose sum over the outputs is descended.
LOSSES: dict[str, Loss] = {
    "softmax": softmax_losses,
    "logistic": logistic_losses,
    "squared_error": squared_losses,
    "poisson": poisson_losses,
    "absolute_error": absolute_losses,
    "huber": huber_losses,
}


def losses(loss: str | Loss, z: Tensor, y: Tensor, quantile: float) -> Tensor:
    """Those of this name, or of a function of the user's: shape (N, K).

    Raises:
        ShapeError: the function does not give a number for each row, or for each row and output.
    """
    if loss == "quantile":
        return quantile_losses(z, y, quantile)
    if isinstance(loss, str):
        return LOSSES[loss](z, y)
    found = loss(z, y)
    if not isinstance(found, Tensor) or found.shape not in (z.shape[:1], z.shape):
        came = f"shape {found.shape}" if isinstance(found, Tensor) else type(found).__name__
        raise ShapeError(
            f"loss: it must give a number for each row, shape {z.shape[:1]}, or for each row and output, shape {z.shape}, got "
            f"{came}. Leave out the mean: it is taken afterwards, with the weights of the rows."
        )
    return found.reshape(len(z), -1)


def reported(loss: str | Loss, losses: Tensor) -> Tensor:
    """Of each row, shape (N,), what scikit-learn reports and stops by.

    It keeps probabilities by a rounding away from 0 and 1, and takes the mean of errors over the outputs; the gradient that
    it follows knows of neither.
    """
    if loss == "poisson":
        return losses.sum(1)
    if loss not in ("softmax", "logistic"):
        return losses.mean(1)
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
