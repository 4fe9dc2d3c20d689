"""Sources: whatever holds data gives the same rows, in an order that a seed repeats, from any place on."""

import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule.data import Cursor, Source, as_source, check_fingerprint
from chainrule.data.windows.ahead import ReadAhead
from chainrule.errors import DataError, UnknownNameError
from chainrule.utils.data import DataLoader, Dataset, Subset, TensorDataset

ROWS = 1000
X = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
Y = np.arange(ROWS)
SMALL = 4096  # bytes of a window: about 170 rows of X and Y


def frame():
    return {**{f"x{i}": X[:, i] for i in range(4)}, "y": Y}


def pandas(_):
    return pytest.importorskip("pandas").DataFrame(frame()), {"target": "y"}


def polars(_):
    return pytest.importorskip("polars").DataFrame(frame()), {"target": "y"}


def arrow(_):
    return pytest.importorskip("pyarrow").table(frame()), {"target": "y"}


def parquet(folder, group=90, files=3):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table, each = pa.table(frame()), -(-ROWS // files)
    for number in range(files):
        parquet.write_table(table.slice(number * each, each), folder / f"part-{number}.parquet", row_group_size=group)
    return folder, {"target": "y"}


def parquet_of_large_groups(folder):
    return parquet(folder, group=1000, files=2)


def one_parquet(folder):
    return str(parquet(folder, files=1)[0] / "part-0.parquet"), {"target": "y"}


def memmap(folder):
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    return (np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")[:]), {}


class HuggingFace:
    """What a Hugging Face dataset looks like from outside."""

    def __init__(self, columns, form=None):
        self.columns, self.form = columns, form
        self.column_names, self.features, self._fingerprint = list(columns), dict.fromkeys(columns), "f00"

    def with_format(self, form):
        return HuggingFace(self.columns, form)

    def __len__(self):
        return ROWS

    def __getitem__(self, rows):
        assert self.form == "numpy"
        return {name: values[rows] for name, values in self.columns.items()}


class Slices:
    """What an HDF5 or Zarr array looks like from outside."""

    chunks = (10,)

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        return self.array[rows]


class Rows(Dataset):
    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return cr.tensor(X[index]), int(Y[index])


# Each gives data and options; those of one window are in memory.
RANDOM_ACCESS = {
    "arrays": lambda _: ((X, Y), {}),
    "lists": lambda _: ((X.tolist(), Y.tolist()), {}),
    "tensors": lambda _: ((cr.tensor(X), cr.tensor(Y)), {}),
    "PyTorch's tensors": lambda _: ((torch.tensor(X), torch.tensor(Y)), {}),
    "TensorDataset": lambda _: (TensorDataset(cr.tensor(X), cr.tensor(Y)), {}),
    "pandas": pandas,
    "polars": polars,
    "arrow": arrow,
    "parquet": parquet,
    "one parquet": one_parquet,
    "large row groups": parquet_of_large_groups,
    "memmap": memmap,
    "slices": lambda _: ((Slices(X), Slices(Y)), {}),
    "Hugging Face": lambda _: (HuggingFace(frame()), {"target": "y"}),
    "dataset": lambda _: (Rows(), {}),
    "subset": lambda _: (Subset(Rows(), range(ROWS)), {}),
}
IN_MEMORY = {"arrays", "lists", "tensors", "PyTorch's tensors", "TensorDataset", "pandas", "polars"}


def batches(source, start=Cursor(), seed=3, **options):  # noqa: B008
    """Every batch and the cursor after it, to the end of the epoch."""
    return [
        (batch, cursor)
        for window in source.windows(start, seed, **{"batch_size": 8, **options})
        for batch, cursor in window.batches()
    ]


def alike(some, others):
    return len(some) == len(others) and all(
        cursor == other_cursor
        and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(batch, other, strict=True))
        for (batch, cursor), (other, other_cursor) in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("name", RANDOM_ACCESS)
def test_rows_order_and_resume(name, tmp_path):
    data, options = RANDOM_ACCESS[name](tmp_path)
    source, again = (as_source(data, buffer=SMALL, **options) for _ in range(2))
    assert isinstance(source, Source)
    assert (source.rows, source.batch_size) == (ROWS, None)
    for shuffle in (True, False):
        epoch = batches(source, shuffle=shuffle)
        y = np.concatenate([y for (_, y), _ in epoch])
        assert np.array_equal(np.sort(y), Y)
        assert np.array_equal(y, Y) == (not shuffle)
        for (x, y), _ in epoch:
            np.testing.assert_array_equal(np.asarray(x, np.float32), X[y])
            assert len(y) == 8
        assert alike(epoch, batches(again, shuffle=shuffle))
        for number in (0, 1, 30, 77, 123):
            saved = json.loads(json.dumps(epoch[number][1]))  # as a checkpoint keeps it
            assert alike(epoch[number + 1 :], batches(again, Cursor(*saved), shuffle=shuffle))
    assert epoch[-1][1] == Cursor(1)
    assert not alike(epoch, batches(source, Cursor(1)))
    windows = len(list(source.windows(batch_size=8)))
    assert windows == 1 if name in IN_MEMORY else windows > 4
    assert source.fingerprint() == again.fingerprint()
    head = source.head(5)
    np.testing.assert_array_equal(np.asarray(head[0], np.float32), X[:5])
    check_fingerprint(source, again.fingerprint())


@pytest.mark.parametrize("name", ["parquet", "memmap", "arrow", "dataset", "slices"])
def test_a_window_is_whole_batches_and_no_larger_than_the_buffer(name, tmp_path):
    data, options = RANDOM_ACCESS[name](tmp_path)
    windows = list(as_source(data, buffer=SMALL, **options).windows(batch_size=24))
    assert len({w.rows for w in windows[:-1]}) == 1
    assert windows[0].rows % 24 == 0
    assert sum(array.nbytes for array in windows[0].arrays) <= SMALL
    assert [w.last for w in windows] == [False] * (len(windows) - 1) + [True]
    assert sum(w.rows for w in windows) == ROWS


@pytest.mark.parametrize("name", ["parquet", "arrays", "dataset"])
def test_a_cursor_follows_from_the_number_of_rows_done(name, tmp_path):
    data, options = RANDOM_ACCESS[name](tmp_path)
    source, done = as_source(data, buffer=SMALL, **options), 0
    assert source.cursor_at(4, 0, 8) == Cursor(4)
    for (_, y), cursor in batches(source, Cursor(4)):
        done += len(y)
        assert source.cursor_at(4, done, 8) == cursor


def test_the_order_in_memory_is_the_one_of_shuffled_indices():
    (window,) = as_source((X, Y)).windows(Cursor(2), seed=9)
    assert np.array_equal(window.order, cr.data.shuffled_indices(ROWS, 9, 2))
    assert np.shares_memory(window.arrays[0], X)


def test_parquet_and_table_give_the_rows_of_the_files(tmp_path):
    """The same pieces from elsewhere: whole row groups against reading batch by batch."""
    folder, options = parquet(tmp_path, group=100, files=1)
    whole, by_batch = as_source(folder, buffer=1 << 20, **options), as_source(folder, buffer=1500, **options)
    in_order = [np.concatenate([y for (_, y), _ in batches(s, shuffle=False)]) for s in (whole, by_batch)]
    assert np.array_equal(in_order[0], in_order[1])


def test_named_columns_without_a_target_are_a_dict(tmp_path):
    for data in (arrow(0)[0], pandas(0)[0], polars(0)[0], parquet(tmp_path)[0], HuggingFace(frame())):
        source = as_source(data, features=["y", "x2"], buffer=SMALL)
        (first, *_) = source.windows(batch_size=4, shuffle=False)
        assert list(first.arrays) == ["y", "x2"]
        assert np.array_equal(first.arrays["x2"], X[: first.rows, 2])
        assert first.arrays["y"].dtype == np.int64


def test_weights_and_several_targets(tmp_path):
    for data in (arrow(0)[0], pandas(0)[0], parquet(tmp_path)[0]):
        source = as_source(data, target=["x0", "y"], weight="x1", dtype="float64", buffer=SMALL)
        x, y, w = source.head(7)
        assert (x.dtype, y.dtype, w.dtype) == (np.float64, np.float64, np.float32)
        assert np.array_equal(x, X[:7, 2:])
        assert np.array_equal(y, np.stack([X[:7, 0], Y[:7]], axis=1))
        assert np.array_equal(w, X[:7, 1])


def test_columns_of_lists_of_one_length():
    pa = pytest.importorskip("pyarrow")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)
    table = pa.table({"v": vectors, "y": Y})
    x, _ = as_source(table, target="y").head(9)
    assert np.array_equal(x, X[:9])
    (window,) = as_source(table).windows(shuffle=False)
    assert np.array_equal(window.arrays["v"], X)


def test_missing_values():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"a": [1.0, None, 3.0], "b": [1, None, 3], "c": [True, None, False]})
    x, _ = as_source(table, target="a", features=["b", "c"]).head(3)
    assert np.array_equal(x, [[1, 1], [np.nan, np.nan], [3, 0]], equal_nan=True)
    assert np.isnan(as_source(table, features=["a"]).head(3)["a"][1])
    with pytest.raises(DataError, match=r"column 'b' must be known everywhere, got 1 missing values among integers"):
        as_source(table, target="b", features=["a"]).head(3)
    pd = pytest.importorskip("pandas")
    nullable = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "y": [0, 1]})
    assert np.array_equal(as_source(nullable, target="y").head(2)[0], [[1.0], [np.nan]], equal_nan=True)


