"""A signal whose handler raises, at whatever moment of a call, leaves everything outside as it was."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import graph, nn
from chainrule.compiler.frontend import attributes, guards, outside, trace
from chainrule.compiler.frontend.capture import Capture
from chainrule.compiler.runtime import locks

# In a process of its own: what is interrupted there must not reach other tests.
PROGRAM = """
import signal, threading
import chainrule as cr
from chainrule import nn

armed = False

def handler(number, frame):
    if armed:
        raise KeyboardInterrupt

def interrupted(function, argument, seconds):
    global armed
    signal.signal(signal.SIGALRM, handler)
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, seconds)
        function(argument)
    except KeyboardInterrupt:
        return True
    finally:
        armed = False  # it may come between the call and here
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return False

stopped = 0
for turn in range(60):
    model = nn.Linear(2, 1)
    model.register_buffer("count", cr.zeros(()))

    def step(x, model=model):
        model.count = model.count + 1
        return model(x).sum()

    compiled = cr.compile(step)
    stopped += interrupted(compiled, cr.ones(2), 0.0003 + turn % 20 * 0.0001)
    before = float(model.count)
    compiled(cr.ones(2))
    assert float(model.count) == before + 1, turn

# No lock was left behind: another thread can compile.
thread = threading.Thread(target=lambda: cr.compile(lambda x: x.sin() * 3)(cr.ones(7)), daemon=True)
thread.start()
thread.join(60)
assert not thread.is_alive(), "another thread waits for a lock that nobody holds"
print(stopped)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_an_interrupted_call_leaves_buffers_and_locks_as_they_were():
    environment = {**os.environ, "PYTHONPATH": str(Path(cr.__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


class Stop(Exception):
    """Raised by a signal's handler."""


def stop(*_):
    raise Stop


@pytest.fixture
def alarms():
    """SIGALRM raises `Stop`; the mask and the handler are put back afterwards, whatever the test left."""
    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGALRM, before)


masks = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signals that can wait")


@masks
def test_a_handler_that_raises_where_signals_begin_to_wait_leaves_none_of_them_waiting(alarms, monkeypatch):
    # All in C, so that the handler is due and first runs inside the call that sets the mask.
    due = filter(None, map(_thread.interrupt_main, [signal.SIGALRM]))
    monkeypatch.setattr(locks, "_SIGNALS", chain(due, signal.valid_signals()))
    with pytest.raises(Stop):
        locks.undisturbed(pytest.fail, "the work was begun")
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


@masks
def test_a_signal_waits_until_the_work_is_over_and_is_then_let_go(alarms):
    done = []

    def work(value):
        signal.pthread_kill(threading.get_ident(), signal.SIGALRM)
        done.append(value)

    with pytest.raises(Stop):
        locks.undisturbed(work, 3)
    assert done == [3]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert locks.undisturbed(locks.undisturbed, int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        locks.undisturbed(int, "x")
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


@masks
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_signals_at_any_moment_leave_the_mask_as_it_was(alarms):
    random, stopped = np.random.default_rng(0), 0
    for _ in range(300):
        try:
            signal.setitimer(signal.ITIMER_REAL, float(random.uniform(0.0001, 0.0006)))
            while True:
                locks.undisturbed(int)
                assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
        except Stop:
            stopped += 1
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert stopped == 300


class Moments:
    """Raises `Stop` at the n-th moment of a trace, as a handler may: where a function of these files begins, or a line of it."""

    FILES = (trace.__file__, attributes.__file__, outside.__file__, guards.__file__, locks.__file__)
    LINES = ("_enter", "lift", "finish", "_finish_place", "reads_recorded")

    def __init__(self, at):
        self.left = at

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename not in self.FILES or event not in ("call", "line"):
            return None
        self.left -= 1
        if self.left < 0:
            raise Stop
        return self if frame.f_code.co_name in self.LINES else None


def stopped_at(moment, function, *args):
    """Was the call of the function over before that moment came? What else than `Stop` it raises comes out."""
    before = sys.gettrace()
    moments = Moments(moment)
    sys.settrace(moments)
    try:
        function(*args)
    except Stop:
        return True
    finally:
        sys.settrace(before)
    assert moments.left >= 0, "the exception was swallowed"
    return False


def traced(function, x):
    trace.trace_function(function, [x], lambda handles: (handles, {}), Capture(function))


def test_an_exception_at_any_moment_of_a_trace_comes_out_and_everything_is_put_back():
    model, x = nn.Linear(2, 1), cr.ones(2)
    model.register_buffer("count", cr.zeros(()))

    def step(x):
        model.count = model.count + 1
        loss = model(x).sum()
        loss.backward()
        return loss

    model.weight.grad = cr.ones(1, 2)

    def state():
        there = [x, model.weight, model.bias, model.count, model.weight.grad]
        return [*map(id, there), *(id(each._node) for each in there)]

    before, moment = state(), 0
    while stopped_at(moment, traced, step, x):
        assert state() == before, moment
        assert model.bias.grad is None
        assert graph.current_trace() is locks.Locks.trace is locks.Locks.turn.owner is None
        assert not any("__getattribute__" in vars(kind) for kind in guards._recorded)
        moment += 1
    assert moment > 200
    assert state() == before
    cr.compile(step)(x)
    assert float(model.count) == 1
    assert model.weight.grad.tolist() == [[2, 2]]
