"""Embedding against PyTorch, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import DataError, DtypeError, IndexRangeError, SettingError, ShapeError, UnknownNameError

from .peers import assert_same_layer, torch, twins

RNG = np.random.default_rng(0)
BOTH = pytest.mark.parametrize("native", [False, True], ids=["eager", "compiled"])


@BOTH
@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"padding_idx": -1}, {"padding_idx": 0}])
@pytest.mark.parametrize("shape", [(), (4,), (3, 5), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_embedding_is_pytorchs(shape, options, dtype, native):
    ours, theirs = twins("Embedding", 6, 3, **options)
    assert_same_layer(ours, theirs, RNG.integers(0, 6, size=shape).astype(dtype), native=native)


def test_nothing_to_look_up():
    assert nn.Embedding(6, 3)(cr.zeros(0, 2, dtype=cr.int64)).shape == (0, 2, 3)


def test_it_starts_normal_and_the_padding_at_0():
    cr.manual_seed(0)
    values = nn.Embedding(200, 50, padding_idx=-3).weight.detach().numpy()
    assert not values[197].any()
    rest = np.delete(values, 197, 0)
    assert abs(rest.mean()) < 0.05
    assert abs(rest.std() - 1) < 0.05
    cr.manual_seed(0)
    assert np.array_equal(np.delete(nn.Embedding(200, 50).weight.detach().numpy(), 197, 0), rest)


def test_from_pretrained_shares_the_table_and_keeps_it():
    table = cr.tensor(RNG.normal(size=(4, 3)))
    frozen = nn.Embedding.from_pretrained(table)
    assert not frozen.weight.requires_grad
    assert frozen.weight.tolist() == table.tolist()
    with cr.no_grad():
        table[0] = 7.0
    assert frozen.weight[0].tolist() == [7.0, 7.0, 7.0]
    free = nn.Embedding.from_pretrained(table, freeze=False, padding_idx=1)
    free(cr.tensor([0, 1, 1])).sum().backward()
    assert free.weight.grad.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert repr(free) == repr(torch.nn.Embedding.from_pretrained(torch.zeros(4, 3), freeze=False, padding_idx=1))


def test_gradients_are_those_of_finite_differences():
    index = cr.tensor([[0, 3], [3, 1]])
    assert cr.check_gradients(lambda w: F.embedding(index, w).sin(), cr.tensor(RNG.normal(size=(4, 3))))


def test_a_padded_network_verifies():
    """A row that is held gets no gradient though values depend on it: that is no fault."""
    model = nn.Sequential(nn.Embedding(5, 3, padding_idx=0), nn.Flatten(), nn.Linear(6, 2))
    with cr.no_grad():
        model[0].weight[0] = 1.0
    found = model.verify(RNG.integers(0, 5, size=(8, 2)), RNG.integers(0, 2, size=8))
    assert found, str(found)


def raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


@pytest.mark.parametrize("wrong", [-1, 4])
def test_a_number_outside_the_table(wrong):
    layer = nn.Embedding(4, 2)

    def call(index):
        return layer(index)

    line = f"(test_embedding.py:{call.__code__.co_firstlineno + 1} in call)"
    with raises(
        DataError,
        f"embedding in layer 'Embedding' {line}: number {wrong} is not in [0, 3]: the table has 4 rows. Number the "
        "categories from 0, or make num_embeddings larger.",
    ):
        call(cr.tensor([0, wrong]))
    with pytest.raises(IndexRangeError, match=r"out of range for an axis of size 4: it must be in \[0, 3\]"):
        cr.compile(call)(cr.tensor([0, wrong]))  # -1 too, which an index may be elsewhere


def test_numbers_that_are_no_integers():
    with pytest.raises(DtypeError, match="row numbers must be integers, got float32. Convert them with .long()"):
        nn.Embedding(4, 2)(cr.zeros(3))


WRONG = [
    (SettingError, lambda: nn.Embedding(4, 2, padding_idx=4),
     "Embedding: padding_idx must be in [-4, 3], the table's rows, got 4."),
    (SettingError, lambda: nn.Embedding(4, 2, max_norm=1.0),
     "Embedding: max_norm, which changes the table while it is read, is not in chainrule. Leave it out, and after the "
     "optimizer's step scale the rows that are too long."),
    (SettingError, lambda: nn.Embedding(4, 2, scale_grad_by_freq=True),
     "Embedding: scale_grad_by_freq is not in chainrule. Leave it out."),
    (SettingError, lambda: nn.Embedding(4, 2, sparse=True),
     "Embedding: sparse=True is not in chainrule, where every gradient is dense. Leave it out."),
    (SettingError, lambda: nn.Embedding(4.5, 2),
     "Embedding: num_embeddings must be a whole number of 0 or more, got 4.5."),
    (ShapeError, lambda: nn.Embedding.from_pretrained(cr.zeros(4)),
     "Embedding.from_pretrained {}: embeddings must have shape (num_embeddings, embedding_dim), got shape (4,). Give a "
     "table with a row for each category."),
    (ShapeError, lambda: F.embedding(cr.tensor([1]), cr.zeros(4)),
     "embedding {}: weight must have shape (num_embeddings, embedding_dim), got shape (4,). Give a table with a row for "
     "each number."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "text"), WRONG)
def test_what_is_refused(kind, call, text):
    with raises(kind, text.format(f"(test_embedding.py:{call.__code__.co_firstlineno} in <lambda>)")):
        call()


# -- bags ------------------------------------------------------------------------------------------------------------

ROWS = RNG.integers(0, 6, size=(4, 3))
LINE, BEGINS = RNG.integers(0, 6, size=9), np.array([0, 2, 2, 5])


@BOTH
@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
@pytest.mark.parametrize("padding", [None, 2, -6])
def test_bags_that_are_rows(mode, padding, native):
    ours, theirs = twins("EmbeddingBag", 6, 5, mode=mode, padding_idx=padding)
    rows = ROWS.copy()
    rows[1] = 2  # a bag of nothing but padding
    if padding is None and mode == "max":
        rows[1] = 0, 1, 2  # where it is the largest twice, PyTorch's gradient goes to one of the two alike
    assert_same_layer(ours, theirs, rows, native=native)


@BOTH
@pytest.mark.parametrize("mode", ["mean", "sum"])
@pytest.mark.parametrize(("with_end", "begins"), [(False, BEGINS), (True, np.array([0, 2, 2, 5, 9]))])
@pytest.mark.parametrize("padding", [None, 3])
def test_bags_one_after_another(mode, with_end, begins, padding, native):
    ours, theirs = twins("EmbeddingBag", 6, 5, mode=mode, include_last_offset=with_end, padding_idx=padding)
    assert_same_layer(ours, theirs, LINE, begins, native=native)


@BOTH
def test_weights_of_the_numbers(native):
    ours, theirs = twins("EmbeddingBag", 6, 5, mode="sum")
    for numbers, rest in ((ROWS, (None,)), (LINE, (BEGINS,))):
        weights = RNG.normal(size=numbers.shape)

        def call(w, numbers=numbers, rest=rest):
            return ours(cr.tensor(numbers), *(r if r is None else cr.tensor(r) for r in rest), w)

        w, v = cr.tensor(weights, requires_grad=True), torch.tensor(weights, requires_grad=True)
        y = (cr.compile(call) if native else call)(w)
        z = theirs(torch.tensor(numbers), *(r if r is None else torch.tensor(r) for r in rest), v)
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12)
        (y * y).sum().backward()
        (z * z).sum().backward()
        np.testing.assert_allclose(w.grad.numpy(), v.grad.numpy(), rtol=1e-12)


def test_a_bag_from_pretrained():
    table = cr.tensor(RNG.normal(size=(4, 3)))
    bag = nn.EmbeddingBag.from_pretrained(table, mode="sum", padding_idx=1)
    assert not bag.weight.requires_grad
    assert bag(cr.tensor([[0, 1]])).tolist() == table[:1].tolist()
    assert nn.EmbeddingBag.from_pretrained(table, freeze=False).weight.requires_grad


BAGS = [
    (DataError, lambda: F.embedding_bag(cr.tensor([0, 1]), cr.zeros(4, 2), cr.tensor([1])),
     "embedding_bag {}: offsets must ascend from 0 to 2 at most, got 1."),
    (DataError, lambda: F.embedding_bag(cr.tensor([0, 1]), cr.zeros(4, 2), cr.tensor([0, 2, 1])),
     "embedding_bag {}: offsets must ascend from 0 to 2 at most, got 0, 2, 1."),
    (ShapeError, lambda: F.embedding_bag(cr.tensor([0, 1]), cr.zeros(4, 2)),
     "embedding_bag {}: the input must have shape (B, N), or (N,) with offsets (B,), got (2,) and no offsets. Give the bags "
     "as rows, or say where each begins."),
    (SettingError, lambda: F.embedding_bag(cr.tensor([0, 1]), cr.zeros(4, 2), cr.tensor([0]), mode="max"),
     "embedding_bag: mode='max' takes each bag as a row of the input, without offsets."),
    (SettingError, lambda: F.embedding_bag(cr.tensor([[0, 1]]), cr.zeros(4, 2), per_sample_weights=cr.ones(1, 2)),
     "embedding_bag: per_sample_weights are for mode='sum' and have the shape (1, 2) of the input, got mode='mean' and "
     "shape (1, 2)."),
    (UnknownNameError, lambda: nn.EmbeddingBag(4, 2, mode="min"),
     "unknown mode of EmbeddingBag 'min'. Known: max, mean, sum."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "text"), BAGS)
def test_bags_that_are_refused(kind, call, text):
    with raises(kind, text.format(f"(test_embedding.py:{call.__code__.co_firstlineno} in <lambda>)")):
        call()
