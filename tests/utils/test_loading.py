"""Datasets, samplers, collating and loaders beside PyTorch's: the same lengths, shapes, types, errors and orders."""

import collections
import re

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule.errors import ChainruleError, DataError, DtypeError, SettingError, ShapeError
from chainrule.utils import data as ours

X, Y = np.arange(30, dtype=np.float32).reshape(10, 3), np.arange(10) % 3
Pair = collections.namedtuple("Pair", "x y")


class Kit:
    """One library: its tensors and its classes."""

    def __init__(self, library, data):
        self.tensor, self.data, self.Generator = library.tensor, data, library.Generator


def both():
    theirs = pytest.importorskip("torch.utils.data")
    return Kit(cr, ours), Kit(torch, theirs)


def plain(batch):
    """A batch of either library as what can be compared: types, shapes, dtypes, values."""
    if isinstance(batch, cr.Tensor) or type(batch).__name__ == "Tensor":
        return ("tensor", tuple(batch.shape), str(batch.dtype).split(".")[-1], batch.tolist())
    if isinstance(batch, dict):
        return (type(batch), {key: plain(value) for key, value in batch.items()})
    if isinstance(batch, (list, tuple)):
        return (type(batch), [plain(item) for item in batch])
    return batch


# Each makes a loader (or what may be iterated over) of either library.
SAME = {
    "tensors": lambda k: k.data.DataLoader(k.data.TensorDataset(k.tensor(X), k.tensor(Y)), batch_size=4),
    "drop_last": lambda k: k.data.DataLoader(k.data.TensorDataset(k.tensor(X)), batch_size=4, drop_last=True),
    "default batch size": lambda k: k.data.DataLoader(k.data.TensorDataset(k.tensor(Y))),
    "single samples": lambda k: k.data.DataLoader(k.data.TensorDataset(k.tensor(X), k.tensor(Y)), batch_size=None),
    "a tensor": lambda k: k.data.DataLoader(k.tensor(X), batch_size=3),
    "an array": lambda k: k.data.DataLoader(X, batch_size=3),
    "arrays, no batch": lambda k: k.data.DataLoader(X, batch_size=None),
    "a list of numbers": lambda k: k.data.DataLoader([1, 2, 3], batch_size=2),
    "a list of floats": lambda k: k.data.DataLoader([1.0, 2.5, 3], batch_size=2),
    "booleans": lambda k: k.data.DataLoader([True, False], batch_size=2),
    "NumPy's numbers": lambda k: k.data.DataLoader(list(X[0]), batch_size=2),
    "dicts": lambda k: k.data.DataLoader([{"x": x, "y": int(y), "s": "t"} for x, y in zip(X, Y, strict=True)], batch_size=4),
    "ordered dicts": lambda k: k.data.DataLoader([collections.OrderedDict(a=1), collections.OrderedDict(a=2)], batch_size=2),
    "named tuples": lambda k: k.data.DataLoader([Pair(x, y) for x, y in zip(X, Y, strict=True)], batch_size=4),
    "lists": lambda k: k.data.DataLoader([[1, "a"], [2, "b"]], batch_size=2),
    "nested": lambda k: k.data.DataLoader([((1, {"z": X[0]}), [2.0])] * 3, batch_size=2),
    "bytes": lambda k: k.data.DataLoader([b"a", b"b"], batch_size=2),
    "subset": lambda k: k.data.DataLoader(k.data.Subset(k.data.TensorDataset(k.tensor(X)), [7, 1, 3]), batch_size=2),
    "subset of a subset": lambda k: k.data.DataLoader(
        k.data.Subset(k.data.Subset(k.data.TensorDataset(k.tensor(X)), [7, 1, 3]), (2, 0)), batch_size=2
    ),
    "subset of a list": lambda k: k.data.DataLoader(k.data.Subset(list(range(9)), [7, 1, 3]), batch_size=2),
    "concatenated": lambda k: k.data.DataLoader(
        k.data.TensorDataset(k.tensor(X)) + k.data.TensorDataset(k.tensor(X[:2])), batch_size=5
    ),
    "stacked": lambda k: k.data.DataLoader(k.data.StackDataset(k.tensor(X), k.data.TensorDataset(k.tensor(Y))), batch_size=4),
    "stacked by name": lambda k: k.data.DataLoader(k.data.StackDataset(x=k.tensor(X), y=[*"abcdefghij"]), batch_size=4),
    "a sampler": lambda k: k.data.DataLoader(k.tensor(X), sampler=[3, 1, 2], batch_size=2),
    "a batch sampler": lambda k: k.data.DataLoader(k.data.TensorDataset(k.tensor(X)), batch_sampler=[[3, 1], [2], [-1, 0]]),
    "batch sampler": lambda k: k.data.BatchSampler(k.data.SequentialSampler(X), 4, False),
    "batch sampler of any": lambda k: k.data.BatchSampler(iter("abcde"), 2, True),
    "collate": lambda k: k.data.DataLoader(k.data.TensorDataset(k.tensor(Y)), 3, collate_fn=lambda rows: [int(y) for (y,) in rows]),
    "weights": lambda k: k.data.WeightedRandomSampler([0.0, 1.0, 0.0], 4),
    "an empty list": lambda k: k.data.DataLoader([], batch_size=2),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_the_same_batches(name):
    mine, theirs = map(SAME[name], both())
    assert [plain(batch) for batch in mine] == [plain(batch) for batch in theirs]
    if not name.startswith("batch sampler of any"):
        assert len(mine) == len(theirs)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8])
