"""A signal whose handler raises, at whatever moment of a call, leaves everything outside as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import chainrule as cr

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
