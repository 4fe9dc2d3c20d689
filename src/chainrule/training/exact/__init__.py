"""Measures that are exact over an epoch, and not a mean of what each batch came to.

Each is made of a few means over the rows (how many were of a class, said to be, both), which ride in the compiled step
and of which the measure follows at the end; or, where the rows have to be put in order, of the outputs themselves.
"""

from chainrule.training.exact.base import Exact, Ranked, is_exact, is_ranked, statistics_of
from chainrule.training.exact.classes import ClassCounts, TopK
from chainrule.training.exact.confusion import confusion_matrix
from chainrule.training.exact.probabilities import Brier, LogLoss
from chainrule.training.exact.ranks import AveragePrecision, RocAuc
from chainrule.training.exact.values import Errors

__all__ = [
    "AveragePrecision", "Brier", "ClassCounts", "Errors", "Exact", "LogLoss", "Ranked", "RocAuc", "TopK", "confusion_matrix", "is_exact",
    "is_ranked", "statistics_of",
]  # fmt: skip
