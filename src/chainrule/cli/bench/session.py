"""A run from start to end: every workload on every number of cores, told as it goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rich.console import Console

from chainrule.cli.bench.measure import Result, Settings, measure
from chainrule.cli.bench.report import summarise, table
from chainrule.cli.bench.workloads import Workload


def session(
    workloads: Iterable[Workload], threads: Sequence[int], settings: Settings, shown: Console
) -> Iterator[Result]:
    """The summary of each workload, once its table is printed; after Ctrl-C what was measured comes last."""
    chosen = list(workloads)
    progress = Console(stderr=True)
    for number in threads:
        with progress.status("starting") as status:
            for result in measure(chosen, replace(settings, threads=number), status.update):
                summary = summarise(result)
                shown.print(table(summary))
                yield summary
                if summary["interrupted"]:
                    progress.print("interrupted: the figures are of the rounds so far")
                    return