def test_lengths_and_shuffled_batches(rows, drop_last):
    mine, theirs = (
        k.data.DataLoader(k.data.TensorDataset(k.tensor(np.arange(rows))), 4, shuffle=True, drop_last=drop_last)
        for k in both()
    )
    assert len(mine) == len(theirs)
    assert [tuple(x.shape) for (x,) in mine] == [tuple(x.shape) for (x,) in theirs]


class Rows:
    """Makes a dataset class of either library."""

    @staticmethod
    def iterable(kit, rows=10, length=None):
        class Iterable(kit.data.IterableDataset):
            def __iter__(self):
                return iter(range(rows))

        if length is not None:
            Iterable.__len__ = lambda self: length
        return Iterable()


ITERABLE = {
    "batches": lambda k: k.data.DataLoader(Rows.iterable(k), batch_size=4),
    "drop_last": lambda k: k.data.DataLoader(Rows.iterable(k), batch_size=4, drop_last=True),
    "single": lambda k: k.data.DataLoader(Rows.iterable(k), batch_size=None),
    "none": lambda k: k.data.DataLoader(Rows.iterable(k, 0), batch_size=4),
    "chained": lambda k: k.data.DataLoader(Rows.iterable(k) + Rows.iterable(k, 3), batch_size=4),
    "shuffle=False": lambda k: k.data.DataLoader(Rows.iterable(k), batch_size=4, shuffle=False),
}


@pytest.mark.parametrize("name", ITERABLE)
def test_iterable_datasets(name):
    mine, theirs = map(ITERABLE[name], both())
    assert [plain(b) for b in mine] == [plain(b) for b in theirs] == [plain(b) for b in mine]


def test_the_length_of_an_iterable_dataset_is_its_own():
    mine, theirs = (k.data.DataLoader(Rows.iterable(k, length=7), batch_size=4) for k in both())
    assert len(mine) == len(theirs) == 2
    with pytest.warns(UserWarning, match="the length of Iterable promises 2 batches, and there are more"):
        assert len(list(mine)) == 3
    for k in both():
        with pytest.raises(TypeError):
            len(k.data.DataLoader(Rows.iterable(k)))


def loader(k, data=None, **options):
    return k.data.DataLoader([1, 2, 3] if data is None else data, **options)


