"""Worker processes of a loader: the same batches whatever their number, and a clear end whatever happens to them."""

import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import WorkerError
from chainrule.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="these start workers by fork")
FORK = {"multiprocessing_context": "fork"}


class Squares(Dataset):
    """Row i is i squared; `at` says what happens at some rows."""

    def __init__(self, rows=40, at=None):
        self.rows, self.at = rows, at or {}

    def __len__(self):
        return self.rows

    def __getitem__(self, index):
        if index in self.at:
            self.at[index]()
        return index * index


class Counting(IterableDataset):
    """Counts, each worker its share."""

    def __init__(self, rows=20):
        self.rows = rows

    def __iter__(self):
        which = get_worker_info()
        first, step = (which.id, which.num_workers) if which is not None else (0, 1)
        return iter(range(first, self.rows, step))


def plain(loader):
    return [batch.tolist() for batch in loader]


def shuffled(count, **options):
    options = {**FORK, **options} if count else {}
    return DataLoader(Squares(), 3, shuffle=True, num_workers=count, generator=cr.Generator(7), **options)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("persistent", [False, True])
def test_the_number_of_workers_changes_no_batch(count, persistent):
    here, there = shuffled(0), shuffled(count, persistent_workers=persistent)
    assert [plain(here) for _ in range(3)] == [plain(there) for _ in range(3)]
    assert len(here) == len(there) == 14


def test_what_is_drawn_after_an_epoch_does_not_depend_on_the_workers():
    drawn = []
    for count in (0, 2):
        cr.manual_seed(0)
        loader = DataLoader(Squares(), 3, shuffle=True, num_workers=count, **(FORK if count else {}))
        batches = iter(loader)
        drawn.append((cr.rand(1).item(), [b.tolist() for b in batches], cr.rand(1).item()))
    assert drawn[0] == drawn[1]


def test_batches_of_tensors_come_as_they_are_made_here():
    x, y = cr.rand(100, 3), cr.arange(100)
    here = DataLoader(TensorDataset(x, y), 16)
    there = DataLoader(TensorDataset(x, y), 16, num_workers=2, **FORK)
    for (a, b), (c, d) in zip(here, there, strict=True):
        assert (a.tolist(), b.tolist(), a.dtype, b.dtype) == (c.tolist(), d.tolist(), c.dtype, d.dtype)


def test_large_orders_and_large_batches_do_not_wait_for_each_other():
    loader = DataLoader(TensorDataset(cr.arange(400_000)), 50_000, num_workers=1, prefetch_factor=8, timeout=60, **FORK)
    assert sum(len(x) for (x,) in loader) == 400_000


def test_iterable_datasets_are_shared_out_and_end():
    loader = DataLoader(Counting(), 3, num_workers=2, **FORK)
    assert plain(loader) == [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11], [12, 14, 16], [13, 15, 17], [18], [19]]
    assert sorted(x for b in DataLoader(Counting(7), 2, num_workers=5, **FORK) for x in b.tolist()) == list(range(7))
    assert plain(DataLoader(Counting(0), 2, num_workers=2, **FORK)) == []
    kept = DataLoader(Counting(), 3, num_workers=2, persistent_workers=True, **FORK)
    assert plain(kept) == plain(kept) == plain(loader)


def test_order_may_be_given_up():
    loader = DataLoader(Squares(at={0: lambda: time.sleep(0.3)}), 2, num_workers=2, in_order=False, **FORK)
    found = plain(loader)
    assert sorted(x for b in found for x in b) == [i * i for i in range(40)]
    assert found[0] != [0, 1]


