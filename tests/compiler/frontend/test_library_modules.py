"""The library's modules count what is replaced in them, and are otherwise modules like others."""

import copy
import importlib
import inspect
import pickle
from types import ModuleType

import pytest

import chainrule as cr
from chainrule import nn
from chainrule.devices import cuda

MODULES = [cr, nn, nn.functional]


@pytest.fixture(autouse=True, scope="module")
def traced():
    cr.compile(lambda x: nn.functional.relu(x))(cr.ones(2))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_a_copy_of_a_module_is_the_module(module):
    assert pickle.loads(pickle.dumps(module)) is module
    assert copy.copy(module) is module and copy.deepcopy({"a": module})["a"] is module


def test_they_pass_for_modules():
    assert all(isinstance(module, ModuleType) and inspect.ismodule(module) for module in MODULES)
    assert repr(nn).startswith("<module 'chainrule.nn' from")


@pytest.mark.parametrize("of", ["cloudpickle", "joblib.externals.cloudpickle", "dill"])
def test_a_function_that_names_them_is_sent_by_value(of):
    sender = pytest.importorskip(of, reason=f"{of} is not installed")
    space = {"__name__": "__main__", "nn": nn, "cr": cr}
    exec("def net(i, o): return nn.Sequential(nn.Linear(i, o)), cr.nn.functional", space)
    made, functional = pickle.loads(sender.dumps(space["net"]))(3, 2)
    assert isinstance(made, nn.Sequential) and functional is nn.functional


def test_a_module_can_be_loaded_again():
    before = cuda.is_available
    assert importlib.reload(cuda) is cuda and cuda.is_available is not before
