"""Several threads and processes: one traces while others call, read and fork."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.compiler.frontend.specialization import Specialization
from chainrule.compiler.runtime import locks


@pytest.mark.parametrize("what", ["another function", "the same function", "reading", "tracing another"])
def test_over_the_same_weights_others_work_while_one_thread_traces(what: str) -> None:
    w = cr.tensor([1.0, 2.0])
    tracing, failed = threading.Event(), []
    other = cr.compile(lambda x: x * w)
    expected = [2.0, 4.0]
    if what != "tracing another":
        assert other(cr.tensor([2.0, 2.0])).tolist() == expected

    def f(x: Tensor, long: bool) -> Tensor:
        y = x * w
        if long:
            tracing.set()
            threading.Event().wait(0.2)
        return y

    slow = cr.compile(f)
    assert slow(cr.tensor([2.0, 2.0]), False).tolist() == expected

    def work() -> None:
        try:
            for _ in range(20):
                if what == "reading":
                    assert w.tolist() == [1.0, 2.0]
                elif what == "the same function":
                    assert slow(cr.tensor([2.0, 2.0]), False).tolist() == expected
                else:
                    assert other(cr.tensor([2.0, 2.0])).tolist() == expected
        except Exception as error:
            failed.append(error)

    tracer = threading.Thread(target=lambda: slow(cr.tensor([2.0, 2.0]), True))
    tracer.start()
    assert tracing.wait(10)
    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in (tracer, *workers):
        worker.join(30)
        assert not worker.is_alive()
    assert not failed


def test_two_threads_call_one_function() -> None:
    total = cr.zeros(1)

    @cr.compile
    def add(x: Tensor) -> None:
        total.add_(x)

    def work() -> None:
        for _ in range(200):
            add(cr.ones(1))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert total.item() == 400.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("moment", range(6))
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_another_thread_compiles_works(moment: int) -> None:
    w = cr.ones(4, requires_grad=True)

    def f(x: Tensor, i: int) -> Tensor:
        y = (w * x * i).tanh()
        for j in range(5):
            y = (y * (i + j)).sin() + w
        return y.detach()

    compiled, stop = cr.compile(f), threading.Event()

    def compile_on() -> None:
        i = 1000 * (moment + 1)
        while not stop.is_set() and i < 1000 * (moment + 1) + 14:
            compiled(cr.ones(4), i)
            i += 1

    expected = f(cr.ones(4), 3).tolist()
    worker = threading.Thread(target=compile_on)
    worker.start()
    threading.Event().wait(0.03 + 0.017 * moment)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if compiled(cr.ones(4), 3).tolist() == pytest.approx(expected, rel=1e-5) else 2
        finally:
            os._exit(code)
    stop.set()
    worker.join()
    for _ in range(300):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        threading.Event().wait(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hung")


def test_a_fork_that_loses_patience_with_a_trace_lets_programs_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.01)
    held, done, free = threading.Event(), threading.Event(), []

    def hold() -> None:
        with locks.Locks.tracing:
            held.set()
            assert done.wait(10)

    def make() -> None:
        free.append(locks.Locks.making.acquire(timeout=1))
        locks.Locks.making.release()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    locks._before_fork()
    maker = threading.Thread(target=make)
    maker.start(), maker.join()
    locks._in_parent()
    done.set(), holder.join()
    assert free == [True]


# What a thread does while another one traces a function that waits for it; in processes of their own, which may hang.
WAITING = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import chainrule as cr
from chainrule.compiler.runtime import locks

locks.LONGEST = 0.5
w, p = cr.tensor([1.0, 2.0]), cr.tensor([1.0, 2.0], requires_grad=True)
pool = ThreadPoolExecutor(2)
other, called, twice = cr.compile(lambda x: x * w), cr.compile(lambda x: x + w), cr.compile(lambda x: x + x)
called(cr.ones(2)), twice(cr.ones(2))
loss = cr.compile(lambda x: (x * p).sin().sum())(cr.ones(2))
met = threading.Barrier(2)

def wait(x):
    y = x * w
    given.append(pool.submit(work).result())
    return y

def mutual():
    return cr.compile(lambda x: (met.wait(3), x * 2)[1])(cr.ones(2)).tolist()

def same():
    return compiled(cr.ones(2)).tolist()

compiled, given = cr.compile(wait), []
work = {
    "traces": lambda: other(cr.ones(2)).tolist(), "calls": lambda: called(cr.ones(2)).tolist(),
    "calls by keyword": lambda: called(x=cr.ones(2)).tolist(), "reads": lambda: w.tolist(),
    "loops": lambda: called.loop(cr.ones(3, 2)).tolist(), "watches": lambda: called.watch(cr.ones(2)),
    "goes back": loss.backward, "calls the same function": same, "traces and waits too": mutual,
}[sys.argv[1]]
error = ""
try:
    compiled(cr.ones(2))
except cr.errors.BusyError as raised:
    error = str(raised)
given.clear()
again = [w.tolist(), called(cr.ones(2)).tolist(), other(cr.ones(2)).tolist(), twice(cr.ones(2)).tolist()]
assert again == [[1.0, 2.0], [2.0, 3.0], [1.0, 2.0], [2.0, 2.0]], again
print(error)
"""


