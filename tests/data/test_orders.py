"""The orders of many epochs at once are those one by one."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from chainrule.data import orders, shuffled_indices
from chainrule.data.orders import shuffled_orders
from chainrule.errors import DataError

LARGEST = 2**64 - 1


@pytest.mark.parametrize(
    "n", [0, 1, 2, 3, 4, 5, 7, 8, 9, 178, 1000, 1024, 4096, 4097, 60_000, orders.FEW, orders.FEW + 1]
)
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 31), (LARGEST, LARGEST - 2)])
def test_each_is_the_one_that_its_epoch_has_alone(n, seed, epoch):
    found = shuffled_orders(n, seed, epoch, 3)
    expected = [shuffled_indices(n, seed, epoch + i) for i in range(3)]
    assert found.dtype == np.int64 and found.shape == (3, n)
    assert np.array_equal(found, np.stack(expected))


def test_none_and_one():
    assert shuffled_orders(5, 0, 0, 0).shape == (0, 5)
    assert np.array_equal(shuffled_orders(5, 0, 9, 1)[0], shuffled_indices(5, 0, 9))


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("n", [0, 1, 50])
def test_they_are_written_where_one_says(n, count):
    room = np.full((5, n), -1)
    found = shuffled_orders(n, 7, 2, count, room[1 : 1 + count])
    assert np.shares_memory(found, room) == (n * count > 0)
    assert np.array_equal(room[1 : 1 + count], shuffled_orders(n, 7, 2, count))
    assert (room[0] == -1).all() and (room[1 + count :] == -1).all()


def test_they_are_written_to_nothing_else():
    for room in (np.empty((2, 4), np.int64), np.empty((2, 5), np.int32), np.empty((5, 2), np.int64).T):
        message = re.escape(
            f"shuffled_orders: into must be an int64 array of shape (2, 5) in row-major order, got {room.dtype} of shape "
            f"{room.shape} with strides {room.strides}. Pass np.empty((2, 5), np.int64)."
        )
        with pytest.raises(DataError, match=message):
            shuffled_orders(5, 0, 0, 2, room)


@pytest.mark.parametrize("given", [(-1, 0, 0, 2), (5, -1, 0, 2), (5, 0, -1, 2), (5, 0, 0, -1), (5, 0, LARGEST, 2)])
def test_there_is_none_of_what_cannot_be_counted(given):
    with pytest.raises(DataError, match=re.escape("0")):
        shuffled_orders(*given)


def test_two_threads_may_ask_first_at_once():
    expected = shuffled_orders(60_000, 3, 0, 3)
    for _ in range(8):
        orders._code.cache_clear()
        together = threading.Barrier(4)

        def ask(together=together):
            together.wait()
            return shuffled_orders(60_000, 3, 0, 3)

        with ThreadPoolExecutor(4) as pool:
            found = [future.result() for future in [pool.submit(ask) for _ in range(4)]]
        assert all(np.array_equal(each, expected) for each in found)
