"""The options that are about a table: of ``chainrule train``, and how a file of rows is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
_NAMES = "a column (or several, separated by commas) that is "

_TABLE = (
    click.option("--target", multiple=True, metavar="COLUMN", help="the column of FILE to predict; more than one for several numbers"),
    click.option("--preset", type=click.Choice(["tabular", "tabular_log_loss", "tabular_full"]), help="a published recipe that needs no tuning; it sets all but what is said"),
    click.option("--task", type=click.Choice(["classification", "regression"]), help="what the target is (guessed)"),
    click.option("--numeric", multiple=True, metavar="COLUMN", help=f"{_NAMES}numeric (guessed)"),
    click.option("--categorical", multiple=True, metavar="COLUMN", help=f"{_NAMES}categorical (guessed)"),
    click.option("--boolean", multiple=True, metavar="COLUMN", help=f"{_NAMES}true or false (guessed)"),
    click.option("--datetime", multiple=True, metavar="COLUMN", help=f"{_NAMES}dates or times (guessed)"),
    click.option("--date-format", help="of those, as in %d.%m.%Y (found)"),
    click.option("--drop", multiple=True, metavar="COLUMN", help=f"{_NAMES}to be left out"),
    click.option("--scaling", type=click.Choice(["robust", "robust_all", "robust_few", "standard", "none"]), default="robust", show_default=True),
    click.option("--max-categories", type=click.IntRange(2), default=32, show_default=True, help="inputs of a categorical column at most"),
    click.option("--min-frequency", type=click.IntRange(1), default=2, show_default=True, help="rows that a level needs for an input of its own"),
    click.option("--test-size", type=click.FloatRange(0, 1, True, True), default=0.2, show_default=True, help="the share of rows held out"),
    click.option("--weight-decay", type=click.FloatRange(0), help="of the optimizer (0.3 for adamw, else 0)"),
    click.option("--group", metavar="COLUMN", help="rows alike here are held out together"),
    click.option("--time", metavar="COLUMN", help="hold out the latest rows by this column"),
)  # fmt: skip
_READING = (
    click.option("--delimiter", help="between the fields of the file; tab for tabs (found)"),
    click.option("--encoding", help="of the file, as in cp1252 (found)"),
    click.option("--decimal", type=click.Choice([".", ","]), help="the decimal mark in the file (found)"),
    click.option("--header/--no-header", default=None, help="whether the file begins with the names of its columns (found)"),
    click.option("--skip-rows", type=click.IntRange(0), help="lines of the file before the header"),
)  # fmt: skip
READING = ("delimiter", "encoding", "decimal", "header", "skip_rows")
TABLE = (
    "target", "preset", "task", "numeric", "categorical", "boolean", "datetime", "date_format", "drop", "scaling", "max_categories",
    "min_frequency", "weight_decay", "test_size", "group", "time", *READING,
)  # fmt: skip


def table_options(command: Command) -> Command:
    """Add all of them to a command."""
    for option in reversed((*_TABLE, *_READING)):
        command = option(command)
    return command


def reading_options(command: Command) -> Command:
    """Add those that say how a file is read."""
    for option in reversed(_READING):
        command = option(command)
    return command


def reading_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was said of how the file is read."""
    said = {name: options[name] for name in READING if options[name] is not None}
    if said.get("delimiter") in ("tab", "\\t"):
        said["delimiter"] = "\t"
    return said