@pytest.mark.parametrize(
    "what",
    [
        "traces", "calls", "calls by keyword", "reads", "loops", "watches", "goes back", "calls the same function",
        "traces and waits too",
    ],
)  # fmt: skip
def test_a_thread_that_a_trace_waits_for_does_not_wait_for_the_trace_for_ever(what: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(cr.__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", "-c", WAITING, what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if what == "goes back":  # needs no trace
        assert done.stdout == "\n"
        return
    function = {"traces and waits too": "mutual", "calls the same function": "same"}.get(what, "<lambda>")
    pattern = (
        r"cr\.compile: thread 'ThreadPoolExecutor-0_0' \(<string>:\d+ in FUNCTION\) waits for thread 'MainThread' to trace "
        r"a function, which is at <string>:17 in wait and has taken 0\.5 s: perhaps it waits for this thread\. Until a "
        r"trace ends, no other thread can trace, call a compiled function or read the tensors it uses\. Wait for threads "
        r"outside compiled functions, or call the compiled function once before\.\n"
    ).replace("FUNCTION", function)
    assert re.fullmatch(pattern, done.stdout), done.stdout


def test_a_function_that_waits_for_threads_works_in_a_trace_of_this_thread() -> None:
    inner = cr.compile(lambda x: x * 2)
    inner(cr.ones(2))
    outer = cr.compile(lambda x: inner(x) + 1)
    assert outer(cr.ones(2)).tolist() == [3.0, 3.0]


def test_an_array_read_while_a_step_runs_is_changed_by_that_step_and_by_none_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    w = cr.zeros(3)
    step = cr.compile(lambda: w.add_(1))
    step()
    read, run = [], Specialization.execute

    def read_by_another_thread(self: Specialization, *args: int) -> None:
        if not read:
            thread = threading.Thread(target=lambda: read.append(w.numpy()))
            thread.start()
            thread.join(30)
            assert read[0].tolist() == [1, 1, 1]
        run(self, *args)

    monkeypatch.setattr(Specialization, "execute", read_by_another_thread)
    for count in (2, 3, 4):
        step()
        assert read[0].tolist() == [2, 2, 2]
        assert w.tolist() == [count] * 3


def test_two_threads_call_one_function_of_many_forms() -> None:
    f = cr.compile(lambda x, n: x * n)
    failed: list[object] = []

    def work() -> None:
        for i in range(120):
            n = i % 6
            if f(x=cr.ones(n + 1), n=n).tolist() != [float(n)] * (n + 1):
                failed.append(n)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    assert not failed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_while_another_thread_loads_llvm_works() -> None:
    """It finds no import locked, since a fork waits for the first look at the machine."""
    script = """
import os, threading, time
import chainrule as cr
from chainrule.compiler.runtime import native
loaded, begun = native.loaded, threading.Event()
def slowly():
    begun.set()
    import llvmlite
    time.sleep(0.3)
    return loaded()
native.loaded = slowly
add = cr.compile(lambda x: x + 1)
worker = threading.Thread(target=add, args=(cr.ones(2),))
worker.start()
begun.wait()
child = os.fork()
if child == 0:
    os._exit(0 if native.machine.cache_info().currsize or "llvmlite.binding" in __import__("sys").modules else 1)
worker.join()
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=60).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_while_another_thread_frees_code_works() -> None:
    """It finds LLVM's own lock free: a thread that collects garbage holds that while it frees code that nobody needs."""
    script = """
import os, threading
import chainrule as cr
from chainrule.compiler.runtime import native
cr.compile(lambda x: x + 1)(cr.ones(2))
begun = threading.Event()
def free():
    with native.machine().llvm.ffi.lib._lock:
        begun.set()
        threading.Event().wait(0.3)
worker = threading.Thread(target=free)
worker.start()
begun.wait()
child = os.fork()
if child == 0:
    os._exit(0 if cr.compile(lambda x: x * 3)(cr.ones(2)).tolist() == [3.0, 3.0] else 1)
worker.join()
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=20).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_inside_a_trace_while_another_thread_forks_leaves_the_turn_free() -> None:
    script = """
import os, threading, time
os.register_at_fork(before=lambda: time.sleep(0.3))  # the two forks overlap
import chainrule as cr
def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
other = threading.Thread(target=fork)
def f(x):
    if not other.is_alive():
        threading.Timer(0.1, other.start).start()
        fork()
    return x * 2
cr.compile(f)(cr.ones(2))
other.join()
assert cr.compile(lambda x: x * 3)(cr.ones(2)).tolist() == [3.0, 3.0]
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=20).returncode == 0
