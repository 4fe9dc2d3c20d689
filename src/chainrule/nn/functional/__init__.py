"""The formulas behind the layers, as functions: ``import chainrule.nn.functional as F``."""

from chainrule.names import module_getattr
from chainrule.nn.functional.activations import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from chainrule.nn.functional.classification import cross_entropy, nll_loss
from chainrule.nn.functional.embedding import embedding
from chainrule.nn.functional.layers import dropout, linear, one_hot
from chainrule.nn.functional.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from chainrule.nn.functional.normalization import batch_norm, group_norm, instance_norm, layer_norm, rms_norm

__all__ = [
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "group_norm",
    "huber_loss",
    "instance_norm",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "mish",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "rms_norm",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
]

__getattr__ = module_getattr("functional", __name__)
