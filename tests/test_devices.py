"""The one device, the CPU: accepted wherever PyTorch takes a device, others refused with one message."""

import copy
import importlib
import inspect
import pickle
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import DtypeError, SettingError
from chainrule.names import ROOMS, keywords_of, theirs
from tests.optional import torch

CPUS = ["cpu", "cpu:0", None, cr.device("cpu"), cr.device("cpu", 0)]
MAKERS = {
    "tensor": lambda **k: cr.tensor([1.0], **k),
    "as_tensor": lambda **k: cr.as_tensor([1.0], **k),
    "as_tensor of a tensor": lambda **k: cr.as_tensor(cr.ones(1), **k),
    "full": lambda **k: cr.full((2,), 1.0, **k),
    "zeros": lambda **k: cr.zeros(2, **k),
    "ones": lambda **k: cr.ones(2, **k),
    "empty": lambda **k: cr.empty(2, **k),
    "full_like": lambda **k: cr.full_like(cr.ones(2), 1.0, **k),
    "zeros_like": lambda **k: cr.zeros_like(cr.ones(2), **k),
    "ones_like": lambda **k: cr.ones_like(cr.ones(2), **k),
    "empty_like": lambda **k: cr.empty_like(cr.ones(2), **k),
    "arange": lambda **k: cr.arange(3, **k),
    "linspace": lambda **k: cr.linspace(0, 1, 3, **k),
    "eye": lambda **k: cr.eye(2, **k),
    "rand": lambda **k: cr.rand(2, **k),
    "randn": lambda **k: cr.randn(2, **k),
    "rand_like": lambda **k: cr.rand_like(cr.ones(2), **k),
    "randn_like": lambda **k: cr.randn_like(cr.ones(2), **k),
    "randint": lambda **k: cr.randint(0, 3, (2,), **k),
    "randperm": lambda **k: cr.randperm(3, **k),
    "new_zeros": lambda **k: cr.ones(2).new_zeros(2, **k),
    "new_ones": lambda **k: cr.ones(2).new_ones(2, **k),
    "new_full": lambda **k: cr.ones(2).new_full((2,), 1.0, **k),
    "Generator": lambda **k: cr.Generator(0, **k),
    "Tensor.to": lambda **k: cr.ones(2).to(**k),
    "Linear": lambda **k: nn.Linear(2, 1, **k),
    "Bilinear": lambda **k: nn.Bilinear(2, 2, 1, **k),
    "Embedding": lambda **k: nn.Embedding(2, 1, **k),
    "EmbeddingBag": lambda **k: nn.EmbeddingBag(2, 1, **k),
    "BatchNorm1d": lambda **k: nn.BatchNorm1d(2, **k),
    "InstanceNorm1d": lambda **k: nn.InstanceNorm1d(2, **k),
    "LayerNorm": lambda **k: nn.LayerNorm(2, **k),
    "RNN": lambda **k: nn.RNN(2, 1, **k),
    "LSTM": lambda **k: nn.LSTM(2, 1, **k),
    "GRU": lambda **k: nn.GRU(2, 1, **k),
    "GroupNorm": lambda **k: nn.GroupNorm(1, 2, **k),
    "RMSNorm": lambda **k: nn.RMSNorm(2, **k),
    "PReLU": lambda **k: nn.PReLU(**k),
    "LazyLinear": lambda **k: nn.LazyLinear(2, **k),
    "LazyBatchNorm1d": lambda **k: nn.LazyBatchNorm1d(**k),
    "Module.to": lambda **k: nn.Linear(2, 1).to(**k),
}


def message(given):
    return (
        f"device={given!r}: there is only the CPU here. Leave the device out, or say 'cpu' "
        f"(cr.cuda.is_available() is False)."
    )


@pytest.mark.parametrize("name", MAKERS)
def test_the_cpu_is_taken_and_nothing_else(name):
    for device in CPUS:
        MAKERS[name](device=device)
    for device in ("cuda", "cuda:1", "mps", "meta", 0, "cpux"):
        with pytest.raises(SettingError) as error:
            MAKERS[name](device=device)
        assert str(error.value) == message(device)


@pytest.mark.parametrize("room", ["torch", "nn", "Tensor"])
def test_every_name_takes_a_device_that_takes_one_in_pytorch(room):
    module, _, name = ROOMS[room].ours.partition(":")
    ours = importlib.import_module(module)
    ours = getattr(ours, name) if name else ours
    names = [n for n in theirs(room) if "device" in keywords_of(room, n) and hasattr(ours, n)]
    assert names
    assert [n for n in names if "device" not in inspect.signature(getattr(ours, n)).parameters] == []


