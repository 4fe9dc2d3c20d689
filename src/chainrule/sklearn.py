"""Estimators for scikit-learn, trained by native programs: drop-ins for its multilayer perceptrons, any module as one, and a
recipe for tables that needs no tuning.

Nothing else in this package imports scikit-learn: ``pip install 'chainrule[sklearn]'`` brings it.
"""

from chainrule.interop.sklearn import (
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
    TabularClassifier,
    TabularRegressor,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    shared_programs,
)

__all__ = [
    "MLPClassifier", "MLPRegressor", "NetworkClassifier", "NetworkRegressor", "TabularClassifier", "TabularRegressor",
    "cross_val_predict", "cross_val_score", "cross_validate", "shared_programs",
]  # fmt: skip
