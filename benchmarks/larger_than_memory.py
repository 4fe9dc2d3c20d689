"""Training from a Parquet folder, beside the same training from arrays in memory: rows a second, CPU time, memory.

Run: ``python benchmarks/larger_than_memory.py FOLDER [--rows 2000000] [--seconds 20]`` with pyarrow installed.

The folder is written first, unless it is there: 30 columns of float32 and a label, in row groups of 100,000 rows. Each
way runs in a process of its own, `Trainer.fit` of the same network (30-128-128-2, a batch of 64, Adam), for so many seconds
after a first second that does not count, so that files and programs are warm. Memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.training import Callback

COLUMNS, GROUP, FILES, BATCH = 30, 100_000, 8, 64
IN_MEMORY = 1_000_000  # rows, at most, of the run in memory


def write(folder: Path, rows: int) -> None:
    """The data: a label that follows from the columns."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    weights = random.normal(size=COLUMNS).astype(np.float32)
    each = -(-rows // FILES)
    for number in range(FILES):
        with parquet.ParquetWriter(folder / f"part-{number}.parquet", _schema(pa)) as file:
            for start in range(0, min(each, rows - number * each), GROUP):
                x = random.normal(size=(min(GROUP, each - start), COLUMNS)).astype(np.float32)
                table = pa.table(
                    [*map(pa.array, np.ascontiguousarray(x.T)), (x @ weights > 0).astype(np.int64)], _schema(pa)
                )
                file.write_table(table, row_group_size=GROUP)


def _schema(pa: Any) -> Any:
    return pa.schema([*((f"x{i}", pa.float32()) for i in range(COLUMNS)), ("y", pa.int64())])


class Timing(Callback):
    """Ends the training after so many seconds, of which the first does not count."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.started = seconds, time.perf_counter()
        self.began: tuple[float, float, int] | None = None  # the time, the time of CPUs, the steps done

    def on_pause(self, trainer: cr.Trainer) -> None:
        assert trainer.position is not None
        now = time.perf_counter(), time.process_time(), trainer.position.done
        if self.began is None:
            self.began = now if now[0] - self.started > 1 else None
        elif now[0] - self.began[0] > self.seconds:
            rows = (now[2] - self.began[2]) * BATCH
            print(rows / (now[0] - self.began[0]), rows / (now[1] - self.began[1]), _peak(), flush=True)
            raise KeyboardInterrupt


def measure(way: str, folder: Path, seconds: float) -> None:
    """Print rows a second and the peak of memory."""
    cr.set_num_threads(1)
    cr.manual_seed(0)
    layers = (nn.Linear(COLUMNS, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))
    model = nn.Sequential(*layers)
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=1e-4))
    data: tuple[Any, ...] = (folder, "y")
    if way == "memory":
        data = cr.data.as_source(folder, target="y").head(IN_MEMORY)
    trainer.fit(*data, epochs=10_000, batch_size=BATCH, callbacks=Timing(seconds), progress=False)


def _peak() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--rows", type=int, default=2_000_000, help="to write, where the folder is not there")
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--way", choices=("files", "memory"), help="only this one, in this process")
    given = options.parse_args()
    if given.way is not None:
        measure(given.way, given.folder, given.seconds)
        return
    if not given.folder.exists():
        write(given.folder, given.rows)
    found: dict[str, list[list[float]]] = {}
    for way in ("memory", "files", "memory", "files"):
        command = [sys.executable, __file__, str(given.folder), "--seconds", str(given.seconds), "--way", way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        *rates, peak = map(float, done.stdout.split())
        found.setdefault(way, []).append(rates)
        thousands = [f"{rate / 1e3:.0f}" for rate in rates]
        print(f"{way:7} {thousands[0]} thousand rows a second, {thousands[1]} of CPU time, {peak:.0f} MB at most")
    shares = [
        max(files) / max(memory)
        for files, memory in zip(*(zip(*found[way], strict=True) for way in ("files", "memory")), strict=True)
    ]
    print(f"from files at {shares[0]:.0%} of the rate in memory, {shares[1]:.0%} by CPU time")


if __name__ == "__main__":
    main()