@pytest.mark.parametrize(
    "args",
    [("cpu",), ("cpu", cr.float64), (cr.device("cpu"), cr.float64, True), (cr.float64, True), (None,), ("cpu:0", None)],
)
def test_to_takes_pytorchs_forms(args):
    other = [torch.float64 if a is cr.float64 else torch.device("cpu") if isinstance(a, cr.device) else a for a in args]
    x, theirs = cr.ones(2), torch.ones(2)
    if None not in args:  # which PyTorch takes as a keyword only
        assert str(x.to(*args).dtype).partition(".")[2] == str(theirs.to(*other).dtype).partition(".")[2]
        assert (x.to(*args) is x) == (theirs.to(*other) is theirs)
    assert x.to(*args, non_blocking=True).dtype == x.to(*args).dtype
    assert nn.Linear(2, 1).to(*args, non_blocking=True).weight.dtype == x.to(*args).dtype


def test_a_copy_is_made_where_it_is_asked_for():
    x = cr.ones(2)
    assert x.to("cpu", cr.float32, False, True) is not x
    assert x.to("cpu", cr.float32, True, False) is x
    with pytest.raises(SettingError) as error:
        x.to("cuda:0", non_blocking=True)
    assert str(error.value) == message("cuda:0")


@pytest.mark.parametrize("args", [("cpu",), ("cpu:0",), ("cpu", 0), ("cpu:3",)])
def test_a_device_is_as_in_pytorch(args):
    ours, theirs = cr.device(*args), torch.device(*args)
    assert (repr(ours), str(ours), ours.type, ours.index) == (repr(theirs), str(theirs), theirs.type, theirs.index)
    assert (ours == cr.device("cpu")) == (theirs == torch.device("cpu"))
    assert ours == cr.device(ours) == copy.deepcopy(ours) == pickle.loads(pickle.dumps(ours))
    assert len({ours, cr.device(*args)}) == 1
    assert cr.ones(2, device=theirs).device == cr.device("cpu")


def test_a_script_that_names_its_device_runs():
    device = cr.device("cuda" if cr.cuda.is_available() else "mps" if cr.backends.mps.is_available() else "cpu")
    cr.cuda.manual_seed_all(0)
    cr.backends.cudnn.deterministic = True
    cr.backends.cudnn.benchmark = False
    cr.set_default_device(device)
    model = nn.Linear(3, 2, device=device).to(device)
    assert next(model.parameters()).device == cr.get_default_device() == device

    @cr.compile
    def step(x):
        return model(x.to(device, non_blocking=True)) + cr.ones(2, device=x.device)

    with device:
        x = cr.rand(4, 3)
    for _ in range(2):
        assert step(x).allclose(model(x) + 1)
    assert not x.is_cuda
    assert x.is_cpu
    assert model.cpu() is model


def test_what_needs_another_device_says_that_there_is_none():
    with pytest.raises(AttributeError) as error:
        cr.cuda.get_device_name(0)
    assert str(error.value) == (
        "cr.cuda has no attribute 'get_device_name': there is only the CPU here. "
        "Ask cr.cuda.is_available() first, which is False."
    )
    for owner in (cr.ones(2), nn.ReLU()):
        for args, device in (((), "cuda"), ((0,), 0)):
            with pytest.raises(SettingError) as refused:
                owner.cuda(*args)
            assert str(refused.value) == message(device)
    with pytest.raises(AttributeError) as error:
        cr.accelerator.set_device_index(0)
    assert str(error.value) == (
        "cr.accelerator has no attribute 'set_device_index': there is only the CPU here. "
        "Ask cr.accelerator.is_available() first, which is False."
    )


def test_a_script_that_asks_for_an_accelerator_runs():
    found = cr.accelerator.current_accelerator().type if cr.accelerator.is_available() else "cpu"
    assert (found, cr.accelerator.device_count(), cr.accelerator.current_accelerator()) == ("cpu", 0, None)
    assert torch.accelerator.is_available() or torch.accelerator.current_accelerator() is None


def said(raised):
    """The text of an error, without the line of the test that it names."""
    return re.sub(r" \([^ ]*test_\w+\.py:\d+ in [^)]*\)", "", str(raised.value))


