"""What explanations look like in a terminal: plain text, aligned."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainrule.explain.derivation import Derivation
    from chainrule.explain.difference import Difference
    from chainrule.explain.ledger import Ledger
    from chainrule.explain.paths import Path
    from chainrule.explain.terms import Term
    from chainrule.explain.whatif import WhatIf

TERMS, PATHS = 8, 3
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


def derivation_text(d: Derivation) -> str:
    """A derivation: the sum of terms, whether it adds up, the strongest paths."""
    where = f"  ({d.scene.title}, {d.node.dtype.name})" if d.scene.title else f"  ({d.node.dtype.name})"
    lines = [sentence(f"dL/d {d.name} = {number(float(d.gradient))}{where}"), ""]
    lines += _sum(d)
    if d.opaque:
        lines += [
            "",
            sentence(
                f"{d.opaque} on the way to the loss has a derivative of its own: no path can be followed through it."
            ),
        ]
    elif d.finite and d.terms:
        lines += ["", *_paths(d)]
    return "\n".join(lines)


def _sum(d: Derivation) -> list[str]:
    count = len(d.terms)
    if not count:
        return ["  Nothing that the loss depends on reads it: the gradient is zero."]
    listed = sorted(d.terms, key=lambda t: -abs(t.product))[:TERMS]
    terms = "terms" if count > 1 else "term"
    lines = [sentence(f"is the sum of {count} {terms} dL/dY * dY/dx, one for each element Y that reads it:")]
    rows = [["Y", "dL/dY", "", "dY/dx", "", ""]]
    rows += [[t.name, number(float(t.upstream)), "*", _local(t), "=", number(t.product)] for t in listed]
    if count > len(listed):
        others = sum(t.product for t in d.terms) - sum(t.product for t in listed)
        rows.append([f"the {count - len(listed)} others", "", "", "", "=", number(others)])
    lines += table(rows, right=(1, 5))
    return [*lines, sentence(_verdict(d), "  ")]


def _local(t: Term) -> str:
    text = number(float(t.local))
    return text if t.formula == text else f"{t.formula} = {text}"


def _verdict(d: Derivation) -> str:
    if not d.finite:
        return "A term is not finite, so nothing adds up from here on."
    if d.order is not None:
        return f"Added as the program adds them ({d.order}) they give {number(float(d.gradient))}: the stored bits."
    if d.adds_up:
        return f"That is {number(float(d.gradient))}: the stored bits."
    return (
        f"Their exact sum and rounding, {number(float(d.rounding))}, give {number(float(d.gradient))}: the stored bits."
    )


def _paths(d: Derivation) -> list[str]:
    paths = d.strongest(PATHS)
    lines = [sentence("Strongest paths to the loss, and the product of derivatives along each:")]
    for path in paths:
        lines += [f"  {number(path.product)}", *_path(path)]
    rest = f"{number(float(d.rest(paths)))} is what all other paths add (the gradient less these, exactly)."
    lines.append(sentence(rest, "  "))
    return lines


def _path(path: Path) -> list[str]:
    return table([["-> " + step.name, "*", _local(step)] for step in path.steps], indent="    ")


def ledger_text(ledger: Ledger, samples: int) -> str:
    """A ledger: the move, its parts, the rows that pulled most."""
    head = (
        f"{ledger.name} at step {ledger.moment.step}: {number(ledger.before)} -> {number(ledger.after)}, "
        f"a move of {number(float(ledger.move))}"
    )
    rows = [[part.name, number(part.amount), part.how] for part in ledger.parts]
    rows.append(["rounding", number(float(ledger.rounding)), "of the training's own arithmetic"])
    rows.append(["together", number(float(ledger.move)), "exactly the move"])
    given = f"  g = {number(float(ledger.derivation.gradient))}, lr0 = {ledger.lr0:.6g}"
    return "\n".join([sentence(head), "", *table(rows, right=(1,)), "", given, *_pulls(ledger, samples)])


def _pulls(ledger: Ledger, count: int) -> list[str]:
    if not count:
        return []
    pulls = ledger.samples()
    rows = [[f"row {p.row}", number(p.gradient), number(p.amount)] for p in pulls[:count]]
    if rest := pulls[count:]:
        others = sum(p.gradient for p in rest), sum(p.amount for p in rest)
        rows.append([f"the {len(rest)} others", *map(number, others)])
    return ["", f"The {len(pulls)} rows of the batch, their part of g, and -lr0 times it:", *table(rows, right=(1, 2))]


def difference_text(d: Difference) -> str:
    """What moved between two steps."""
    rows = [["", "distance", "relative", "moved most"]]
    for change in d.changes:
        index, before, after = change.largest[0] if change.largest else ((), 0.0, 0.0)
        most = f"[{', '.join(map(str, index))}] {number(before)} -> {number(after)}"
        rows.append([change.name, f"{change.distance:.6g}", f"{change.relative:.3g}", most])
    return "\n".join([f"from step {d.a} to step {d.b}:", *table(rows, right=(1, 2))])


def whatif_text(w: WhatIf) -> str:
    """Both courses: the loss at some steps, the followed weights, how far apart the parameters end."""
    count = len(w.original.losses)
    shown = sorted({0, 1, 2, *(count * i // 8 for i in range(1, 8)), count - 1} & set(range(count)))
    rows = [["step", "loss", "loss if", "difference"]]
    for i in shown:
        losses = w.original.losses[i], w.changed.losses[i]
        rows.append([str(w.step + i), *map(number, losses), f"{w.gap[i]:+.3g}"])
    lines = [
        sentence(f"what if from step {w.step} on: {', '.join(w.changes) or 'nothing changes'}"),
        *table(rows, right=(0, 1, 2, 3)),
    ]
    for address, track in w.original.followed.items():
        gradients = w.original.gradients[address], w.changed.gradients[address]
        ends = number(track[-1]), number(w.changed.followed[address][-1])
        lines.append(
            sentence(f"{address} has the gradient {number(gradients[0])}, and {number(gradients[1])} if", "  ")
        )
        lines.append(sentence(f"{address} ends at {ends[0]}, and at {ends[1]} if", "  "))
    far = [[name, f"{distance:.6g}"] for name, distance in w.distance().items()]
    return "\n".join([*lines, "  how far apart the parameters end:", *table(far, right=(1,), indent="    ")])
