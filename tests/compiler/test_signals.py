"""A signal whose handler raises, at whatever moment of a trace, leaves everything outside as it was."""

from __future__ import annotations

import signal
import threading

import pytest

import chainrule as cr
from chainrule import nn

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread(),
    reason="needs timers, and the thread that runs handlers",
)


def interrupted(function, argument, seconds):
    """Call it; a handler raises after so many seconds."""

    def handler(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        function(argument)
    except KeyboardInterrupt:
        return True
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return False


@pytest.mark.filterwarnings("ignore")  # what LLVM was making when it was stopped complains when it goes
def test_buffers_survive_an_interrupted_trace():
    stopped = 0
    for turn in range(60):
        model = nn.Linear(2, 1)
        model.register_buffer("count", cr.zeros(()))

        def step(x, model=model):
            model.count = model.count + 1
            return model(x).sum()

        compiled = cr.compile(step)
        stopped += interrupted(compiled, cr.ones(2), 0.0004 + turn * 0.00005)
        before = float(model.count)
        compiled(cr.ones(2))
        assert float(model.count) == before + 1
    assert stopped > 10