# What PyTorch refuses with a ValueError or TypeError, and so do we; and what ours says.
REFUSED = {
    "num_workers must be 0 or a positive integer, got -1": lambda k: loader(k, num_workers=-1),
    "timeout must be a number of seconds": lambda k: loader(k, timeout=-1),
    "prefetch_factor is for workers": lambda k: loader(k, prefetch_factor=2),
    "prefetch_factor must be a positive": lambda k: loader(k, num_workers=1, prefetch_factor=-1),
    "persistent_workers is for workers": lambda k: loader(k, persistent_workers=True),
    "sampler and shuffle exclude each other": lambda k: loader(k, sampler=[1], shuffle=True),
    "batch_sampler says which rows make a batch: leave out batch_size": lambda k: loader(k, batch_sampler=[[1]], batch_size=2),
    "batch_sampler says which rows make a batch": lambda k: loader(k, batch_sampler=[[1]], drop_last=True),
    "without batches (batch_size=None) there is no last one": lambda k: loader(k, batch_size=None, drop_last=True),
    "an IterableDataset gives its rows in its own order: shuffle": lambda k: loader(k, Rows.iterable(k), shuffle=True),
    "an IterableDataset gives its rows in its own order: sampler": lambda k: loader(k, Rows.iterable(k), sampler=[1]),
    "an IterableDataset gives its rows in its own order: batch_s": lambda k: loader(k, Rows.iterable(k), batch_sampler=[[1]]),
    "multiprocessing_context must be one of": lambda k: list(loader(k, num_workers=1, multiprocessing_context="thread")),
    "batch_size cannot be set any more": lambda k: setattr(loader(k), "batch_size", 2),
    "BatchSampler: batch_size must be a positive integer, got 0": lambda k: loader(k, batch_size=0),
    "BatchSampler: drop_last must be True or False, got 1": lambda k: k.data.BatchSampler([1], 2, 1),
    "RandomSampler: num_samples must be a positive integer, got 0": lambda k: loader(k, [], shuffle=True),
    "RandomSampler: replacement must be True or False": lambda k: k.data.RandomSampler([1], replacement=1),
    "WeightedRandomSampler: num_samples must be": lambda k: k.data.WeightedRandomSampler([1.0], 0),
    "WeightedRandomSampler: weights must be one number for each": lambda k: k.data.WeightedRandomSampler([[1.0]], 1),
    "StackDataset: the datasets must have one length, got [1, 2]": lambda k: k.data.StackDataset([1], [1, 2]),
    "StackDataset: takes datasets by position (samples are tuples) or by keyword (dicts), got both": lambda k: k.data.StackDataset([1], a=[1]),
    "or by keyword (dicts), got none": lambda k: k.data.StackDataset(),
    "lengths must be whole numbers that add up to the dataset's, 3": lambda k: k.data.random_split([1, 2, 3], [1, 1]),
    "share 0 must be between 0 and 1": lambda k: k.data.random_split([1, 2, 3], [-0.5, 1.5]),
    "must hold tensors, arrays, numbers, text, or dicts, tuples and lists of them, got NoneType": lambda k: next(iter(loader(k, [None]))),
    "an array must hold tensors, arrays, numbers, text, or dicts, tuples and lists of them, got dtype <U1": lambda k: next(iter(loader(k, np.array([["a"]])))),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_pytorch_refuses_is_refused(text):
    mine, theirs = both()
    with pytest.raises((ValueError, TypeError)):
        REFUSED[text](theirs)
    with pytest.raises(ChainruleError, match=re.escape(text)) as error:
        REFUSED[text](mine)
    assert isinstance(error.value, (ValueError, TypeError))


# What PyTorch refuses by an assertion or a RuntimeError, which tell less.
REFUSED_OTHERWISE = {
    "TensorDataset: the tensors must have the same number of rows, got shapes (2,) and (3,)": (
        ShapeError, AssertionError, lambda k: k.data.TensorDataset(k.tensor([1, 2]), k.tensor([1, 2, 3]))),
    "ConcatDataset: needs at least one dataset": (SettingError, AssertionError, lambda k: k.data.ConcatDataset([])),
    "ConcatDataset: an IterableDataset has no row numbers": (
        SettingError, AssertionError, lambda k: k.data.ConcatDataset([Rows.iterable(k)])),
    "ChainDataset: takes IterableDatasets, got list": (
        SettingError, AssertionError, lambda k: list(k.data.ChainDataset([[1]]))),
    "must be sequences of one length, got lengths [1, 2]": (
        DataError, RuntimeError, lambda k: list(loader(k, [[1], [1, 2]], batch_size=2))),
    "all tensors must have one shape, got (2,) and (3,)": (
        ShapeError, RuntimeError, lambda k: list(loader(k, [np.ones(2), np.ones(3)], batch_size=2))),
    "weights must be finite, at least 0, and not all 0": (
        DataError, RuntimeError, lambda k: list(k.data.WeightedRandomSampler([-1.0, 1.0], 2))),
    "a Dataset must have a __getitem__": (
        NotImplementedError, NotImplementedError, lambda k: k.data.Dataset()[0]),
    "a sampler must have an __iter__": (
        NotImplementedError, NotImplementedError, lambda k: iter(k.data.Sampler())),
    "an IterableDataset must have an __iter__": (
        NotImplementedError, TypeError, lambda k: iter(k.data.IterableDataset())),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED_OTHERWISE)
def test_what_pytorch_refuses_by_other_errors(text):
    mine, theirs = both()
    kind, their_kind, make = REFUSED_OTHERWISE[text]
    with pytest.raises(their_kind):
        make(theirs)
    with pytest.raises(kind, match=re.escape(text)):
        make(mine)


def test_an_index_beyond_the_rows_is_an_error():
    for k in both():
        with pytest.raises(IndexError):
            list(loader(k, k.data.TensorDataset(k.tensor(X)), sampler=[12], batch_size=2))
        with pytest.raises((IndexError, ValueError)):
            k.data.ConcatDataset([[1], [2]])[-3]
        assert k.data.ConcatDataset([[1], [2, 3]])[-1] == 3


# -- orders ----------------------------------------------------------------------------------------


def order_of(loader):
    return [int(x) for batch in loader for x in (batch[0] if isinstance(batch, (list, tuple)) else batch)]


def shuffled(seed=0, rows=100, **options):
    data = ours.TensorDataset(cr.arange(rows))
    return ours.DataLoader(data, 8, shuffle=True, generator=cr.Generator(seed), **options)


def test_a_seed_gives_one_order_and_every_epoch_another():
    first, again, other = shuffled(3), shuffled(3), shuffled(4)
    epochs = [order_of(first) for _ in range(3)]
    assert epochs == [order_of(again) for _ in range(3)]
    assert len({tuple(epoch) for epoch in [*epochs, order_of(other)]}) == 4
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs)


