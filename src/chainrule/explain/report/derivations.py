"""The derivation and the ledger of one weight, as the page shows them: the engine's own, with typeset formulas."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from chainrule.errors import GradientError
from chainrule.explain.derivation import Derivation
from chainrule.explain.ledger import Ledger
from chainrule.explain.moment import Moment
from chainrule.explain.report.mathml import MINUS, Math, derivative, mi, mn, mo, row
from chainrule.explain.runs import Run

Record = dict[str, Any]
TERMS, PATHS, SAMPLES, WRITTEN = 8, 3, 6, 3  # written: the products that stand in the formula
STRONGEST = 4  # weights of each parameter that a page without a server explains


def of_weight(moment: Moment, name: str, position: int) -> Record:
    """One weight at one step.

    Returns:
        ``{"formula", "numbers", "derivation", "ledger"}``: two formulas, and the ``as_dict`` of both.
    """
    derivation = moment.explain(name, position)
    ledger = Ledger(moment, name, position).as_dict(_samples(derivation, moment))
    return {
        "formula": _formula(), "numbers": _numbers(derivation),
        "derivation": derivation.as_dict(TERMS, PATHS), "ledger": {**ledger, "formula": _ledger_formula(ledger)},
    }  # fmt: skip


def strongest(run: Run, step: int) -> Record:
    """Those weights of each parameter that are pulled most at a step, by ``"name[i, j]@step"``."""
    moment = run.at(step)
    found = {}
    for name, gradient in moment.gradients.items():
        flat = np.abs(gradient).reshape(-1)
        for position in np.argsort(-flat, kind="stable")[:STRONGEST]:
            index = ", ".join(map(str, np.unravel_index(position, gradient.shape)))
            with suppress(GradientError):  # an op of the user's own reads it, which tells nothing of single elements
                found[f"{name}[{index}]@{step}"] = of_weight(moment, name, int(position))
    return found


def _samples(derivation: Derivation, moment: Moment) -> int | None:
    """How many samples to list; None where the gradient cannot be told apart by rows."""
    rows = len(moment.rows)
    apart = all(term.index and term.node.shape[0] == rows for term in derivation.terms)
    return SAMPLES if apart else None


def _formula() -> Math:
    """dL/dw = sum over Y of dL/dY dY/dw."""
    weight = mi("w")
    return row(
        derivative("L", weight), mo("="), ["munder", ["mo", {"largeop": "true"}, "∑"], mi("Y")],
        derivative("L", mi("Y")), mo("·"), derivative("Y", weight),
    )  # fmt: skip


def _numbers(derivation: Derivation) -> Math:
    """The strongest products, what the others add, and the stored gradient."""
    terms = sorted(derivation.terms, key=lambda term: -abs(term.product))
    parts: list[Math] = [derivative("L", mi("w")), mo("=")]
    for i, term in enumerate(terms[:WRITTEN]):
        parts += [mo("+")] * bool(i) + [_factor(float(term.upstream)), mo("·"), _factor(float(term.local))]
    if len(terms) > WRITTEN:
        parts += [mo("+"), _factor(sum(term.product for term in terms[WRITTEN:]))]
    return row(*parts, mo("="), _number(float(derivation.gradient), 6))


def _ledger_formula(ledger: Record) -> Math:
    """The move as the sum of its parts, by name."""
    parts: list[Math] = [row(mi("Δ"), mi("w")), mo("=")]
    for i, part in enumerate(ledger["parts"]):
        parts += [mo("+")] * bool(i) + [["munder", _factor(part["amount"]), ["mtext", part["name"]]]]
    return row(
        *parts,
        mo("+"),
        ["munder", _factor(ledger["rounding"]), ["mtext", "rounding"]],
        mo("="),
        _number(ledger["move"], 6),
    )


def _factor(value: float) -> Math:
    return row(mo("("), _number(value), mo(")")) if value < 0 else _number(value)


def _number(value: float, digits: int = 4) -> Math:
    mantissa, _, exponent = f"{value:.{digits}g}".replace("-", MINUS).partition("e")
    if not exponent:
        return mn(mantissa)
    power = exponent.replace("+", "").replace(f"{MINUS}0", MINUS).lstrip("0")
    return row(mn(mantissa), mo("·"), ["msup", mn("10"), mn(power)])