# -- types by PyTorch's older names -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["FloatTensor", "DoubleTensor", "LongTensor", "IntTensor", "ByteTensor", "BoolTensor"])
def test_older_constructors_are_pytorchs(name):
    ours, theirs = getattr(cr, name), getattr(torch, name)
    for data in ([[1, 0], [0, 1]], (1, 0), []):
        x, y = ours(data), theirs(data)
        assert (x.tolist(), x.type()) == (y.tolist(), y.type())
    assert ours(2, 3).shape == tuple(theirs(2, 3).shape)
    assert ours(np.array([1.0, 0.0])).tolist() == theirs(np.array([1.0, 0.0])).tolist()
    assert isinstance(ours([1]), ours)
    assert [isinstance(cr.ones(1, dtype=d), ours) for d in (cr.float32, cr.int64)] == [
        isinstance(torch.ones(1, dtype=d), theirs) for d in (torch.float32, torch.int64)
    ]
    for spec in (ours, f"torch.{name}", ours([1]).dtype):
        assert cr.tensor([1.0, 0.0]).type(spec).type() == f"torch.{name}"


def test_what_older_constructors_refuse():
    with pytest.raises(DtypeError) as error:
        cr.FloatTensor(1.5)
    assert said(error) == (
        "FloatTensor: must be called with sizes, or with a list, array or tensor, got float. "
        "Use cr.tensor(...), which takes numbers."
    )
    with pytest.raises(DtypeError) as error:
        cr.LongTensor(cr.ones(2))
    assert said(error) == "LongTensor: a tensor must be of int64, got float32. Convert it with .to(dtype)."


def test_a_module_of_another_type():
    assert nn.Linear(2, 1).type(cr.DoubleTensor).weight.dtype is cr.float64
    assert nn.Linear(2, 1).type(cr.float64).weight.type() == "torch.DoubleTensor"


def test_memory_formats_change_nothing():
    x = cr.ones(2)
    for form in (cr.preserve_format, cr.contiguous_format, cr.channels_last):
        assert x.clone(memory_format=form).tolist() == cr.ones_like(x, memory_format=form).tolist() == [1, 1]
        assert x.to("cpu", memory_format=form) is x.contiguous(memory_format=form) is x
    assert repr(cr.preserve_format) == "chainrule.preserve_format"


def test_mixed_precision_is_off():
    scaler, x = cr.amp.GradScaler(), cr.ones(2, requires_grad=True)
    optimizer = cr.optim.SGD([x], lr=1.0)
    with cr.autocast("cuda"), cr.amp.autocast("cpu", enabled=False):
        loss = (x * x).sum()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert (x.tolist(), scaler.is_enabled(), scaler.get_scale()) == ([-1, -1], False, 1.0)
    with pytest.raises(SettingError) as error:
        cr.autocast("cpu", cr.bfloat16)
    assert str(error.value) == (
        "autocast: on the CPU enabled must be False, since nothing is cast by itself here. Make layers bfloat16 "
        "(model.bfloat16(), dtype=cr.bfloat16), and convert with x.bfloat16() and x.float()."
    )


@pytest.mark.filterwarnings(
    "ignore:(.*torch.cuda.amp|.*CUDA is not available)"
)  # PyTorch's, which has another address now
def test_mixed_precision_under_its_older_address_is_off_as_in_pytorch():
    from chainrule.cuda.amp import GradScaler, autocast

    assert (cr.cuda.amp.GradScaler, cr.cuda.amp.autocast) == (GradScaler, autocast)
    found = []
    for lib, kind in ((cr, cr.cuda.amp), (torch, torch.cuda.amp)):
        x = lib.ones(2, requires_grad=True)
        optimizer, scaler = lib.optim.SGD([x], lr=1.0), kind.GradScaler(2.0**10, enabled=True)

        @kind.autocast(enabled=True, dtype=lib.bfloat16)
        def forward(x=x):
            return (x * x).sum()

        with kind.autocast():
            loss = forward()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        found.append((str(loss.dtype).rpartition(".")[2], x.tolist(), scaler.is_enabled(), scaler.get_scale()))
    assert found[0] == found[1]


def test_inference_mode_records_nothing():
    x = cr.ones(2, requires_grad=True)
    with cr.inference_mode():
        assert not (x * 2).requires_grad
        with cr.inference_mode(False):
            assert (x * 2).requires_grad
    assert not cr.inference_mode(lambda: x * 2)().requires_grad
    assert not cr.inference_mode()(lambda: x * 2)().requires_grad
