"""A whole process, timed from outside: start Python, import the library, load the digits, train to 97 %.

    python benchmarks/whole_process.py [--rounds 5] [--threads 2] [--json out.json]

64-128-10, batches of 64, Adam at 1e-3, evaluated on the test rows after every epoch, stopped at 97 %; the same
initial weights and the same order of rows for all. The split is the stratified one of seed 1: on the bundled
one, of seed 0, this network reaches 97 % from only 2 of 6 initialisations within 150 epochs, with any library.

chainrule twice: with an empty cache, as on the first run ever, and with its machine code on disk.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table

from chainrule.cli.bench import options
from chainrule.cli.bench.worker import surroundings
from chainrule.data.batches import train_test_split
from chainrule.data.sources import read_digits

SPLIT = 1
SCRIPT = Path(__file__).with_name("digits_training.py")
CONTENDERS = {
    "chainrule": "chainrule",
    "chainrule, empty cache": "chainrule",
    "scikit-learn": "sklearn",
    "torch": "torch",
    "jax": "jax",
}
IMPORTS = {"chainrule": "chainrule", "sklearn": "sklearn.neural_network", "torch": "torch", "jax": "jax.numpy"}
Result = dict[str, Any]


def write_digits(path: Path) -> None:
    images, labels = read_digits()
    X = images.reshape(len(images), 64).astype(np.float32) / np.float32(16)
    X, X_test, y, y_test = train_test_split(X, labels.astype(np.int64), 360, seed=SPLIT, stratify=True)
    np.savez(path, X=X, y=y, X_test=X_test, y_test=y_test)


def process(arguments: list[str]) -> tuple[str, float, int | None]:
    """What Python printed with these arguments, its seconds from start to end, the most memory it held."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    text, memory = child.stdout.read() if child.stdout else "", None
    if hasattr(os, "wait4"):
        import resource

        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        unit = 1 if sys.platform == "darwin" else 1024
        # The system counts what the child held before it became another program, too: this process's own memory.
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = usage.ru_maxrss * unit if usage.ru_maxrss > own else None
    failed = child.wait() != 0
    seconds = time.perf_counter() - start
    if failed:
        raise RuntimeError(text.strip().splitlines()[-1] if text.strip() else f"exit code {child.returncode}")
    return text, seconds, memory


def run(library: str, data: Path, threads: int, cache: str) -> Result:
    """A training, and an import alone: each in a process of its own."""
    with surroundings(threads, cache):
        text, seconds, memory = process([str(SCRIPT), library, str(data)])
        _, importing, _ = process(["-c", f"import {IMPORTS[library]}"])
    epochs, accuracy = text.split()[-2:]
    return {
        "seconds": seconds, "epochs": int(epochs), "accuracy": float(accuracy), "memory": memory, "import": importing,
    }  # fmt: skip


def measure(rounds: int, threads: int, progress: Console) -> Result:
    """Interleaved rounds of all that are installed, after one of each to warm up the disk."""
    runs: dict[str, list[Result]] = {name: [] for name in CONTENDERS}
    skipped = {name: f"{needs} is not installed" for name, needs in CONTENDERS.items() if find_spec(needs) is None}
    interrupted = False
    with tempfile.TemporaryDirectory() as folder, progress.status("") as status:
        data, warm = Path(folder) / "digits.npz", str(Path(folder) / "cache")
        write_digits(data)
        try:
            for number in range(-1, rounds):
                for name, library in CONTENDERS.items():
                    if name in skipped:
                        continue
                    status.update(f"whole process: {name}, " + (f"round {number + 1}" if number >= 0 else "warming up"))
                    cache = tempfile.mkdtemp(dir=folder) if "empty" in name else warm
                    try:
                        found = run(library, data, threads, cache)
                    except RuntimeError as error:
                        skipped[name] = str(error)
                        continue
                    if number >= 0:
                        runs[name].append(found)
        except KeyboardInterrupt:
            interrupted = True
            progress.print("interrupted: the figures are of the rounds so far")
    found = {name: summary(runs[name], runs["chainrule"]) for name in runs}
    return {"threads": threads, "contenders": found, "skipped": skipped, "interrupted": interrupted}


def summary(runs: list[Result], ours: list[Result]) -> Result | None:
    """Median seconds, their range, and the median over the rounds of the ratio to ours."""
    if not runs or not ours:
        return None
    seconds = [found["seconds"] for found in runs]
    return {
        **runs[-1], "import": statistics.median(found["import"] for found in runs),
        "seconds": statistics.median(seconds), "spread": [min(seconds), max(seconds)],
        "ratio": statistics.median(s / o["seconds"] for s, o in zip(seconds, ours, strict=False)),
    }  # fmt: skip


def table(result: Result) -> Group:
    shown = Table(
        title=f"whole process: import, load the digits, train 64-128-10 to 97 %; {result['threads']} core(s)",
        title_justify="left", box=SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    for heading in ("", "seconds", "spread", "x ours", "epochs", "accuracy", "memory, MB", "import, s"):
        shown.add_column(heading, justify="right" if heading else "left")
    for name, found in result["contenders"].items():
        if found is not None:
            low, high = found["spread"]
            memory = "" if found["memory"] is None else f"{found['memory'] / 1e6:.0f}"
            shown.add_row(
                name, f"{found['seconds']:.2f}", f"{(high - low) / found['seconds']:.0%}", f"{found['ratio']:.2f}",
                str(found["epochs"]), f"{found['accuracy']:.2%}", memory, f"{found['import']:.2f}",
            )  # fmt: skip
    return Group(shown, *(f"{name}: {why}" for name, why in result["skipped"].items()))


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--threads", help="number of cores (default: all there are)")
@click.option("--json", "path", type=click.Path(dir_okay=False))
def main(rounds: int, threads: str | None, path: str | None) -> None:
    result = measure(rounds, options.threads(threads)[0], Console(stderr=True))
    Console().print(table(result))
    if path:
        Path(path).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
