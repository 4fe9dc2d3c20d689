"""Code that comes in the middle of an operation (a signal's handler, a finalizer) may compute with tensors itself."""

import signal
import time

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.quiet import quietly


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