# -- streams ---------------------------------------------------------------------------------------


def in_batches(size=30):
    for start in range(0, ROWS, size):
        yield X[start : start + size], Y[start : start + size]


def torch_loader():
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(data, 30)


STREAMS = {
    "function": lambda: lambda: in_batches(),
    "function of the epoch": lambda: lambda epoch: in_batches(),
    "list subclass": lambda: Again(),
    "our loader": lambda: DataLoader(TensorDataset(cr.tensor(X), cr.tensor(Y)), 30),
    "our loader, shuffled": lambda: DataLoader(TensorDataset(cr.tensor(X), cr.tensor(Y)), 30, shuffle=True),
    "PyTorch's loader": lambda: torch_loader(),
    "generator": lambda: in_batches(),
}


class Again:
    def __iter__(self):
        return in_batches()


def stream_batches(source, start=Cursor(), seed=3):  # noqa: B008
    return batches(source, start, seed, batch_size=None)


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name):
    source = as_source(STREAMS[name](), buffer=SMALL)
    first = source.head(4)
    assert (first[0].shape, first[1].dtype) == ((4, 4), np.int64)
    epoch = stream_batches(source)
    y = np.concatenate([y for (_, y), _ in epoch])
    assert np.array_equal(np.sort(y), Y)
    assert np.array_equal(y, Y) == ("shuffled" not in name)
    assert [len(y) for (_, y), _ in epoch] == [30] * 33 + [10]
    for (x, y), _ in epoch:
        assert np.array_equal(x, X[y])
    assert epoch[-1][1] == Cursor(1)
    for number in (0, 5, 21, 32):
        other = as_source(STREAMS[name](), buffer=SMALL)
        assert alike(epoch[number + 1 :], stream_batches(other, epoch[number][1]))
    assert (source.rows, source.batch_size) == (ROWS if "loader" in name else None, 30)


