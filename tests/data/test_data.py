"""The bundled digits, splits and orders."""

import re

import numpy as np
import pytest

from chainrule.data import load, shuffled_indices, train_test_split
from chainrule.data.sources import read_digits
from chainrule.errors import UnknownNameError


def test_digits_are_scikit_learns_bytes():
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()
    images, labels = read_digits()
    np.testing.assert_array_equal(images, theirs.images)
    np.testing.assert_array_equal(labels, theirs.target)


def test_the_split_is_fixed_and_complete():
    digits = load("digits")
    (X, y), (Xt, yt) = digits.train, digits.test
    assert (X.shape, Xt.shape, X.dtype, y.dtype) == ((1437, 64), (360, 64), np.float32, np.int64)
    images, _ = read_digits()
    together = np.sort((np.concatenate([X, Xt]) * 16).astype(np.uint8).view("S64").ravel())
    np.testing.assert_array_equal(together, np.sort(images.reshape(-1, 64).view("S64").ravel()))
    np.testing.assert_array_equal(load("digits").test.y, yt)
    assert np.bincount(yt).min() >= 34  # stratified


def test_an_unknown_name():
    text = "unknown dataset 'mnist'. Known: digits."
    with pytest.raises(UnknownNameError, match=f"^{re.escape(text)}$"):
        load("mnist")


def test_orders_are_permutations_that_seed_and_epoch_fix():
    first = shuffled_indices(100, seed=1, epoch=2)
    np.testing.assert_array_equal(np.sort(first), np.arange(100))
    np.testing.assert_array_equal(first, shuffled_indices(100, seed=1, epoch=2))
    assert (first != shuffled_indices(100, seed=1, epoch=3)).any()
    assert (first != shuffled_indices(100, seed=2, epoch=2)).any()


@pytest.mark.parametrize(
    ("n", "seed", "epoch"), [(0, 0, 0), (1, 0, 0), (2, 5, 0), (1437, 0, 3), (4096, 7, 1), (1 << 20, 8, 0)]
)
def test_an_order_is_that_of_philox_words(n, seed, epoch):
    """The last one has two words that differ in their low bits only, in the other order than their places."""
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(n)
    order = shuffled_indices(n, seed, epoch)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order, np.argsort(words, kind="stable"))


def test_a_split_loses_no_row():
    X, y = np.arange(50)[:, None], np.arange(50) % 5
    a, b, c, d = train_test_split(X, y, 0.2, 0, stratify=True)
    assert sorted([*a.ravel(), *b.ravel()]) == list(range(50))
    assert np.bincount(d).tolist() == [2] * 5
    np.testing.assert_array_equal(a.ravel() % 5, c)
