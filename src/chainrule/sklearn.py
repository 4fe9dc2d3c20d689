"""Estimators for scikit-learn, trained by native programs: drop-ins for its multilayer perceptrons, and any module as one.

Nothing else in this package imports scikit-learn: ``pip install 'chainrule[sklearn]'`` brings it.
"""

from chainrule.interop.sklearn import MLPClassifier, MLPRegressor, NetworkClassifier, NetworkRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "NetworkClassifier", "NetworkRegressor"]
