"""Code that comes in the middle of an operation (a signal's handler, a finalizer) may compute with tensors itself."""

import importlib
import signal
import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import graph, nn, optim
from chainrule.quiet import quietly
from chainrule.training import steps
from chainrule.training.session import Session

summary = importlib.import_module("chainrule.nn.summary")


def work():
    """A bit of everything: constants beyond a dtype, a step, its gradients."""
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))
    for parameter in model.parameters():
        parameter.data.fill_(0.25)
    loss = F.cross_entropy(model(cr.ones(2, 3)) / 3 + 2**40, cr.tensor([0, 1]))
    loss.backward()
    optim.SGD(model.parameters(), lr=0.5).step()
    return (
        [p.tolist() for p in model.parameters()],
        cr.tensor(-1, dtype=cr.uint8).tolist(),
        (-cr.ones(2)).log().tolist(),
    )


def test_in_the_middle_of_an_operation_the_same_comes_out():
    with np.errstate(all="raise"):  # what NumPy says of NaN and infinity must not matter in there either
        assert repr(quietly(work)) == repr(work())
    assert repr(quietly(lambda: quietly(work))) == repr(work())


def test_errors_of_the_operation_itself_arrive():
    def fails():
        raise RuntimeError("cannot enter context: of the user's own")

    with pytest.raises(RuntimeError, match="of the user's own"):
        quietly(fails)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_a_signal_s_handler_computes():
    failed, count = [], 0

    def handler(*_):
        nonlocal count
        count += 1
        try:
            assert cr.ones(3).sum().item() == 3
        except BaseException as error:
            failed.append(error)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        until, x = time.monotonic() + 0.5, cr.randn(64, 64, requires_grad=True)
        while time.monotonic() < until:
            cr.erf(x.sigmoid()).sum().backward()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert count > 10
    assert not failed, failed[0]


class Stop(Exception):
    """What a signal's handler raises."""


def stop(*_):
    raise Stop


class Stopping(list):
    def append(self, value):
        super().append(value)
        raise Stop


def test_a_handler_that_raises_on_the_way_into_a_block_leaves_its_mode_outside():
    block, enabled = cr.no_grad(), cr.is_grad_enabled()
    block._outer = Stopping()
    with pytest.raises(Stop), block:
        pass
    assert cr.is_grad_enabled() is enabled


def test_a_handler_that_raises_where_what_waits_is_computed_leaves_operations_to_come_at_once(monkeypatch):
    with cr.eager(True):
        block = cr.eager(False)
        with monkeypatch.context() as patched:
            patched.setattr(type(graph._local.tape), "flush", stop)
            with pytest.raises(Stop), block:
                pass
        assert graph._local.tape is None


class Layer(nn.Linear):
    """One whose mode cannot be set while it is `broken`."""

    broken = False

    def __setattr__(self, name, value):
        if self.broken and name == "training":
            raise Stop
        super().__setattr__(name, value)


def test_a_handler_that_raises_while_modes_change_leaves_them_as_they_were():
    model = nn.Sequential(nn.Linear(1, 1), Layer(1, 1), nn.Linear(1, 1))
    members = SimpleNamespace(modules=list(model.named_modules()))
    model[1].__dict__["broken"] = True
    with pytest.raises(Stop), Session.mode(SimpleNamespace(), False, members):
        pass
    assert [module.training for module in model.modules()] == [True] * 4
    with pytest.raises(Stop):
        nn.summary(model, cr.ones(1, 1))
    model[1].__dict__["broken"] = False
    assert [module.training for module in model.modules()] == [True] * 4


def test_a_handler_that_raises_while_the_modes_of_a_training_come_back_does_not_lose_them():
    session = SimpleNamespace(modes={"0": False}, mode=lambda _: nullcontext(True), wear=stop)
    with pytest.raises(Stop), Session.training(session):
        pass
    assert session.modes == {"0": False}


def test_a_handler_that_raises_while_forwards_are_recorded_leaves_each_its_own(monkeypatch):
    model, count = nn.Sequential(nn.Linear(1, 1), nn.ReLU()), iter(range(9))
    monkeypatch.setattr(summary, "_recording", lambda *_: next(count) and stop())
    with pytest.raises(Stop), summary.recorded(model, {}):
        pass
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_handler_that_raises_while_parameters_lend_their_places_leaves_them_there():
    one, two = cr.ones(2), cr.zeros(2)
    with pytest.raises(AttributeError), steps._in_place([(two, one), (None, two)]):
        pass
    assert one.tolist() == [1, 1]
