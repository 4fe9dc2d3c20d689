"""A training of one's own over windows: the bits of the training in memory, resumed anywhere, in bounded memory."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.data import Cursor, as_source, check_fingerprint

X = np.random.default_rng(0).normal(size=(2000, 6)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)


class Training:
    """A model, its optimizer, and a compiled step."""

    def __init__(self, saved=None):
        cr.manual_seed(5)
        self.model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-2)
        self.cursor = Cursor()
        if saved is not None:
            weights, moments, self.cursor = saved
            self.model.load_state_dict(weights)
            self.optimizer.load_state_dict(moments)

        @cr.compile
        def step(x, y):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            return loss

        self.step = step

    def run(self, source, epochs, stop=None):
        """To the end of the epochs, or for so many steps."""
        done = 0
        while self.cursor.epoch < epochs:
            for window in source.windows(self.cursor, seed=11, batch_size=32):
                for (x, y), after in window.batches():
                    self.step(cr.tensor(x), cr.tensor(y))
                    self.cursor, done = after, done + 1
                    if done == stop:
                        return self
        return self

    def saved(self):
        copied = {name: value.clone() for name, value in self.model.state_dict().items()}
        return copied, self.optimizer.state_dict(), self.cursor

    def weights(self):
        return [value.numpy().tobytes() for value in self.model.state_dict().values()]


def parquet(folder, group=150):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({**{f"x{i}": X[:, i] for i in range(6)}, "y": Y})
    for number in range(2):
        parquet.write_table(table.slice(number * 1000, 1000), folder / f"{number}.parquet", row_group_size=group)
    return folder


def test_files_that_fit_into_one_window_train_to_the_bits_of_arrays(tmp_path):
    in_memory = Training().run(as_source((X, Y)), 2)
    from_files = Training().run(as_source(parquet(tmp_path), target="y"), 2)
    assert from_files.weights() == in_memory.weights()


@pytest.mark.parametrize("stop", [1, 13, 62, 63, 64, 100])
def test_a_training_over_windows_goes_on_to_the_same_bits(tmp_path, stop):
    folder = parquet(tmp_path)

    def source():
        return as_source(folder, target="y", buffer=10_000)

    assert len(list(source().windows(batch_size=32))) > 5
    whole = Training().run(source(), 3)
    part = Training().run(source(), 3, stop)
    saved, mark = part.saved(), source().fingerprint()
    part.run(source(), 3, 5)  # goes on, and dies
    check_fingerprint(source(), mark)
    assert Training(saved).run(source(), 3).weights() == whole.weights()
    assert whole.weights() != Training().run(as_source((X, Y)), 3).weights(), (
        "another order, and no other test would see it"
    )


def test_training_over_windows_learns(tmp_path):
    training = Training().run(as_source(parquet(tmp_path), target="y", buffer=10_000), 8)
    assert F.cross_entropy(training.model(cr.tensor(X)), cr.tensor(Y)).item() < 0.25


MEASURE = """
    import sys
    import chainrule as cr

    def peak():  # of this program: ru_maxrss knows that of the process which started it, too
        status = open("/proc/self/status").read()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    folder, buffer = sys.argv[1], int(sys.argv[2])
    warm = cr.data.as_source(folder, target="y", buffer=buffer)  # imports pyarrow, and reads the first windows
    warm.head(10)
    before, rows = peak(), 0
    for epoch in range(2):
        for window in cr.data.as_source(folder, target="y", buffer=buffer).windows(cr.data.Cursor(epoch)):
            rows += window.rows
            held = window.arrays[0].sum()
    print(rows, peak() - before)
"""


# What is freed goes back at once: what allocators keep for later is not ours, and another amount in every run.
GIVING_BACK = {
    "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536",
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("group", [20_000, 600_000], ids=["small row groups", "one row group"])
def test_memory_is_bounded_by_the_buffer_and_not_by_the_data(tmp_path, group):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows, columns = 600_000, 30  # 144 MB on disk and in the file's own types, 72 MB as float32
    values = np.random.default_rng(0).normal(size=(rows, columns))
    table = pa.table({**{f"x{i}": values[:, i] for i in range(columns)}, "y": np.arange(rows) % 2})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=group, compression="none", use_dictionary=False)
    script = tmp_path / "measure.py"
    script.write_text(textwrap.dedent(MEASURE), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(4 << 20)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **GIVING_BACK},
    )
    assert done.returncode == 0, done.stderr
    read, growth = map(int, done.stdout.split())
    assert read == 2 * rows
    assert growth < 60e6, f"{growth / 1e6:.0f} MB"
