"""The native functions compute what their text says, and the peaks are there for any size."""

import ctypes
import threading

import numpy as np
import pytest

from chainrule.cli.bench import machine
from chainrule.compiler.runtime import native


def test_multiply_adds():
    lanes = native.machine().target.lanes("float")
    run = machine.native_function(machine._multiply_adds(lanes), "multiply_adds", machine._RUN)
    values = np.random.default_rng(0).random((12, lanes)).astype(np.float32)
    expected = values.astype(np.float64)
    for _ in range(3):
        expected = expected * values[0] + values[1]
    run(3, values.ctypes.data)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("passes", [1, 2])
def test_triad(passes):
    run = machine.native_function(machine._triad(8), "triad", machine._RUN_OVER)
    a, b = np.arange(64, dtype=np.float32), np.ones(64, np.float32)
    expected = a.copy()
    for _ in range(passes):
        expected = expected / 2 + b
    run(passes, 64, a.ctypes.data, b.ctypes.data)
    assert (a == expected).all()


def test_a_native_function_outlives_its_module():
    text = "define i64 @twice(i64 %x) {\n%y = add i64 %x, %x\nret i64 %y\n}"
    assert machine.native_function(text, "twice", ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64))(21) == 42


def test_two_write_in_turn():
    run = machine.native_function(
        machine._turns(), "turns", ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    )
    counter = np.zeros(1, np.int64)
    other = threading.Thread(target=run, args=(500, 1, counter.ctypes.data))
    other.start()
    run(500, 0, counter.ctypes.data)
    other.join()
    assert counter[0] == 1000
    assert machine.handover_ns(rounds=1) > 0


def test_peaks_are_there_for_any_size():
    assert machine.peak_gflops(2, rounds=1) > 0
    assert all(machine.stream_gbytes(size, threads, rounds=1) > 0 for size in (1, 100_000) for threads in (1, 3))
