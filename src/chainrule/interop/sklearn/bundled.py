"""A fitted perceptron as a module, and what its outputs mean: what `cr.bundle` asks an estimator for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import nn
from chainrule.deploy.layers import Exp
from chainrule.deploy.making import Fitted
from chainrule.nn.meaning import BINARY_LOGITS, LOGITS, VALUES
from chainrule.tensor.random import Generator, drawing_from

if TYPE_CHECKING:
    from chainrule.interop.sklearn.perceptron import Perceptron

Array = np.ndarray[Any, Any]
_ACTIVATIONS = {"identity": nn.Identity, "logistic": nn.Sigmoid}  # scikit-learn's names; the others are ours
_MEANINGS = {"softmax": LOGITS, "logistic": BINARY_LOGITS, "identity": VALUES, "exp": VALUES}
_NORMALIZATIONS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def fitted(model: Perceptron) -> Fitted:
    """What it consists of; a copy, which later fits leave alone."""
    meaning = _MEANINGS[model.out_activation_]
    several = meaning is BINARY_LOGITS and model.coefs_[-1].shape[1] > 1
    classes = None if meaning is VALUES or several else list(model.classes_)
    return Fitted(module(model), meaning, classes, getattr(model, "feature_names_in_", None))


def module(model: Perceptron) -> nn.Sequential:
    """Its layers and weights, in evaluation mode."""
    layers: list[nn.Module] = []
    hidden = model._hidden()
    activation: Any = _ACTIVATIONS.get(hidden.activation) or nn.activation_by_name(hidden.activation)
    with drawing_from(Generator(0)):
        for i, (coef, intercept) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
            layers.append(_with(nn.Linear(*coef.shape, dtype=coef.dtype.name), {"weight": coef.T, "bias": intercept}))
            if i < len(model.coefs_) - 1:
                if hidden.normalization:
                    normal: Any = _NORMALIZATIONS[hidden.normalization]
                    layers.append(_with(normal(coef.shape[1], dtype=coef.dtype.name), model.norms_[i]))
                layers.append(activation())
    if model.out_activation_ == "exp":
        layers.append(Exp())
    return nn.Sequential(*layers).eval()


def _with(layer: nn.Module, values: Mapping[str, Array]) -> nn.Module:
    layer.load_state_dict(values, strict=False)  # what it has beside them is the count of batches
    return layer
