"""Embedding against PyTorch, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import DataError, DtypeError, IndexRangeError, SettingError, ShapeError

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
    with pytest.raises(IndexRangeError, match="out of range for an axis of size 4"):
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
