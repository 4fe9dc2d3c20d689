"""Everything: the dense workloads, the scaling series, the whole process, the matrix products; as JSON.

    python benchmarks/run.py [--parts workloads,series,whole_process,contraction] [--series width,batch,depth]
    python benchmarks/run.py --threads 1,2 --readme     # and the README's figures, table and plot from it
    python benchmarks/run.py --series depth --add --readme        # one series into the figures there are
    python benchmarks/run.py --merge width.json,depth.json --readme    # likewise, measured before

The JSON is written after every figure. With --add a file keeps what it holds but for what is measured anew, and
the points of a series that this compiler has measured already are left out: an interrupted run goes on where it
was. The series run on the most cores of --threads.
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
from figures import Figures
from rich.console import Console
from series import SERIES

from chainrule.cli.bench import options
from chainrule.cli.bench.report import machine
from chainrule.cli.bench.session import session
from chainrule.compiler.runtime import native
from chainrule.errors import ChainruleError, unknown_name

CONTRACTIONS = "7,13,32,65,100,128,256,1000,1024"
Result = dict[str, Any]


class Interrupted(Exception):
    """After Ctrl-C: what was measured is kept."""


def workloads(figures: Figures, chosen: Result) -> None:
    settings = options.settings(chosen["peers"], chosen["rounds"], chosen["quick"])
    for result in session(
        options.workloads(chosen["workloads"], chosen["quick"]), chosen["cores"], settings, Console()
    ):
        figures.add_result(result)
        stop_if(result["interrupted"])


def series(figures: Figures, chosen: Result) -> None:
    quick, cores = chosen["quick"], chosen["cores"][-1]
    settings = options.settings(chosen["peers"], chosen["rounds"], quick, brief=True)
    peers = [peer.name for peer in settings.peers]
    for name in options.listed(chosen["series"]) or list(SERIES):
        if name not in SERIES:
            raise unknown_name("series", name, list(SERIES))
        points = {workload.name: size for size, workload in list(SERIES[name].items())[:: 3 if quick else 1]}
        left = [
            SERIES[name][size]
            for size in points.values()
            if not figures.has_point(name, size, cores, peers, settings.rounds)
        ]
        for result in session(left, [cores], settings, Console()):
            stop_if(result["interrupted"])  # half a point is measured again
            figures.add_point(name, points[result["workload"]], result)
            Console().print(f"{result['workload']}: {result['seconds']:.0f} s, of which set-up {set_up(result)}\n")


def set_up(result: Result) -> str:
    """How long the slowest implementations took until they could be timed."""
    took = sorted(((peer.get("set_up", 0.0), name) for name, peer in result["peers"].items()), reverse=True)
    return ", ".join(f"{name} {seconds:.1f} s" for seconds, name in took[:3])


def stop_if(interrupted: bool) -> None:
    if interrupted:
        raise Interrupted


def whole(figures: Figures, chosen: Result) -> None:
    result = whole_process.measure(
        chosen["rounds"] or (1 if chosen["quick"] else 5), chosen["cores"][-1], Console(stderr=True)
    )
    Console().print(whole_process.table(result))
    figures.add("whole_process", result)
    stop_if(result["interrupted"])


def contraction(figures: Figures, chosen: Result) -> None:
    """In a process of its own, since the libraries read their number of threads when they are imported."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "contraction.json"
        script = str(Path(__file__).with_name("contraction.py"))
        subprocess.run([sys.executable, script, "--only", CONTRACTIONS, "--json", str(path)], check=True)
        figures.add("contraction", json.loads(path.read_text(encoding="utf-8")))


PARTS: dict[str, Callable[[Figures, Result], None]] = {
    "workloads": workloads, "series": series, "whole_process": whole, "contraction": contraction,
}  # fmt: skip


@click.command(help=__doc__)
@options.options
@click.option("--series", help="width, batch, depth (default: all); without --parts, nothing else")
@click.option("--parts", help=f"of {', '.join(PARTS)} (default: all)")
@click.option("--json", "path", type=click.Path(dir_okay=False), help="write everything measured into this file")
@click.option("--readme", "publish", is_flag=True, help="the README's figures and plot, and results.json")
@click.option("--add", is_flag=True, help="to what the file holds already")
@click.option("--merge", help="files whose figures are added instead of any measured now, comma-separated")
def main(path: str | None, parts: str | None, publish: bool, add: bool, merge: str | None, **chosen: Any) -> None:
    chosen["cores"] = sorted(options.threads(chosen["threads"]))
    files = [Path(path)] if path else []
    files += [readme.RESULTS] if publish else []
    here = machine()
    if publish:
        readme.make_room(here["cpu"])
    figures = Figures(here, native.writers(), files)
    before = [file for file in files if file.exists()] if add or merge else []
    for file in [*before, *map(Path, options.listed(merge))]:
        figures.take(file)
    for part in [] if merge else options.listed(parts) or (["series"] if chosen["series"] else PARTS):
        if part not in PARTS:
            raise unknown_name("part", part, list(PARTS))
        PARTS[part](figures, chosen)
    if publish:
        readme.write()


if __name__ == "__main__":
    try:
        main()
    except (Interrupted, KeyboardInterrupt):
        sys.exit(130)
    except ChainruleError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