def test_a_shuffled_loader_has_an_order_by_seed_and_epoch():
    source = as_source(STREAMS["our loader, shuffled"](), buffer=SMALL)
    orders = [stream_batches(source, Cursor(epoch), seed)[0][0][1].tolist() for seed in (1, 2) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    before = cr.current_generator_state() if hasattr(cr, "current_generator_state") else None
    assert before is None or before == cr.current_generator_state()


def test_a_stream_does_not_move_the_users_generator():
    cr.manual_seed(1)
    expected = cr.rand(1).item()
    cr.manual_seed(1)
    stream_batches(as_source(STREAMS["our loader, shuffled"]()))
    assert cr.rand(1).item() == expected


def test_a_generator_gives_its_batches_once():
    source = as_source(in_batches())
    source.head(1)
    assert len(stream_batches(source)) == 34
    with pytest.raises(
        DataError, match=re.escape("a generator gives its batches once") + ".*as_source.lambda: batches"
    ):
        stream_batches(source, Cursor(1))


def test_a_stream_that_fills_the_same_array_again():
    def same():
        held = np.zeros((2, 1), np.float32)
        for number in range(4):
            held[:] = number
            yield held

    (window,) = as_source(same).windows()
    assert window.arrays.ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_batches_of_several_sizes_stay_as_they_are():
    sizes = [3, 3, 2, 5, 5, 1, 1]
    source = as_source(lambda: iter([np.ones((n, 2), np.float32) for n in sizes]))
    assert [len(batch) for w in source.windows() for batch, _ in w.batches()] == sizes


def test_a_stream_of_many_batches_is_cut_into_windows():
    source = as_source(lambda: (np.ones((4, 2), np.float32) for _ in range(1000)))
    assert [w.rows // 4 for w in source.windows()] == [256, 256, 256, 232]
    assert [w.last for w in source.windows()] == [False, False, False, True]


@pytest.mark.parametrize("size", [7, 24, 30, 64, 1000])
def test_the_rows_of_a_stream_are_cut_anew(size):
    source = as_source(lambda: in_batches(), buffer=SMALL)
    windows = list(source.windows(seed=3, batch_size=size))
    assert len({w.rows for w in windows[:-1]}) <= 1
    assert all(w.rows % size == 0 for w in windows[:-1])
    assert [w.last for w in windows] == [False] * (len(windows) - 1) + [True]
    epoch, done = batches(source, batch_size=size), 0
    for (x, y), cursor in epoch:
        assert np.array_equal(y, Y[done : done + size])
        assert np.array_equal(x, X[y])
        done += len(y)
        assert done == ROWS or source.cursor_at(0, done, size) == cursor
    assert done == ROWS
    for number in {0, len(epoch) // 2, len(epoch) - 2} - {-1}:
        if number < len(epoch) - 1:
            assert alike(epoch[number + 1 :], batches(source, epoch[number][1], batch_size=size))


def test_batches_of_several_sizes_are_rows_in_a_row():
    sizes = [3, 3, 2, 5, 5, 1, 1]
    rows = np.split(np.arange(20.0), np.cumsum(sizes)[:-1])
    found = [b.tolist() for w in as_source(lambda: iter(rows)).windows(batch_size=8) for b, _ in w.batches()]
    assert found == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


def endless(start=0):
    while True:
        yield np.arange(start, start + 10.0)
        start += 10


@pytest.mark.parametrize("size", [10, 4, 15])
def test_epochs_of_an_endless_stream(size):
    def epoch(source, number):
        return [b.tolist() for w in source.windows(Cursor(number), batch_size=size) for b, _ in w.batches()]

    once = as_source(endless()).epochs_of(3 * size)
    again = as_source(lambda: endless()).epochs_of(3 * size)
    assert (once.rows, again.rows) == (3 * size, 3 * size)
    expected = np.arange(6.0 * size).reshape(6, size).tolist()
    once.head(2)
    assert epoch(once, 0) == epoch(again, 0) == epoch(again, 1) == expected[:3]
    assert epoch(once, 1) == expected[3:]
    assert epoch(as_source(endless()).epochs_of(3 * size), 1) == expected[3:]
    with pytest.raises(DataError, match=rf"a generator gives its batches once, and has given {6 * size} rows"):
        epoch(once, 0)


def test_a_stream_that_ends_too_early():
    source = as_source(lambda: in_batches()).epochs_of(1010)
    with pytest.raises(DataError, match=r"ended 10 rows before the end of epoch 1, which was to have 1010"):
        list(source.windows(batch_size=10))


# -- reading ahead ---------------------------------------------------------------------------------


def test_the_next_job_runs_while_a_result_is_used():
    started = [threading.Event() for _ in range(4)]

    def job(number):
        started[number].set()
        return number

    results = ReadAhead([lambda n=n: job(n) for n in range(4)])
    for number in range(4):
        assert next(results) == number
        assert number == 3 or started[number + 1].wait(5)
        assert number > 1 or not started[number + 2].is_set() or started[number + 1].is_set()
    assert list(results) == []


def test_an_error_comes_where_its_window_would():
    def fail():
        raise OSError("no more")

    results = ReadAhead([lambda: 1, lambda: 2, fail, lambda: 4])
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="no more"):
        next(results)


def test_a_loop_that_is_left_leaves_no_thread(tmp_path):
    data, options = parquet(tmp_path)
    windows = as_source(data, buffer=SMALL, **options).windows()
    next(windows)
    windows.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("chainrule-window")]


@pytest.mark.parametrize("at", ["start", "join"])
def test_a_signals_handler_that_raises_anywhere_leaves_a_process_that_ends(at):
    code = f"""
        import sys, threading
        from chainrule.data.windows.ahead import ReadAhead
        real = threading.Thread.{at}
        def interrupted(self):
            real(self)
            raise SystemExit(3)
        threading.Thread.{at} = interrupted
        try:
            ReadAhead([lambda: 1] * 3).close()
        except SystemExit as error:
            sys.kept = error  # as sys.last_value is, with everything that was open
            threading.Thread.{at} = real
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60, env=environment)


# -- what changed, what is wrong -------------------------------------------------------------------


def test_a_change_of_one_value_is_another_fingerprint(tmp_path):
    other = X.copy()
    other[500, 2] += 1
    prints = {
        as_source(data).fingerprint() for data in ((X, Y), (other, Y), (X[:-1], Y[:-1]), (X.astype(np.float64), Y))
    }
    assert len(prints) == 4
    pa = pytest.importorskip("pyarrow")
    tables = [pa.table({**frame(), "x2": values}) for values in (X[:, 2], other[:, 2])]
    assert len({as_source(table, target="y").fingerprint() for table in tables}) == 2
    with pytest.raises(DataError, match="^resume: the data is not what it was when the training was saved"):
        check_fingerprint(as_source((other, Y)), as_source((X, Y)).fingerprint())


def test_a_large_array_is_sampled():
    large = np.zeros((9_000_000, 2), np.float32)
    before = as_source(large).fingerprint()
    large[-1, 1] = 1
    assert as_source(large).fingerprint() != before


def test_a_file_that_changes_is_noticed(tmp_path):
    folder, options = parquet(tmp_path)
    source = as_source(folder, buffer=SMALL, **options)
    saved = source.fingerprint()
    windows = source.windows(batch_size=8, shuffle=False)
    next(windows)
    pa, parquet_ = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet_.write_table(pa.table(frame()).slice(0, 300), folder / "part-2.parquet")
    with pytest.raises(DataError, match=r"part-2.parquet changed while it was read. Write to another folder"):
        list(windows)
    with pytest.raises(DataError, match="the data is not what it was"):
        check_fingerprint(as_source(folder, buffer=SMALL, **options), saved)


@pytest.mark.parametrize("library", ["chainrule", "torch"])
def test_loaders_over_tensors_have_their_fingerprint(library):
    if library == "torch":
        data, as_tensor = torch.utils.data, torch.as_tensor
    else:
        data, as_tensor = cr.utils.data, cr.as_tensor
    other = X.copy()
    other[7, 0] += 1

    def mark(rows, **options):
        made = data.TensorDataset(as_tensor(rows), as_tensor(Y))
        return as_source(data.DataLoader(made, batch_size=10, **options)).fingerprint()

    assert mark(X) == mark(X.copy())
    assert len({mark(X), mark(other), mark(X, shuffle=True)}) == 3


def test_another_buffer_is_another_order_and_another_fingerprint(tmp_path):
    folder, options = parquet(tmp_path)
    assert as_source(folder, buffer=SMALL, **options).fingerprint() != as_source(folder, **options).fingerprint()


def test_a_window_has_a_fingerprint_of_its_own():
    (first,), (again,), (other,) = (as_source(data).windows() for data in ((X, Y), (X.copy(), Y), (X, Y + 1)))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_a_transform_is_applied_where_the_window_is_read(tmp_path):
    folder, options = parquet(tmp_path)
    threads = set()

    def scale(arrays):
        threads.add(threading.current_thread().name)
        return arrays[0] * 2, arrays[1]

    source = as_source(folder, buffer=SMALL, transform=scale, **options)
    assert np.array_equal(source.head(3)[0], X[:3] * 2)
    for (x, y), _ in batches(source):
        assert np.array_equal(x, X[y] * 2)
    assert any(name.startswith("chainrule-window") for name in threads)
    with pytest.raises(
        DataError, match=re.escape("transform must give arrays with as many rows as it got, 2, got (1, 4)")
    ):
        as_source((X, Y), transform=lambda arrays: arrays[0][:1]).head(2)


def table(**columns):
    return pytest.importorskip("pyarrow").table(columns)


REFUSED = {
    "all arrays must have a row for each other, got shapes (2,) and (3,)": lambda _: as_source(([1, 2], [1, 2, 3])),
    "there must be at least one array": lambda _: as_source(()),
    "must hold numbers, got dtype <U1": lambda _: as_source(["a", "b"]),
    "column 's' must hold numbers, got string": lambda _: as_source(table(s=["a"], y=[1]), target="y"),
    "features must be columns beside target and weight, got 'y' as both": lambda _: as_source(table(y=[1]), target="y", features=["y"]),
    "got no feature": lambda _: as_source(table(y=[1]), target="y"),
    "there must be at least one row": lambda _: as_source(table(x=[], y=[]).cast(pytest.importorskip("pyarrow").schema([("x", "float32"), ("y", "int64")])), target="y"),
    "target, features and weight name columns, which a ndarray has not": lambda _: as_source(X, target="y"),
    "there is no file or folder 'nowhere'": lambda _: as_source("nowhere"),
    "must hold files named *.parquet or *.csv, or a folder of images for each class, got none": lambda path: as_source(path),
    "cannot be read as Parquet": lambda path: pytest.importorskip("pyarrow") and as_source(write(path / "a.parquet", b"PAR1 no")),
    "must be arrays, a frame, a file, a dataset, a loader or an iterable of batches, got int": lambda _: as_source(7),
    "the order is that of the function that was given: leave out shuffle": lambda _: as_source(lambda: in_batches()).windows(shuffle=True),
    "batch_size must be a positive integer, got 0": lambda _: as_source(X).windows(batch_size=0),
    "there is no row 0 of window 5 in 1 windows of 1000 rows": lambda _: as_source(X).windows(Cursor(0, 5)),
    "there is no row 1000 of window 0": lambda _: as_source(X).windows(Cursor(0, 0, 1000)),
    "seed must be an integer": lambda _: as_source(X).windows(seed=-1),
    "epoch must be an integer": lambda _: as_source(X).windows(Cursor(-1)),
    "must have the same parts": lambda _: list(as_source(lambda: iter([X[:2], (X[:2], Y[:2])])).windows()),
    "with rows of float32(4,), then * with rows of int64()": lambda _: list(as_source(lambda: iter([X[:2], Y[:2]])).windows()),
    "rows must hold numbers, got object": lambda _: list(as_source(lambda: iter([np.array([None])])).windows()),
    "there must be at least one batch": lambda _: as_source(lambda: iter(())).head(1),
    "column 'x' must fit float32, which ends at 3.403e+38, got 1e+300": lambda _: as_source(table(x=[1.0, 1e300], y=[1, 2]), target="y").head(2),
    "column 's' must hold numbers, got String": lambda _: as_source(pytest.importorskip("polars").LazyFrame({"s": ["a"]})),
}  # fmt: skip


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text, tmp_path):
    with pytest.raises(DataError, match=re.escape(text)):
        REFUSED[text](Path(tmp_path))


def test_a_column_that_is_not_there():
    with pytest.raises(UnknownNameError, match=r"unknown column of as_source 'x9'. Known: x0, x1, x2, x3, y."):
        as_source(arrow(0)[0], target="x9")
    with pytest.raises(UnknownNameError) as caught:  # and not the text of the other column
        as_source(table(s=["a"], y=[1]), target="zz")
    assert str(caught.value) == "unknown column of as_source 'zz'. Known: s, y."


def test_files_must_have_the_same_columns(tmp_path):
    pa, parquet_ = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet_.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    parquet_.write_table(pa.table({"a": [1.5]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b.parquet must have the columns of .*a.parquet, got another \(a: "):
        as_source(tmp_path)


def test_a_torn_file_is_an_error_and_not_a_wait(tmp_path):
    folder, options = parquet(tmp_path)
    file = folder / "part-1.parquet"
    data = bytearray(file.read_bytes())
    data[40:2000] = b"\xff" * 1960  # its pages, not its footer
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"part-1.parquet cannot be read any further"):
        batches(as_source(folder, buffer=SMALL, **options))


def test_two_may_read_one_source_at_once(tmp_path):
    """A validation pass, say, while the next window of a training is read ahead."""
    folder, options = parquet(tmp_path, group=50)
    for buffer in (SMALL, 1000):  # row groups read whole, and batch by batch
        source = as_source(folder, buffer=buffer, **options)
        expected = [batches(source, seed=seed, batch_size=24) for seed in range(3)]
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda seed, source=source: batches(source, seed=seed, batch_size=24), range(3)))
        assert all(alike(one, other) for one, other in zip(found, expected, strict=True))


def test_columns_that_hold_no_numbers_are_named_with_what_they_hold():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for made, kind in (
        (pd.DataFrame({"s": ["a"], "y": [1]}), "str|object"),
        (pd.DataFrame({"s": pd.to_datetime(["2020-01-01"]), "y": [1]}), "datetime64"),
        (pd.DataFrame({"s": pd.Categorical(["a"]), "y": [1]}), "category"),
        (pl.DataFrame({"s": ["a"], "y": [1]}), "String"),
        (table(s=["a"], y=[1]), "string"),
        (table(s=[[1.0]], y=[1]), "list"),
    ):
        with pytest.raises(DataError, match=f"column 's' must hold numbers, got ({kind})"):
            as_source(made, target="y")
        assert as_source(made, features=["y"]).rows == 1
    words = pl.DataFrame({"s": ["a"], "x": [1.0], "y": [1]})
    for target in ("s", ["y", "s"]):
        with pytest.raises(DataError) as said:
            as_source(words, target=target)
        assert str(said.value) == (
            "as_source: the target 's' must hold numbers, got String. Number its classes from 0 (numpy.unique(labels, "
            "return_inverse=True)), or name another column."
        )
    with pytest.raises(DataError) as said:
        as_source(words, target="y", weight="s")
    assert str(said.value) == "as_source: the weight 's' must hold numbers, got String. Name another column."
    with pytest.raises(DataError, match="columns must have names of their own"):
        as_source(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    numbered = as_source(pd.DataFrame(X), target="3").head(2)
    assert np.array_equal(numbered[0], X[:2, :3])
