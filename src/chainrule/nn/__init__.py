"""Layers, losses and their functions, with PyTorch's names."""

from chainrule.names import classes_take_keywords, module_getattr
from chainrule.nn import functional, init, utils
from chainrule.nn.activations import (
    CELU,
    ELU,
    GELU,
    GLU,
    SELU,
    Hardshrink,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    RReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softmin,
    Softplus,
    Softshrink,
    Softsign,
    Tanh,
    Tanhshrink,
    Threshold,
    activation_by_name,
)
from chainrule.nn.compiled import CompiledModule as CompiledModule
from chainrule.nn.containers import ModuleDict, ModuleList, Sequential
from chainrule.nn.embedding import Embedding
from chainrule.nn.layers import Dropout, Flatten, Identity, Linear
from chainrule.nn.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
    loss_by_name,
)
from chainrule.nn.module import Module
from chainrule.nn.normalization import BatchNorm1d, GroupNorm, InstanceNorm1d, LayerNorm, RMSNorm
from chainrule.nn.parameter import Parameter
from chainrule.nn.summary import Summary, summary

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GroupNorm",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HuberLoss",
    "Identity",
    "InstanceNorm1d",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "Mish",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "PReLU",
    "Parameter",
    "RMSNorm",
    "RReLU",
    "ReLU",
    "ReLU6",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Summary",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "activation_by_name",
    "functional",
    "init",
    "loss_by_name",
    "summary",
    "utils",
]

_LAYERS = [value for name, value in sorted(globals().items()) if name in __all__ and isinstance(value, type)]
classes_take_keywords("nn", [layer for layer in _LAYERS if issubclass(layer, Module) and layer is not Module])
__getattr__ = module_getattr("nn", __name__)
