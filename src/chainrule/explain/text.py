"""What explanations look like in a terminal: plain text, aligned."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainrule.explain.derivation import Derivation, Term
    from chainrule.explain.ledger import Ledger
    from chainrule.explain.paths import Path

TERMS, PATHS = 8, 3


def number(x: float) -> str:
    """Nine digits: what tells any two float32 apart."""
    return f"{x:.9g}"


def table(rows: list[list[str]], right: tuple[int, ...] = (), indent: str = "  ") -> list[str]:
    """Rows as aligned columns; those in `right` end where the others begin."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        indent + "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]  # fmt: skip


def derivation_text(d: Derivation) -> str:
    """A derivation: the sum of terms, whether it adds up, the strongest paths."""
    where = f"  ({d.scene.title}, {d.node.dtype.name})" if d.scene.title else f"  ({d.node.dtype.name})"
    lines = [f"dL/d {d.name} = {number(float(d.gradient))}{where}", ""]
    lines += _sum(d)
    if d.finite and d.terms:
        lines += ["", *_paths(d)]
    return "\n".join(lines)


def _sum(d: Derivation) -> list[str]:
    count = len(d.terms)
    if not count:
        return ["  Nothing that the loss depends on reads it: the gradient is zero."]
    listed = sorted(d.terms, key=lambda t: -abs(t.product))[:TERMS]
    lines = [
        f"is the sum of {count} {'terms' if count > 1 else 'term'} dL/dY * dY/dx, one for each element Y that reads it:"
    ]
    rows = [["Y", "dL/dY", "", "dY/dx", "", ""]]
    rows += [[t.name, number(float(t.upstream)), "*", _local(t), "=", number(t.product)] for t in listed]
    if count > len(listed):
        others = sum(t.product for t in d.terms) - sum(t.product for t in listed)
        rows.append([f"the {count - len(listed)} others", "", "", "", "=", number(others)])
    lines += table(rows, right=(1, 5))
    return [*lines, _verdict(d)]


def _local(t: Term) -> str:
    text = number(float(t.local))
    return text if t.formula == text else f"{t.formula} = {text}"


def _verdict(d: Derivation) -> str:
    if not d.finite:
        return "  A term is not finite, so nothing adds up from here on."
    if d.order is not None:
        return f"  Added as the program adds them ({d.order}) they give {number(float(d.gradient))}: the stored bits."
    if d.adds_up:
        return f"  That is {number(float(d.gradient))}: the stored bits."
    return f"  Their exact sum and rounding, {number(float(d.rounding))}, give {number(float(d.gradient))}: the stored bits."


def _paths(d: Derivation) -> list[str]:
    paths = d.strongest(PATHS)
    lines = ["Strongest paths to the loss, and the product of the local derivatives along each:"]
    for path in paths:
        lines += [f"  {number(path.product)}", *_path(path)]
    lines.append(f"  {number(float(d.rest(paths)))} is what all other paths add (the gradient less these, exactly).")
    return lines


def _path(path: Path) -> list[str]:
    return table([["-> " + step.name, "*", _local(step)] for step in path.steps], indent="    ")


def ledger_text(ledger: Ledger) -> str:
    """A ledger: the move, its parts, the rows that pulled most."""
    lines = [
        f"{ledger.name} at step {ledger.moment.step}: {number(ledger.before)} -> {number(ledger.after)}, "
        f"a move of {number(float(ledger.move))}",
        "",
    ]
    rows = [[part.name, number(part.amount), part.how] for part in ledger.parts]
    rows.append(["rounding", number(float(ledger.rounding)), "of the training's own arithmetic"])
    rows.append(["together", number(float(ledger.move)), "exactly the move"])
    return "\n".join(
        [
            *lines,
            *table(rows, right=(1,)),
            "",
            f"  g = {number(float(ledger.derivation.gradient))}, lr0 = {ledger.lr0:.6g}",
        ]
    )