def test_a_worker_knows_which_it_is_and_has_a_seed_of_its_own():
    class Asked(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            which = get_worker_info()
            drawn = (random.random(), float(np.random.rand()), cr.rand(1).item())
            return which.id, which.num_workers, which.seed, which.dataset is self, *drawn

    def draws(seed):
        rows = list(DataLoader(Asked(), None, num_workers=2, generator=cr.Generator(seed), **FORK))
        assert [row[:2] for row in rows] == [[0, 2], [1, 2]] * 2
        assert rows[1][2] == rows[0][2] + 1
        assert all(row[3] for row in rows)
        return [row[4:] for row in rows]

    assert draws(1) == draws(1) != draws(2)
    assert len({tuple(row) for row in draws(1)}) == 4
    assert get_worker_info() is None


def test_each_worker_is_prepared_once(tmp_path):
    def prepare(number):
        (tmp_path / f"{number}-{os.getpid()}").touch()

    loader = DataLoader(Squares(), 4, num_workers=2, worker_init_fn=prepare, persistent_workers=True, **FORK)
    plain(loader), plain(loader)
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["0", "1"]


def test_an_error_in_a_worker_has_its_type_and_says_where():
    def fail():
        raise KeyError("lost")

    loader = DataLoader(Squares(at={5: fail}), 2, num_workers=2, **FORK)
    batches = iter(loader)
    assert [next(batches).tolist(), next(batches).tolist()] == [[0, 1], [4, 9]]
    with pytest.raises(KeyError, match=r"(?s)Caught KeyError in DataLoader worker process 0\..*in fail\n.*'lost'"):
        next(batches)
    assert next(batches).tolist() == [36, 49]  # the next batch


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def test_errors_that_cannot_travel_still_tell_their_text():
    def odd():
        raise Odd("first", "second")

    def local():
        class Local(Exception):
            pass

        raise Local("within")

    for at, text in ((odd, "Caught Odd in"), (local, "Caught Local in")):
        with pytest.raises(RuntimeError, match=text):
            plain(DataLoader(Squares(at={0: at}), 2, num_workers=1, **FORK))
    with pytest.raises((RuntimeError, AttributeError, TypeError), match="(?s)Caught .*pickle"):
        list(DataLoader(Squares(), 2, num_workers=1, collate_fn=lambda rows: lambda: rows, **FORK))
    with pytest.raises(ValueError, match="Caught ValueError in DataLoader worker process 0"):
        plain(DataLoader(Squares(), 2, num_workers=1, worker_init_fn=lambda n: int("x"), **FORK))


@pytest.mark.parametrize(
    ("death", "text"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL"),
        (lambda: os._exit(3), "exited with code 3"),
        (lambda: sys.exit(4), "exited with code 4"),
    ],
    ids=["killed", "_exit", "exit"],
)
def test_a_worker_that_dies_is_an_error_at_once(death, text):
    began = time.monotonic()
    loader = DataLoader(Squares(at={4: death}), 2, num_workers=2, **FORK)
    with pytest.raises(
        WorkerError, match=rf"DataLoader: worker 0 of 2 \(process \d+\) {text} before its batch was made"
    ):
        plain(loader)
    assert time.monotonic() - began < 20
    with pytest.raises(WorkerError, match="use fewer workers or smaller batches"):  # and a loader begins anew
        plain(loader)


def test_a_worker_that_dies_between_epochs_is_an_error_once():
    others = set(multiprocessing.active_children())
    loader = DataLoader(Squares(), 2, num_workers=2, persistent_workers=True, **FORK)
    whole = plain(loader)
    (victim,) = (p for p in set(multiprocessing.active_children()) - others if p.name == "loader-1")
    victim.kill()
    victim.join()
    with pytest.raises(WorkerError, match="worker 1 of 2 .* was killed by SIGKILL"):
        plain(loader)
    assert plain(loader) == whole


def test_a_batch_that_does_not_come_in_time_is_an_error():
    loader = DataLoader(Squares(at={0: lambda: time.sleep(60)}), 2, num_workers=1, timeout=0.5, **FORK)
    with pytest.raises(WorkerError, match=re.escape("no batch came from 1 workers within timeout=0.5 seconds")):
        plain(loader)
    assert isinstance(WorkerError(), RuntimeError)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loop_that_is_left_leaves_no_process_behind(persistent):
    others = set(multiprocessing.active_children())
    loader = DataLoader(Squares(), 2, num_workers=2, persistent_workers=persistent, **FORK)
    for _ in range(2):
        for batch in loader:
            assert batch.tolist() == [0, 1]
            break
    assert plain(loader)[1] == [4, 9]
    del loader
    assert set(multiprocessing.active_children()) <= others


def test_the_newest_iterator_of_persistent_workers_has_them():
    loader = DataLoader(Squares(), 2, num_workers=2, persistent_workers=True, **FORK)
    first = iter(loader)
    next(first)
    second = iter(loader)
    assert next(second).tolist() == [0, 1]
    assert list(first) == []
    assert len(list(second)) == 19


def script(tmp_path, body):
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(body), encoding="utf-8")
    return [sys.executable, str(file)]


SLOW = """
    import os, sys, time
    from chainrule.utils.data import DataLoader, Dataset

    class Slow(Dataset):
        def __len__(self):
            return 1000
        def __getitem__(self, index):
            time.sleep(0.05)
            return os.getpid()

    if __name__ == "__main__":
        for batch in DataLoader(Slow(), 2, num_workers=2, multiprocessing_context="fork"):
            print(*set(batch.tolist()), flush=True)
"""


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().split(") ")[1][0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, number):
    process = subprocess.Popen(
        script(tmp_path, SLOW), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    workers = {int(process.stdout.readline()) for _ in range(2)}
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as the terminal does: to all of them
    else:
        process.send_signal(number)
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == -number if number != signal.SIGINT else "KeyboardInterrupt" in complaint
    assert complaint.count("Traceback") <= 1  # of the parent alone
    until = time.monotonic() + 20
    while not all(map(gone, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert all(map(gone, workers))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_ways_to_start_a_worker(tmp_path, method):
    body = f"""
        import chainrule as cr
        from chainrule.utils.data import DataLoader, TensorDataset

        if __name__ == "__main__":
            loader = DataLoader(TensorDataset(cr.arange(10)), 4, shuffle=True, num_workers=2,
                                multiprocessing_context="{method}", generator=cr.Generator(3))
            here = DataLoader(loader.dataset, 4, shuffle=True, generator=cr.Generator(3))
            assert [x.tolist() for x, in loader] == [x.tolist() for x, in here]
            print("alike")
    """
    done = subprocess.run(script(tmp_path, body), capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "alike\n", done.stderr