def test_the_default_generator_is_the_one_that_manual_seed_seeds():
    loader = ours.DataLoader(ours.TensorDataset(cr.arange(50)), 8, shuffle=True)
    cr.manual_seed(5)
    first = order_of(loader)
    cr.manual_seed(5)
    assert order_of(loader) == first != order_of(loader)


def test_row_by_row_is_the_same_as_by_one_index():
    class Slow(ours.TensorDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)

    x, y = cr.tensor(X), cr.tensor(Y)
    for wrapped in (lambda d: d, lambda d: ours.Subset(d, [4, 4, 1, 9]), lambda d: ours.StackDataset(a=d, b=d)):
        fast, slow = (
            ours.DataLoader(wrapped(kind(x, y)), 3, shuffle=True, generator=cr.Generator(1))
            for kind in (ours.TensorDataset, Slow)
        )
        assert [plain(b) for b in fast] == [plain(b) for b in slow]


@pytest.mark.parametrize("kind", ["TensorDataset", "Subset", "StackDataset"])
def test_a_subclass_that_changes_its_samples_is_asked_for_them(kind):
    base = getattr(ours, kind)
    given = {
        "TensorDataset": (cr.tensor(Y),),
        "Subset": (ours.TensorDataset(cr.tensor(Y)), [0, 1, 2]),
        "StackDataset": (cr.tensor(Y),),
    }

    class Plus(base):
        def __getitem__(self, index):
            return super().__getitem__(index)[0] + 100

        def __getitems__(self, indices):
            return [self[index] for index in indices]

    assert order_of(ours.DataLoader(Plus(*given[kind]), 2))[:3] == [100, 101, 102]


def test_a_subclass_that_gives_its_samples_in_one_call_is_asked_for_them():
    class Together(ours.TensorDataset):
        def __getitems__(self, indices):
            return [cr.tensor(index + 100) for index in indices]

    assert order_of(ours.DataLoader(Together(cr.tensor(Y)), 2))[:3] == [100, 101, 102]

    class Short(ours.TensorDataset):
        def __getitems__(self, indices):
            return [1]

    with pytest.raises(DataError, match="Short: __getitems__ must give a sample for each index, got 1 for 2"):
        list(ours.DataLoader(Short(cr.tensor(Y)), 2))


