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


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 8, 9, 178, 1000, 1024, 4096, 4097, 60_000])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 31), (LARGEST, LARGEST - 2)])
def test_each_is_the_one_that_its_epoch_has_alone(n, seed, epoch):
    found = shuffled_orders(n, seed, epoch, 3)
    expected = [shuffled_indices(n, seed, epoch + i) for i in range(3)]
    assert found.dtype == np.int64 and found.shape == (3, n)
    assert np.array_equal(found, np.stack(expected))


def test_none_and_one():
    assert shuffled_orders(5, 0, 0, 0).shape == (0, 5)
    assert np.array_equal(shuffled_orders(5, 0, 9, 1)[0], shuffled_indices(5, 0, 9))


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
