"""Layers, and the library's own functions."""

from __future__ import annotations

import collections
import copy
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from tests.compiler.handed.cases import case


@case
def a_function_of_the_library_rebound():
    before = F.relu
    yield lambda x: F.relu(-x)
    try:
        F.relu = lambda x, inplace=False: x * 3
        yield
        F.relu = lambda x, inplace=False: x * 4
        yield
    finally:
        F.relu = before
    yield


@case
def a_function_of_the_library_rebound_under_a_layer():
    before = F.relu
    yield nn.Sequential(nn.ReLU())
    try:
        F.relu = lambda x, inplace=False: x * 3
        yield
    finally:
        F.relu = before
    yield


@case
def the_forward_of_a_class_of_the_library():
    before = nn.ReLU.forward
    yield nn.Sequential(nn.ReLU())
    try:
        nn.ReLU.forward = lambda self, x: x * 3
        yield
        nn.ReLU.forward = lambda self, x: x * 4
        yield
    finally:
        nn.ReLU.forward = before
    yield


@case
def the_forward_of_a_class():
    class Net(nn.Module):
        def forward(self, x):
            return x * 2

    yield Net()
    Net.forward = lambda self, x: x * 3
    yield
    Net.forward = lambda self, x: x * 4
    yield


@case
def the_forward_of_a_base_class():
    class Base(nn.Module):
        def forward(self, x):
            return x * 2

    class Net(Base):
        def forward(self, x):
            return super().forward(x) + 1

    yield nn.Sequential(Net())
    Base.forward = lambda self, x: x * 3
    yield
    Base.forward = lambda self, x: x * 4
    yield


@case
def a_helper_method_of_a_layer():
    class Net(nn.Module):
        def helper(self):
            return 2.0

        def forward(self, x):
            return x * self.helper()

    m = nn.Sequential(Net())
    yield m
    Net.helper = lambda self: 3.0
    yield
    Net.helper = lambda self: 4.0
    yield
    m[0].helper = lambda: 5.0
    yield


@case
def a_method_of_the_tensor():
    before = cr.Tensor.relu
    yield lambda x: (-x).relu()
    try:
        cr.Tensor.relu = lambda self: self * 3
        yield
    finally:
        cr.Tensor.relu = before
    yield


@case
def a_number_in_a_dict_of_a_layer():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.options = {"a": [2.0]}

        def forward(self, x):
            return x * self.options["a"][0]

    m = nn.Sequential(Net())
    yield m
    m[0].options["a"][0] = 3.0
    yield


@case
def a_chain_map_of_a_layer():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.options = collections.ChainMap({"a": 2.0})

        def forward(self, x):
            return x * self.options["a"]

    m = Net()
    yield m
    m.options["a"] = 3.0
    yield


@case
def an_array_of_a_layer():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = np.array([2.0, 3.0], np.float32)

        def forward(self, x):
            return x * cr.tensor(self.table)

    m = Net()
    yield m
    m.table[0] = 5.0
    yield


@case
def a_class_attribute_of_a_layer_that_is_a_dict():
    class Net(nn.Module):
        options: ClassVar = {"a": 2.0}

        def forward(self, x):
            return x * self.options["a"]

    yield Net()
    Net.options["a"] = 3.0
    yield
    Net.options = {"a": 4.0}
    yield


@case
def a_hook_of_a_layer():
    m = nn.Sequential(nn.ReLU())
    yield m
    if hasattr(m, "register_forward_hook"):
        m.register_forward_hook(lambda module, args, output: output * 3)
    else:
        m[0].forward = lambda x: x * 3
    yield


@case
def a_deep_copy():
    o = SimpleNamespace(scale=2.0)
    yield lambda x: x * copy.deepcopy(o).scale
    o.scale = 3.0
    yield


@case
def the_requires_grad_of_a_tensor():
    w = cr.ones(1)
    yield lambda x: x * (3 if w.requires_grad else 2)
    w.requires_grad_(True)
    yield


@case
def the_shape_of_a_tensor():
    w = cr.ones(2)
    yield lambda x: x * w.shape[0]
    w = cr.ones(3)
    yield


@case
def the_mode_of_gradients():
    w = cr.ones(2, requires_grad=True)
    yield lambda x: x * (3 if (w * 1).requires_grad else 2)
    w.requires_grad_(False)
    yield
