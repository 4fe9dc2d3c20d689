"""From rounds to figures: medians, ratios, shares of what the machine can do; as a table."""

from __future__ import annotations

import platform
import statistics
from importlib import metadata
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from chainrule.cli.bench.peers import OURS, PEERS

Result = dict[str, Any]
_DISTRIBUTIONS = ("chainrule", "numpy", "llvmlite", "torch", "jax", "scikit-learn")
_CROWDED = 1.5  # processes that want a core, for each core


def machine() -> Result:
    """Whose figures these are."""
    from chainrule.compiler.runtime import native
    from chainrule.compiler.runtime.threads import available_cpus

    versions = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    here = native.machine()
    return {
        "cpu": here.cpu, "vector_bytes": here.target.vector_bytes, "cores": available_cpus(),
        "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
        "versions": versions,
    }  # fmt: skip


def summarise(result: Result) -> Result:
    """The result with each implementation's median and ratio to ours, the best peer, and ours against the machine.

    A ratio is the median over the rounds of its time by ours in the same round: above 1, ours is faster. The roofline
    is the time that the arithmetic alone, or the bytes alone, would take at the measured peaks, whichever is longer.
    """
    peers = {name: {**peer, **_figures(peer, result)} for name, peer in result["peers"].items()}
    timed = {name: peer["ratio"] for name, peer in peers.items() if "ratio" in peer and not PEERS[name].ours}
    best = min(timed, key=lambda name: timed[name], default=None)
    return {**result, "peers": peers, "best_peer": best, "best_ratio": timed.get(best), **_limits(result, peers)}


def _figures(peer: Result, result: Result) -> Result:
    """Of one implementation; nothing where it was not timed."""
    rounds, ours = peer.get("rounds"), result["peers"][OURS].get("rounds")
    if not rounds or not ours or "skipped" in peer:
        return {}
    return {
        "microseconds": statistics.median(rounds), "spread": [min(rounds), max(rounds)],
        "ratio": statistics.median(theirs / own for theirs, own in zip(rounds, ours, strict=False)),
        "gflops": result["flops"] / statistics.median(rounds) / 1e3,
    }  # fmt: skip


def _limits(result: Result, peers: Result) -> Result:
    """Ours against what the machine can do."""
    if "microseconds" not in peers[OURS]:
        return {}
    arithmetic = result["flops"] / result["peak_gflops"] / 1e3
    memory = result["bytes"] / result["stream_gbytes"] / 1e3
    microseconds = peers[OURS]["microseconds"]
    return {
        "share_of_peak": arithmetic / microseconds, "roofline_microseconds": max(arithmetic, memory),
        "roofline_bound": "arithmetic" if arithmetic >= memory else "memory",
        "share_of_roofline": max(arithmetic, memory) / microseconds,
        "gbytes_per_second": result["bytes"] / microseconds / 1e3,
    }  # fmt: skip


# -- as text --------------------------------------------------------------------------------------


def table(summary: Result) -> Group:
    """One workload, an implementation a row; below it the best peer, the machine, and what is to be said of each."""
    shown = Table(title=title(summary), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("", no_wrap=True)
    for heading in ("µs a step", "spread", "x ours", "first call, s", "cached", "memory, MB", "losses apart"):
        shown.add_column(heading, justify="right")
    for name, peer in summary["peers"].items():
        shown.add_row(name, *_cells(peer), style="bold" if name == OURS else "")
    said = {name: peer.get("skipped", peer.get("note")) for name, peer in summary["peers"].items()}
    return Group(
        shown, limits(summary), *disturbed(summary), *(f"{name}: {text}" for name, text in said.items() if text), ""
    )


def disturbed(summary: Result) -> list[str]:
    """A warning where others had the cores: this run alone keeps at most as many processes busy as there are cores."""
    if summary.get("load", 0.0) <= _CROWDED:
        return []
    return [
        f"The machine was busy with other work ({summary['load']:.1f} processes for each core): do not trust these figures."
    ]


def title(summary: Result) -> str:
    cores = f"{summary['threads']} {'core' if summary['threads'] == 1 else 'cores'}"
    return f"{summary['workload']}: {summary['network']}, batch {summary['batch']}, {cores}"


def _cells(peer: Result) -> list[str]:
    if "microseconds" not in peer:
        return ["-"] * 7
    cached, memory = peer.get("first_call_cached"), peer.get("memory")
    low, high = peer["spread"]
    return [
        number(peer["microseconds"]), f"{(high - low) / peer['microseconds']:.0%}", f"{peer['ratio']:.2f}",
        f"{peer['first_call']:.3f}", "" if cached is None else f"{cached:.3f}",
        "" if memory is None else f"{memory / 1e6:.1f}", f"{peer['agreement']['loss']:.0e}",
    ]  # fmt: skip


def limits(summary: Result) -> str:
    """A line about the best peer and the machine."""
    if "share_of_peak" not in summary:
        return "ours was not timed"
    best = f"best peer: {summary['best_peer']}, {summary['best_ratio']:.2f} x ours; " if summary["best_peer"] else ""
    return (
        f"{best}ours: {summary['share_of_peak']:.0%} of the peak of {summary['peak_gflops']:.0f} GFLOP/s, "
        f"{summary['share_of_roofline']:.0%} of the roofline ({number(summary['roofline_microseconds'])} µs, "
        f"by {summary['roofline_bound']}; {summary['stream_gbytes']:.0f} GB/s at this size)" + _handover(summary)
    )


def _handover(summary: Result) -> str:
    """How far apart the cores are, before and after the rounds."""
    found = summary.get("handover_ns", [])
    return f"; one core sees what another wrote in {' and '.join(f'{ns:.0f}' for ns in found)} ns" if found else ""


def number(value: float) -> str:
    """Three digits, as people write them.

    >>> number(3.14159), number(31.4159), number(1234.5)
    ('3.14', '31.4', '1,234')
    """
    return f"{value:,.{max(0, 2 - len(str(int(value))) + 1)}f}"
