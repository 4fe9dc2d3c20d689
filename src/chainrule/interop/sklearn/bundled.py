"""The weights of a fitted perceptron as a module, and what its outputs mean: what `cr.bundle` asks an estimator for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.deploy.layers import Exp
from chainrule.interop.sklearn.formula import Hidden
from chainrule.interop.sklearn.network import Weights
from chainrule.nn.meaning import BINARY_LOGITS, LOGITS, VALUES
from chainrule.tensor.random import Generator, drawing_from

Array = np.ndarray[Any, Any]
_ACTIVATIONS = {"identity": nn.Identity, "logistic": nn.Sigmoid}  # scikit-learn's names; the others are ours
MEANINGS = {"softmax": LOGITS, "logistic": BINARY_LOGITS, "identity": VALUES, "exp": VALUES}
_NORMALIZATIONS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def module(weights: Weights, hidden: Hidden, output: str) -> nn.Sequential:
    """The layers, with a copy of these weights, in evaluation mode.

    Args:
        output: scikit-learn's name of the last activation.
    """
    layers: list[nn.Module] = []
    activation: Any = _ACTIVATIONS.get(hidden.activation) or nn.activation_by_name(hidden.activation)
    with drawing_from(Generator(0)):
        for i, (coef, intercept) in enumerate(zip(weights.coefs, weights.intercepts, strict=True)):
            layers.append(_with(nn.Linear(*coef.shape, dtype=coef.dtype.name), {"weight": coef.T, "bias": intercept}))
            if i < len(weights.coefs) - 1:
                if hidden.normalization:
                    normal: Any = _NORMALIZATIONS[hidden.normalization]
                    layers.append(_with(normal(coef.shape[1], dtype=coef.dtype.name), weights.norms[i]))
                layers.append(activation())
    if output == "exp":
        layers.append(Exp())
    return nn.Sequential(*layers).eval()


def _with(layer: nn.Module, values: Mapping[str, Array]) -> nn.Module:
    layer.load_state_dict(values, strict=False)  # what it has beside them is the count of batches
    return layer
