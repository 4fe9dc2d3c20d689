"""Threads change how fast a program runs and nothing else: same bits, no crash, no hang."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.compiler.codegen import entry
from chainrule.compiler.plan import cost
from chainrule.compiler.runtime import run, threads
from chainrule.compiler.runtime.thread_tuner import ThreadTuner
from chainrule.errors import SettingError
from chainrule.tensor.core import stored

pytestmark = pytest.mark.usefixtures("everything_divided")


def trainer(sizes=(13, 37, 10), dropout=0.1, batch=23, dtype=cr.float32):
    cr.manual_seed(3)
    model = nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.Tanh(), nn.Dropout(dropout), nn.Linear(sizes[1], sizes[2]))
    model.to(dtype)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    X = cr.tensor(rng.standard_normal((200, sizes[0]))).to(dtype)
    y = cr.tensor(rng.integers(0, sizes[2], 200))

    @cr.compile
    def step(rows):
        output = model(X[rows])
        loss = F.cross_entropy(output, y[rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss, (output.argmax(1) == y[rows]).float().mean()

    order = cr.tensor(rng.integers(0, 200, (3000, batch)))
    return model, step, order


def bits(model):
    return b"".join(stored(p).tobytes() for p in model.parameters())


def test_thousands_of_steps_give_the_same_bits_on_any_number_of_threads():
    found = []
    for count in (1, 2, 3, 4, 8):
        cr.set_num_threads(count)
        model, step, order = trainer()
        losses, _ = step.loop(order[: 2000 if count <= 2 else 300])
        found.append(losses.numpy())
        if count == 1:
            expected = bits(model)
        elif count == 2:
            assert bits(model) == expected
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0][: len(other)])


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64])
@pytest.mark.parametrize(
    ("sizes", "batch"), [((7, 65, 3), 1), ((1, 3, 2), 3), ((30, 128, 2), 64), ((33, 100, 13), 37), ((64, 31, 10), 7)]
)
def test_the_same_bits_whatever_is_odd_about_the_shapes(sizes, batch, dtype):
    """Fewer rows than threads, remainders of tiles and vectors, one row, one column."""
    found = set()
    for count in (1, 2, 3, 8):
        cr.set_num_threads(count)
        model, step, order = trainer(sizes, batch=batch, dtype=dtype)
        losses, _ = step.loop(order[:60])
        found.add((bits(model), losses.numpy().tobytes()))
    assert len(found) == 1


def test_the_same_bits_of_a_network_in_bfloat16():
    found = set()
    for count in (1, 2, 3, 4):
        cr.set_num_threads(count)
        model, step, order = trainer((33, 100, 13), batch=37, dtype=cr.bfloat16)
        losses, _ = step.loop(order[:60])
        found.add((bits(model), stored(losses).tobytes()))
    assert len(found) == 1


def test_the_pace_may_change_in_the_middle_of_a_loop(monkeypatch):
    pieces = {50: (2, 7), 43: (1, 5), 38: (3, 38)}
    monkeypatch.setattr(ThreadTuner, "choose", lambda self, left, limit: pieces[left])
    cr.set_num_threads(3)
    model, step, order = trainer()
    losses, _ = step.loop(order[:50])
    monkeypatch.setattr(ThreadTuner, "choose", lambda self, left, limit: (1, left))
    other, again, _ = trainer()
    expected, _ = again.loop(order[:50])
    np.testing.assert_array_equal(losses.numpy(), expected.numpy())
    assert bits(model) == bits(other)


def test_an_index_error_after_a_change_of_pace_names_the_step_of_the_loop(monkeypatch):
    monkeypatch.setattr(ThreadTuner, "choose", lambda self, left, limit: (2, 7) if left == 20 else (1, left))
    cr.set_num_threads(2)
    _, step, order = trainer()
    bad = order[:20].clone()
    bad[9, 0] = 200
    with pytest.raises(IndexError, match=r"step 9 of the loop: an index is out of range for an axis of size 200"):
        step.loop(bad)


def test_every_thread_flushes_denormals_and_none_keeps_doing_so():
    cr.set_num_threads(4)
    tiny = cr.tensor(np.full((64, 64), 1e-38, np.float32))
    halve = cr.compile(lambda x: x * 0.01)
    assert halve(tiny).numpy().max() == 0.0
    seen = []
    threads._pool.run(4, lambda number: seen.append(float(np.float32(1e-38) * np.float32(0.01))))
    while len(seen) < 4:  # the workers answer in their own time
        pass
    assert min(seen) > 0


def test_a_loop_and_single_calls_give_the_same_bits():
    cr.set_num_threads(3)
    model, step, order = trainer()
    losses, _ = step.loop(order[:50])
    other, single, _ = trainer()
    alone = [single(order[i])[0].item() for i in range(50)]
    assert losses.tolist() == alone
    assert bits(model) == bits(other)


def test_an_index_error_stops_all_threads_at_a_step_boundary():
    cr.set_num_threads(4)
    model, step, order = trainer()
    step.loop(order[:10])
    other, again, _ = trainer()
    again.loop(order[:10])
    bad = order[10:20].clone()
    bad[0, 0] = 200
    with pytest.raises(IndexError, match="step 0|out of range for an axis of size 200"):
        step.loop(bad)
    assert bits(model) == bits(other)
    step.loop(order[10:20])  # and the workers are fit for the next run


def test_programs_called_from_several_python_threads_at_once():
    # Without dropout: all trainers of a process draw from one generator, in whatever order they run.
    cr.set_num_threads(2)
    expected = []
    for _ in range(2):
        model, step, order = trainer(dropout=0.0)
        step.loop(order[:200])
        expected.append(bits(model))
    prepared = [trainer(dropout=0.0) for _ in range(4)]
    callers = [threading.Thread(target=step.loop, args=(order[:200],)) for _, step, order in prepared]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert {bits(model) for model, _, _ in prepared} == {expected[0]}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of any fork beside threads
def test_a_forked_child_trains_on_workers_of_its_own():
    cr.set_num_threads(2)
    model, step, order = trainer()
    step.loop(order[:10])
    child = os.fork()
    if child == 0:
        step.loop(order[10:20])
        os._exit(0 if np.isfinite(np.frombuffer(bits(model), np.float32)).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def waiting(monkeypatch):
    """Single calls on three threads, whose workers wait for the next one for as long as it takes."""
    monkeypatch.setattr(ThreadTuner, "choose", lambda self, left, limit: (3, left))
    monkeypatch.setattr(cost, "PATIENCE", 1 << 62)
    monkeypatch.setattr(run, "SOON", 1e9)
    cr.set_num_threads(3)
    yield
    if threads._pool.states is not None:
        threads._pool.states[:] = entry.AWAY


def starts(monkeypatch):
    """How often a sleeping worker was woken."""
    seen, start = [], threads._Worker.start
    monkeypatch.setattr(threads._Worker, "start", lambda self, work: (seen.append(self.number), start(self, work))[1])
    return seen


def test_workers_that_wait_for_the_next_call_need_not_be_woken(monkeypatch, waiting):
    model, step, order = trainer()
    step(order[0])
    woken = starts(monkeypatch)
    for rows in order[1:200]:
        step(rows)
    assert woken == []
    other, again, _ = trainer()
    cr.set_num_threads(1)
    again.loop(order[:200])
    assert bits(model) == bits(other)


def test_workers_that_wait_for_one_program_come_to_another(monkeypatch, waiting):
    (first, one, order), (second, two, _) = trainer(dropout=0.0), trainer(dropout=0.0)
    for rows in order[:50]:
        one(rows)
        two(rows)
    assert bits(first) == bits(second)


def test_workers_leave_when_their_patience_ends(monkeypatch, waiting):
    """Few turns: some calls find them waiting, some asleep, some about to leave."""
    model, step, order = trainer()
    for number, rows in enumerate(order[:700]):
        monkeypatch.setattr(cost, "PATIENCE", 7 * number % 1500)
        step(rows)
    other, again, _ = trainer()
    cr.set_num_threads(1)
    again.loop(order[:700])
    assert bits(model) == bits(other)


def test_an_index_error_finds_the_workers_fit_for_the_next_call(waiting):
    _, step, order = trainer()
    step(order[0])
    bad = order[1].clone()
    bad[0] = 200
    for _ in range(3):
        with pytest.raises(IndexError, match="out of range for an axis of size 200"):
            step(bad)
        step(order[0])


def test_more_threads_than_before_while_some_wait(monkeypatch, waiting):
    model, step, order = trainer()
    for number, rows in enumerate(order[:60]):
        monkeypatch.setattr(ThreadTuner, "choose", lambda self, left, limit, n=number: (1 + n % 8, left))
        step(rows)
    other, again, _ = trainer()
    monkeypatch.setattr(ThreadTuner, "choose", lambda self, left, limit: (1, left))
    again.loop(order[:60])
    assert bits(model) == bits(other)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of any fork beside threads
def test_a_forked_child_waits_for_none_of_its_parent_s_workers(waiting):
    _, step, order = trainer()
    step(order[0])
    step(order[1])
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        step(order[2])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    step(order[2])


def test_workers_do_not_wait_long_nor_after_a_call_now_and_then(monkeypatch):
    """Idle workers cost nothing: no processor time passes while nobody calls."""
    monkeypatch.setattr(ThreadTuner, "choose", lambda self, left, limit: (2, left))
    cr.set_num_threads(2)
    _, step, order = trainer()
    for rows in order[:20]:
        step(rows)
    time.sleep(0.02)
    began = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - began < 0.03
    step(order[0])  # long after the one before
    assert not threads._pool.states.any()


ON_ONE_PROCESSOR = """
import os, threading
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
import chainrule as cr
from chainrule.compiler.runtime import threads
a, b = cr.ones(1024, 1024), cr.ones(1024, 1024)
product = cr.compile(lambda a, b: a @ b)
loop = cr.compile(lambda i: a @ (b + i)).loop(cr.arange(5))
print(cr.get_num_threads(), threads.available_cpus(), len(threads._pool.workers), threading.active_count())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")
def test_a_process_kept_to_one_processor_uses_one_thread():
    environment = {name: value for name, value in os.environ.items() if name != "CHAINRULE_NUM_THREADS"}
    found = subprocess.run(
        [sys.executable, "-c", ON_ONE_PROCESSOR], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["1", "1", "0", "1"]


def test_ctrl_c_during_a_threaded_loop_leaves_the_state_at_a_step_boundary(monkeypatch):
    """The signal comes from outside, while two threads are inside the native loop."""
    monkeypatch.setattr(ThreadTuner, "choose", lambda self, left, limit: (2, min(left, 50)))
    cr.set_num_threads(2)
    model, step, order = trainer(dropout=0.0)
    other, again, _ = trainer(dropout=0.0)
    for compiled in (step, again):
        compiled.loop(order[:1])
    rows = order[:1000].repeat(40, 1)

    def forever():
        while True:
            step.loop(rows)

    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        forever()
    timer.join()
    stopped, pieces = bits(model), 0
    while bits(other) != stopped and pieces < 4000:  # after some whole number of pieces the other one is there, too
        start = pieces * 50 % len(rows)
        again.loop(rows[start : start + 50])
        pieces += 1
    assert bits(other) == stopped
    assert pieces > 0


def test_an_interrupt_waits_for_the_end_of_the_run():
    seen = []

    def work(number):
        if number == 0:
            signal.raise_signal(signal.SIGINT)
        seen.append(number)

    with pytest.raises(KeyboardInterrupt):
        threads.together(1, work, lambda: None, np.zeros(1), lambda: False)
    assert seen == [0]


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2", 5000])
def test_a_bad_number_of_threads(bad):
    text = f"set_num_threads: the number of threads must be a whole number from 1 to 1024, got {bad!r}."
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        cr.set_num_threads(bad)


def test_a_bad_environment_variable(monkeypatch):
    monkeypatch.setenv("CHAINRULE_NUM_THREADS", "many")
    text = "CHAINRULE_NUM_THREADS must be a whole number of threads, got 'many'."
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        threads._from_environment()


def attention(q, k, v):
    return ((q @ k.mT) * 0.25).softmax(-1) @ v


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda a, b: a @ b, [(1000, 16, 16), (1000, 16, 16)]),
        (lambda a, b: a @ b, [(3, 5, 17, 9), (3, 5, 9, 33)]),
        (lambda a, b: (a @ b).relu() + 1, [(11, 40, 70), (70, 35)]),  # one factor for all
        (lambda a, b: a @ b, [(9, 64, 300), (9, 300, 64)]),  # packed
        (attention, [(2, 3, 20, 16)] * 3),
    ],
)
def test_a_batch_of_products_has_the_same_bits_on_any_number_of_threads(function, shapes):
    rng = np.random.default_rng(4)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    compiled = cr.compile(lambda *inputs: cr.value_and_grad(lambda *x: (function(*x) ** 2).sum(), (0, 1))(*inputs))
    found = set()
    for count in range(1, 9):
        cr.set_num_threads(count)
        value, gradients = compiled(*map(cr.tensor, arrays))
        found.add(b"".join(t.detach().numpy().tobytes() for t in (value, *gradients)))
    assert len(found) == 1
