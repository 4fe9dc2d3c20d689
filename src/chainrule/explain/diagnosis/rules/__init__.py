"""The rules: importing this package declares them all, in the order in which they are checked."""

from chainrule.explain.diagnosis.rules import data, initialisation, labels, output, poor, rates, signal, steps
from chainrule.explain.diagnosis.rules.rule import RULES, WORTH, Rule, Suspicion

__all__ = [
    "RULES",
    "WORTH",
    "Rule",
    "Suspicion",
    "data",
    "initialisation",
    "labels",
    "output",
    "poor",
    "rates",
    "signal",
    "steps",
]
