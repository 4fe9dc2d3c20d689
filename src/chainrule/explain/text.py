"""What explanations look like in a terminal: plain text, aligned."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

WIDTH = 80  # of a line: names and their numbers stand below each other where both do not fit into one


def number(x: float) -> str:
    """Nine digits: what tells any two float32 apart."""
    return f"{x:.9g}"


def table(rows: list[list[str]], right: tuple[int, ...] = (), indent: str = "  ") -> list[str]:
    """Rows as aligned columns; those in `right` end where the others begin.

    Where a name in the first column is too long for a line, the layer in it stands above its rows, once for all that
    follow each other.
    """
    lines = _aligned(rows, right, indent)
    if all(len(line) <= WIDTH for line in lines):
        return lines
    room = WIDTH - max(len(line) for line in _aligned([row[1:] for row in rows], (), indent)) - 2
    pairs = [_split(row[0]) if len(row[0]) > room else ("", row[0]) for row in rows]
    below = [["  " + name if head else name, *row[1:]] for (head, name), row in zip(pairs, rows, strict=True)]
    heads = [indent + head if head else "" for head, _ in pairs]
    return list(headed(zip(heads, _aligned(below, right, indent), strict=True)))


def _aligned(rows: list[list[str]], right: tuple[int, ...], indent: str) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        indent + "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]  # fmt: skip


def _split(name: str) -> tuple[str, str]:
    """The layer of an element, and the op in it; of any other name all is the head."""
    layer, colon, op = name.rpartition(": ")
    return (layer + ":", op) if colon else (name, "")


def headed(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lines with a heading each, which is said where it changes; an empty one is none."""
    said = ""
    for head, line in rows:
        if head and head != said:
            yield head
        said = head
        yield line


def sentence(text: str, indent: str = "") -> str:
    """Words in lines of at most `WIDTH`; a name is never broken."""
    return "\n".join(
        textwrap.wrap(
            text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False, break_on_hyphens=False
        )
    )  # fmt: skip
