"""Everything: the dense workloads, the scaling series, the whole process, the matrix products; as JSON.

    python benchmarks/run.py [--parts workloads,series,whole_process,contraction] [--series width,batch,depth]
    python benchmarks/run.py --threads 1,2 --readme     # and the README's figures and plot from it

The JSON is written after every figure, so that Ctrl-C keeps what was measured. The series run on the most
cores of --threads, and without torch.compile unless --peers names it: it compiles anew for every size.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import readme
import whole_process
from rich.console import Console
from series import SERIES

from chainrule.cli.bench import options
from chainrule.cli.bench.report import machine
from chainrule.cli.bench.session import session
from chainrule.errors import ChainruleError, unknown_name

CONTRACTIONS = "7,13,32,65,100,128,256,1000,1024"
Result = dict[str, Any]
Keep = Callable[[str, Any], None]


class Interrupted(Exception):
    """After Ctrl-C: what was measured is kept."""


def workloads(keep: Keep, chosen: Result) -> None:
    settings = options.settings(chosen["peers"], chosen["rounds"], chosen["quick"])
    done: list[Result] = []
    for result in session(
        options.workloads(chosen["workloads"], chosen["quick"]), chosen["cores"], settings, Console()
    ):
        done.append(result)
        keep("results", done)
        stop_if(result["interrupted"])


def series(keep: Keep, chosen: Result) -> None:
    quick, found = chosen["quick"], {}
    settings = options.settings(chosen["peers"], chosen["rounds"], quick, brief=True)
    for name in options.listed(chosen["series"]) or list(SERIES):
        if name not in SERIES:
            raise unknown_name("series", name, list(SERIES))
        points, found[name] = list(SERIES[name].items())[:: 3 if quick else 1], []
        runs = session([workload for _, workload in points], chosen["cores"][-1:], settings, Console())
        for (size, _), result in zip(points, runs, strict=False):
            found[name].append({"size": size, **result})
            keep("series", found)
            stop_if(result["interrupted"])


def stop_if(interrupted: bool) -> None:
    if interrupted:
        raise Interrupted


def whole(keep: Keep, chosen: Result) -> None:
    result = whole_process.measure(
        chosen["rounds"] or (1 if chosen["quick"] else 5), chosen["cores"][-1], Console(stderr=True)
    )
    Console().print(whole_process.table(result))
    keep("whole_process", result)
    stop_if(result["interrupted"])


def contraction(keep: Keep, chosen: Result) -> None:
    """In a process of its own, since the libraries read their number of threads when they are imported."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "contraction.json"
        script = str(Path(__file__).with_name("contraction.py"))
        subprocess.run([sys.executable, script, "--only", CONTRACTIONS, "--json", str(path)], check=True)
        keep("contraction", json.loads(path.read_text(encoding="utf-8")))


PARTS: dict[str, Callable[[Keep, Result], None]] = {
    "workloads": workloads, "series": series, "whole_process": whole, "contraction": contraction,
}  # fmt: skip


@click.command(help=__doc__)
@options.options
@click.option("--series", help="width, batch, depth (default: all)")
@click.option("--parts", help=f"of {', '.join(PARTS)} (default: all)")
@click.option("--json", "path", type=click.Path(dir_okay=False), help="write everything measured into this file")
@click.option("--readme", "publish", is_flag=True, help="the README's figures and plot, and results.json")
def main(path: str | None, parts: str | None, publish: bool, **chosen: Any) -> None:
    chosen["cores"] = sorted(options.threads(chosen["threads"]))
    run: Result = {"machine": machine(), "results": []}

    files = [Path(path)] if path else []
    files += [readme.RESULTS] if publish else []

    def keep(part: str, found: Any) -> None:
        run[part] = found
        for file in files:
            file.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")

    for part in options.listed(parts) or PARTS:
        if part not in PARTS:
            raise unknown_name("part", part, list(PARTS))
        PARTS[part](keep, chosen)
    if publish:
        readme.write()


if __name__ == "__main__":
    try:
        main()
    except (Interrupted, KeyboardInterrupt):
        sys.exit(130)
    except ChainruleError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