def test_a_batch_is_memory_of_its_own_and_keeps_its_history():
    x = cr.tensor(X)
    (batch,) = next(iter(ours.DataLoader(ours.TensorDataset(x), 4)))
    batch += 1
    assert x.tolist() == X.tolist()
    w = cr.tensor(X, requires_grad=True)
    (batch,) = next(iter(ours.DataLoader(ours.TensorDataset(w), 4)))
    batch.sum().backward()
    assert w.grad.sum().item() == 12


def test_samplers_with_replacement_draw_as_they_should():
    cr.manual_seed(0)
    drawn = np.bincount(list(ours.RandomSampler(range(5), replacement=True, num_samples=20000)), minlength=5)
    assert np.abs(drawn - 4000).max() < 5 * np.sqrt(20000 * 0.2 * 0.8)
    weights = [0.1, 0.0, 0.5, 1.4]
    drawn = np.bincount(list(ours.WeightedRandomSampler(weights, 20000)), minlength=4)
    assert drawn[1] == 0
    assert np.abs(drawn - 10000 * np.array(weights)).max() < 5 * np.sqrt(5000)


def test_weights_without_replacement_follow_the_law_of_one_after_the_other():
    weights, counts = np.array([1.0, 2.0, 5.0]), collections.Counter()
    cr.manual_seed(0)
    for _ in range(3000):
        counts[tuple(ours.WeightedRandomSampler(weights, 2, replacement=False))] += 1
    for (a, b), count in counts.items():
        share = weights[a] / 8 * weights[b] / (8 - weights[a])
        assert abs(count - 3000 * share) < 5 * np.sqrt(3000 * share * (1 - share))
    assert len(counts) == 6


def test_no_row_without_weight_is_drawn():
    with pytest.raises(DataError, match="2 rows cannot be drawn without replacement from 1 rows with a weight above 0"):
        ours.WeightedRandomSampler([0.0, 1.0], 2, replacement=False)


def test_more_samples_than_rows_are_more_orders():
    drawn = list(ours.RandomSampler(range(4), num_samples=10))
    assert sorted(drawn[:4]) == sorted(drawn[4:8]) == [0, 1, 2, 3]
    assert len(drawn) == 10


def test_a_split_shares_out_the_rows():
    for lengths, sizes in (([3, 7], [3, 7]), ([0.5, 0.3, 0.2], [5, 3, 2]), ([0.33, 0.33, 0.34], [4, 3, 3])):
        for k in both():
            parts = k.data.random_split(range(10), lengths, generator=k.Generator().manual_seed(3))
            assert [len(part) for part in parts] == sizes
            assert sorted(i for part in parts for i in part.indices) == list(range(10))
    first, again = (ours.random_split(range(10), [3, 7], cr.Generator(1))[0].indices for _ in range(2))
    assert first == again
    for k in both():
        with pytest.warns(UserWarning, match="mpty|is 0"):
            k.data.random_split(range(2), [0.9, 0.05, 0.05])


def test_names_that_are_not_here_say_so():
    with pytest.raises(AttributeError, match="DistributedSampler of PyTorch is not in chainrule yet"):
        ours.DistributedSampler  # noqa: B018


def test_collating_names_what_it_refuses():
    with pytest.raises(DtypeError, match="got NoneType. Leave it out of the sample, or give the loader a collate_fn"):
        ours.default_collate([None])
    assert plain(ours.default_convert((1, X[0], "a", {"k": np.float32(2)})))[0] is list


@pytest.mark.parametrize("batch_size", [4, None])
@pytest.mark.parametrize("workers", [0, 2])
def test_samples_may_hold_pytorchs_tensors_as_those_of_torchvision_do(batch_size, workers):
    class Images:
        def __len__(self):
            return 6

        def __getitem__(self, i):
            return {"image": torch.full((1, 2), i / 2), "label": i, "about": (torch.tensor(i), "text")}

    mine, theirs = (
        list(data.DataLoader(Images(), batch_size, num_workers=workers)) for data in (ours, torch.utils.data)
    )
    for a, b in zip(mine, theirs, strict=True):
        assert isinstance(a["image"], cr.Tensor) and str(a["image"].dtype) == "chainrule.float32"
        assert a["image"].tolist() == b["image"].tolist()
        assert (a["label"] if batch_size is None else a["label"].tolist()) == (
            b["label"] if batch_size is None else b["label"].tolist()
        )
        assert (a["about"][0].tolist(), a["about"][1]) == (b["about"][0].tolist(), b["about"][1])
