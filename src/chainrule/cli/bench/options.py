"""What can be chosen on the command line, for ``chainrule bench`` and the scripts of ``benchmarks/`` alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from chainrule.errors import SettingError, unknown_name

if TYPE_CHECKING:  # the command line loads without what it may not need
    from chainrule.cli.bench.measure import Settings
    from chainrule.cli.bench.workloads import Workload

_QUICK = ("mlp_tiny", "mlp_tab")
_SLOW = "torch.compile"  # compiles for longer than all others take together

_OPTIONS = (
    click.option("--workloads", help="names, comma-separated (default: all; mlp_tiny,mlp_tab with --quick)"),
    click.option("--threads", help="numbers of cores, comma-separated (default: all there are)"),
    click.option("--rounds", type=click.IntRange(1), help="interleaved rounds (default: 7; 3 with --quick)"),
    click.option(
        "--peers", help="names or libraries, comma-separated (default: all; --quick leaves out torch.compile)"
    ),
    click.option("--quick", is_flag=True, help="the small workloads, short rounds"),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The common options, as the keywords of `workloads`, `threads` and `settings`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def listed(text: str | None) -> list[str]:
    """
    >>> listed("1, 2"), listed(None)
    (['1', '2'], [])
    """
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def workloads(names: str | None, quick: bool) -> list[Workload]:
    """The dense workloads of these names.

    Raises:
        UnknownNameError: no such workload.
    """
    from chainrule.cli.bench.workloads import DENSE

    chosen = listed(names) or list(_QUICK if quick else DENSE)
    for name in chosen:
        if name not in DENSE:
            raise unknown_name("workload", name, list(DENSE))
    return [DENSE[name] for name in chosen]


def threads(text: str | None) -> list[int]:
    """The numbers of cores to measure on, one after the other.

    Raises:
        SettingError: not whole numbers, or more than there are.
    """
    from chainrule.compiler.runtime.threads import available_cpus

    cores = available_cpus()
    try:
        chosen = [int(part) for part in listed(text)] or [cores]
    except ValueError:
        chosen = [0]
    if not all(1 <= number <= cores for number in chosen):
        raise SettingError(f"--threads must be numbers of cores from 1 to {cores}, as in 1,{cores}; got {text!r}.")
    return chosen


def settings(peers: str | None, rounds: int | None, quick: bool, brief: bool = False) -> Settings:
    """How to measure; `brief` for many workloads one after the other: no first calls told, and shorter rounds.

    Raises:
        UnknownNameError: no such peer.
    """
    from chainrule.cli.bench.measure import Settings
    from chainrule.cli.bench.peers import chosen

    found = tuple(peer for peer in chosen(listed(peers)) if peers or peer.name != _SLOW or not quick)
    usual, seconds = (3, 0.02) if quick else (5, 0.05) if brief else (7, 0.1)
    return Settings(peers=found, rounds=rounds or usual, seconds=seconds, fresh=not brief)
