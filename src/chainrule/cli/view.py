"""The page of a run folder: served to the browser, or written to a file."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path

import click

from chainrule.errors import DamagedFileError
from chainrule.explain.report import Page
from chainrule.explain.report.serving import Served, reported

PATIENCE = 30.0  # seconds to wait for the first step of a run that is followed


def write_page(run: Path, out: Path) -> None:
    """Write the page of a run to one file."""
    served = Served(run)
    report = reported(served.run, served.data, run)
    report.explain(served.run)
    page = Page(report.html())
    page.save(out)
    click.echo(f"{out}: {len(page.html.encode()):,} bytes; it needs no network and no server")


def serve(run: Path, live: bool, port: int, opening: bool) -> None:
    """Serve the page of a run on the loopback address until Ctrl-C."""
    served = Served(run) if not live else _once_begun(run)
    server = served.server(port)
    click.echo(f"{run}: {server.url}")
    click.echo("only this computer can open it; Ctrl-C ends it")
    if opening:
        webbrowser.open(server.url)
    try:
        server.serve()
    except KeyboardInterrupt:
        click.echo("ended")


def _once_begun(run: Path) -> Served:
    """The run as soon as it has a step, which may be in a moment."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            served = Served(run, live=True)
            if len(served.run):
                return served
        except DamagedFileError:
            if time.monotonic() > until:
                raise
        if time.monotonic() > until:
            raise DamagedFileError(f"{run}: no step was recorded in {PATIENCE:g} seconds. Is the training running?")
        time.sleep(0.2)
