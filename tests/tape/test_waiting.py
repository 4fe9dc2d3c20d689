"""What waits: when it is computed, what it keeps, what it says, and to whom."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import chainrule as cr
from chainrule import graph, nn, optim
from chainrule.errors import DataError, GradientError, IndexRangeError, ShapeError
from chainrule.nn import functional
from chainrule.tape import doors, own_tape, path, segments, tape

from . import interrupted


def waits(tensor):
    return tensor._node._array is None


QUESTIONS = {
    "item": lambda x: x.sum().item() == 6,
    "numpy": lambda x: x.numpy().tolist() == [2, 2, 2],
    "array": lambda x: np.asarray(x).sum() == 6,
    "tolist": lambda x: x.tolist() == [2, 2, 2],
    "repr": lambda x: repr(x) == "tensor([2., 2., 2.])",
    "bool": lambda x: bool((x == 2).all()),
    "float": lambda x: float(x[1]) == 2,
    "format": lambda x: f"{x[0]:.1f}" == "2.0",
    "in": lambda x: 2 in x.tolist(),
    "mask": lambda x: x[x > 1].shape == (3,),
    "pickle": lambda x: pickle.loads(pickle.dumps(x)).tolist() == [2, 2, 2],
    "copy": lambda x: copy.copy(x).tolist() == [2, 2, 2],
    "deepcopy": lambda x: copy.deepcopy(x).tolist() == [2, 2, 2],
    "compiled": lambda x: cr.compile(lambda y: y + 1)(x).tolist() == [3, 3, 3],
    "iteration": lambda x: [v.item() for v in x] == [2, 2, 2],
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_value_is_there_when_it_is_asked_for(question):
    with cr.eager(False):
        x = cr.ones(3) + 1
        assert waits(x)
        assert question(x)
        assert not waits(x)


def test_the_block_ends_with_everything_computed():
    with cr.eager(False):
        x = cr.ones(3) + 1
        with cr.eager():
            assert not waits(x)
            assert not waits(x + 1)
        y = x + 1
        assert waits(y)
    assert not waits(y)
    assert not waits(y + 1)


def test_as_a_function_it_holds_from_there_on():
    try:
        cr.eager(False)
        assert waits(cr.ones(3) + 1)
    finally:
        cr.eager()
    assert not waits(cr.ones(3) + 1)


def test_an_array_of_the_user_s_is_read_when_the_operation_is_written():
    array = np.ones(3, np.float32)
    with cr.eager(False):
        doubled = cr.from_numpy(array) * 2
        array[:] = 5
        assert doubled.tolist() == [2, 2, 2]


def test_values_that_somebody_holds_stay_as_they_were_when_a_program_writes_where_they_lay():
    w = nn.Parameter(cr.ones(3))
    optimizer = optim.SGD([w], lr=1.0)
    with cr.eager(False):
        for turn in range(8):
            array, clone = w.detach().numpy(), w.detach().clone()
            node = w._node
            optimizer.zero_grad()
            w.sum().backward()
            optimizer.step()
            assert array.tolist() == clone.tolist() == node.value.tolist() == [1 - turn] * 3
            assert w.tolist() == [-turn] * 3
        del array, clone, node
        for _ in range(4):
            optimizer.zero_grad()
            w.sum().backward()
            optimizer.step()
        where = w._node._array.ctypes.data
        for _ in range(3):
            optimizer.zero_grad()
            w.sum().backward()
            optimizer.step()
        assert w._node._array.ctypes.data == where
    assert w.tolist() == [-14] * 3


def test_what_a_history_reads_is_not_overwritten():
    w = nn.Parameter(cr.ones(3))
    optimizer = optim.SGD([w], lr=1.0)
    with cr.eager(False):
        for _ in range(6):
            kept = (w**2).sum()
            optimizer.zero_grad()
            w.sum().backward()
            before = w.tolist()
            optimizer.step()
            w.grad = None
            kept.backward()
            assert w.grad.tolist() == [2 * v for v in before]


def test_memory_stays_where_nobody_asks():
    x = cr.ones(64)
    with cr.eager(False):
        for _ in range(10_000):
            x = x * 0.999 + 0.001
            assert len(own_tape().results) < path.MOST
        gc.collect()
        assert own_tape().grown < tape.MANY
        assert sum(type(each) is graph.Node for each in gc.get_objects()) < 20_000
        assert x.tolist() == [1.0] * 64


def test_many_bytes_do_not_wait(monkeypatch):
    monkeypatch.setattr(path, "ROOM", 1 << 20)
    with cr.eager(False):
        kept = [cr.ones(1 << 16) * i for i in range(1, 7)]
        assert [waits(x) for x in kept] == [False] * 4 + [True] * 2


def test_many_segments_that_never_come_again_are_forgotten(monkeypatch):
    monkeypatch.setattr(tape, "MANY", 100)
    with cr.eager(False):
        for size in range(1, 120):
            assert (cr.ones(size) + 1).sum().item() == 2 * size
        assert own_tape().grown <= 110
        assert not own_tape().compiled


def test_what_python_cannot_compare_may_stand_among_the_tensors():
    with cr.eager(False):
        for _ in range(4):
            assert functional.linear(cr.ones(1, 2), cr.ones(1, 2), np.ones(1, np.float32)).tolist() == [[3]]
            loss = functional.cross_entropy(cr.zeros(1, 2), cr.tensor([1]), ignore_index=np.array(-100))
            assert loss.item() == pytest.approx(np.log(2))


# -- errors ---------------------------------------------------------------------------------------
def line():
    return sys._getframe(1).f_lineno


@pytest.mark.parametrize("rounds", [1, 5])
def test_an_error_about_a_value_names_the_line_of_the_operation(rounds):
    x = cr.ones(3, 2)
    with cr.eager(False):
        for turn in range(rounds):
            index = cr.tensor([0, 7 if turn == rounds - 1 else 2])
            taken, at = x[index], line()
            total = taken.sum() + 1
            if turn < rounds - 1:
                assert total.item() == 5
        text = (
            f"index (test_waiting.py:{at} in test_an_error_about_a_value_names_the_line_of_the_operation): index 7 is out of "
            f"range for axis 0 of size 3: it must be in [-3, 2]. Check the indices (labels start at 0)."
        )
        for asked in (total, taken, total):
            with pytest.raises(IndexRangeError, match=f"^{re.escape(text)}$"):
                asked.tolist()
        assert (x + 1).tolist() == [[2, 2]] * 3


@pytest.mark.parametrize("rounds", [1, 6])
def test_where_a_step_could_not_be_computed_the_parameters_stand_as_before(rounds):
    table = nn.Parameter(cr.ones(4, 2))
    optimizer = optim.Adam([table], lr=0.5)
    with cr.eager(False):
        for turn in range(rounds):
            before, state = table.tolist(), [t.tolist() for t in optimizer.state[table].values()]
            optimizer.zero_grad()
            loss = table[cr.tensor([1, 9 if turn == rounds - 1 else 3])].sum()
            loss.backward()
            optimizer.step()
            if turn < rounds - 1:
                assert table.tolist() != before
        with pytest.raises(IndexRangeError, match="index 9 is out of range"):
            loss.item()
        assert table.tolist() == before
        assert [t.tolist() for t in optimizer.state[table].values()] == state
        assert table.grad is None
        table[cr.tensor([1])].sum().backward()
        optimizer.step()
        assert table.tolist() != before


def test_shapes_and_labels_are_refused_at_once():
    with cr.eager(False):
        for _ in range(4):
            x = cr.ones(2, 3) * 2
            with pytest.raises(ShapeError, match=rf"test_waiting.py:{line() + 1} in"):
                x + cr.ones(4)
            with pytest.raises(DataError, match=rf"test_waiting.py:{line() + 1} in .*label 5"):
                functional.cross_entropy(x, cr.tensor([0, 5]))
            assert x.sum().item() == 12


def test_a_history_is_walked_once():
    w = nn.Parameter(cr.ones(3))
    with cr.eager(False):
        for retain in (True, True, True, True, False):
            w.grad = None
            trunk = w * w
            first, second = trunk.sum(), (trunk * 2).sum()
            first.backward(retain_graph=retain)
            w.grad = None
            if retain:
                second.backward()
                assert w.grad.tolist() == [4, 4, 4]
            else:
                with pytest.raises(GradientError, match="was freed by an earlier backward pass"):
                    second.backward()


def test_gradients_of_gradients():
    with cr.eager(False):
        for _ in range(4):
            x = cr.tensor([1.0, 2.0], requires_grad=True)
            (x**3).sum().backward(create_graph=True)
            first, x.grad = x.grad, None
            first.sum().backward()
            assert x.grad.tolist() == [6, 12]
            assert cr.hessian(lambda x: (x**3).sum())(cr.tensor([1.0, 2.0])).tolist() == [[6, 0], [0, 12]]


def test_a_gradient_kept_of_what_is_no_leaf():
    w = nn.Parameter(cr.ones(2))
    with cr.eager(False):
        for turn in range(6):
            w.grad = None
            y = w * 3
            if turn % 2:
                y.retain_grad()
            (y**2).sum().backward()
            assert w.grad.tolist() == [18, 18]
            assert (y.grad is not None) == bool(turn % 2)
            assert not turn % 2 or y.grad.tolist() == [6, 6]


def test_settings_and_state_that_change_are_those_that_a_step_uses():
    def trained():
        w, v = nn.Parameter(cr.ones(2)), nn.Parameter(cr.ones(2))
        optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
        found = []
        for turn in range(12):
            optimizer.zero_grad()
            ((w + v) ** 2).sum().backward()
            optimizer.step()
            found.append(w.tolist() + v.tolist())
            if turn == 3:
                optimizer.state.clear()
            if turn == 5:
                optimizer.param_groups[0]["weight_decay"] = 0.1
            if turn == 7:
                optimizer.param_groups = [{**optimizer.param_groups[0], "lr": 0.01}]
            if turn == 9:
                optimizer.add_param_group({"params": [v], "lr": 0.2})
        return found

    expected = trained()
    with cr.eager(False):
        np.testing.assert_allclose(trained(), expected, rtol=1e-6)


def test_writes_and_views():
    def script():
        x, found = cr.zeros(2, 3), []
        for turn in range(5):
            row = x[1]
            x += 1
            row *= 2
            x[0, 1] = turn
            found.append([*x.tolist(), row.tolist()])
        return found

    expected = script()
    with cr.eager(False):
        assert script() == expected


# -- threads, forks, signals ------------------------------------------------------------------------
def test_another_thread_reads_what_waits_here_and_waits_with_its_own():
    found = []

    def reads(x):
        found.append(x.tolist())
        with cr.eager(False):
            y = x * 2 + other
            found.append(y.tolist())

    with cr.eager(False):
        for _ in range(4):
            x, other = cr.ones(3) + 1, cr.ones(3) * 3
            thread = threading.Thread(target=reads, args=(x,))
            thread.start()
            thread.join(30)
    assert found == [[2, 2, 2], [7, 7, 7]] * 4


def test_threads_record_at_once():
    found, failed = [], []

    def trains(seed):
        try:
            with cr.eager(False):
                w = nn.Parameter(cr.ones(4) * seed)
                optimizer = optim.Adam([w], lr=0.1)
                for _ in range(30):
                    optimizer.zero_grad()
                    ((w * shared - 1) ** 2).sum().backward()
                    optimizer.step()
                found.append((seed, w.tolist()))
        except BaseException as error:
            failed.append(error)

    shared = cr.ones(4) * 0.5
    threads = [threading.Thread(target=trains, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    together, found = dict(found), []
    for seed in (1, 2, 3):
        trains(seed)
    np.testing.assert_allclose([v for _, v in found], [together[seed] for seed, _ in found], rtol=1e-6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_has_the_values():
    with cr.eager(False):
        x = cr.ones(3) + 1
        child = os.fork()
        if child == 0:
            os._exit(0 if x.tolist() == [2, 2, 2] and (x + 1).tolist() == [3, 3, 3] else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert x.tolist() == [2, 2, 2]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_a_signal_s_handler_records_and_asks():
    wrong, count = [], 0
    w = nn.Parameter(cr.ones(3))
    optimizer = optim.SGD([w], lr=0.0)

    def handler(*_):
        nonlocal count
        count += 1
        try:
            mine = count  # another may come in this one
            assert (cr.ones(3) * mine).sum().item() == 3 * mine
        except BaseException as error:
            wrong.append(error)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        until = time.monotonic() + 0.5
        with cr.eager(False):
            while time.monotonic() < until:
                optimizer.zero_grad()
                loss = ((w * 2 + 1) ** 2).sum()
                loss.backward()
                optimizer.step()
                assert loss.item() == 27
                assert w.grad.tolist() == [12] * 3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert count > 10
    assert not wrong, wrong[0]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_of_a_handler_s_leaves_values_that_are_right():
    """However far the step came: each parameter has moved, or not.

    An alarm that rings inside a finalizer of anybody's (LLVM's objects have some) is printed by Python and goes nowhere; the
    step then goes on, and its values are right as well.
    """
    parameters = [nn.Parameter(cr.zeros(3)) for _ in range(8)]
    optimizer = optim.SGD(parameters, lr=1.0)

    def handler(*_):
        raise KeyboardInterrupt

    def step():
        optimizer.zero_grad()
        cr.stack([p.sum() for p in parameters]).sum().backward()
        optimizer.step()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with cr.eager(False):
            for _ in range(5):
                step()
            for i in range(150):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.000005 * i)
                    for _ in range(20):
                        step()
                    time.sleep(0.002)
                except KeyboardInterrupt:
                    pass
                signal.setitimer(signal.ITIMER_REAL, 0)
                cr.set_grad_enabled(True)  # which a handler that raises where a `with` ends may leave off
                values = np.array([p.tolist() for p in parameters])
                assert np.ptp(values) <= i + 1
                assert (values == np.round(values)).all()
                step()
                assert (np.array([p.tolist() for p in parameters]) == values - 1).all()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_environment_lets_all_threads_wait():
    code = (
        "import threading, chainrule as cr\n"
        "def waits(): print((cr.ones(3) + 1)._node._array is None)\n"
        "waits(); t = threading.Thread(target=waits); t.start(); t.join(); cr.eager(); waits()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CHAINRULE_EAGER": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["True", "True", "False"]


@pytest.mark.parametrize("script", interrupted.SCRIPTS)
def test_a_handler_may_come_in_at_any_line(script, monkeypatch):
    """At some of them, of the step that is recorded and of the first that is found again, with nothing compiled.

    All of them: `python -m tests.tape.interrupted`.
    """
    monkeypatch.setattr(tape, "HOT", 10**9)
    assert interrupted.differences(script, 0, 257, 100) == []
    assert interrupted.differences(script, 2, 257) == []


@pytest.mark.parametrize("script", [interrupted.adds_up, interrupted.classifies])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_handler_that_raises_leaves_nothing_behind(script, monkeypatch):
    """(Where a user's own `with no_grad():` ends it may leave gradients off, as in PyTorch.)"""
    monkeypatch.setattr(tape, "HOT", 10**9)
    assert interrupted.left_behind(script, 2, 53) == []


def test_a_handler_may_come_in_where_what_was_recorded_is_noted(monkeypatch):
    w, note, ready = cr.ones(3, requires_grad=True), doors._note, doors._recorded

    def noted(*given):
        assert cr.ones(3).sum().item() == 3
        note(*given)

    def recorded(*given):
        assert cr.ones(3).sum().item() == 3
        ready(*given)

    with cr.eager(False):
        for turn in range(8):
            if turn == 4:
                monkeypatch.undo()
            elif turn < 4:
                monkeypatch.setattr(doors, "_note", noted)
                monkeypatch.setattr(doors, "_recorded", recorded if turn % 2 else ready)
            w.grad = None
            ((w * 2 + 1) ** 2).sum().backward()
            assert w.grad.tolist() == [12] * 3


def test_an_exception_of_a_handler_s_is_not_taken_for_the_operation_s(monkeypatch):
    """It arrives at once, and what waited goes on to wait."""
    value, raised = segments.Interpreted._value, []

    def interrupted(*given):
        if not raised:
            raised.append(True)
            raise TimeoutError
        return value(*given)

    monkeypatch.setattr(segments.Interpreted, "_value", staticmethod(interrupted))
    with cr.eager(False):
        x = cr.ones(3) + 1
        with pytest.raises(TimeoutError):
            x.tolist()
        assert x.tolist() == [2, 2, 2]


def test_weights_are_made_at_once_with_the_same_bits_and_without_programs():
    def weights():
        cr.manual_seed(0)
        layers = [nn.Linear(5, 5) for _ in range(8)]
        nn.init.xavier_normal_(layers[0].weight)
        nn.init.constant_(layers[0].bias, 0.5)
        nn.init.orthogonal_(layers[1].weight)
        return [p.detach().numpy() for layer in layers for p in layer.parameters()]

    expected = weights()
    with cr.eager(False):
        for _ in range(4):
            for a, b in zip(weights(), expected, strict=True):
                np.testing.assert_array_equal(a, b)
        assert not own_tape().compiled
        with pytest.raises(TypeError, match="there is no keyword 'low'"):
            nn.init.uniform_(cr.ones(2), low=1.0)
