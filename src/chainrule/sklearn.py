"""Estimators for scikit-learn, trained by native programs: drop-ins for its multilayer perceptrons.

Nothing else in this package imports scikit-learn: ``pip install 'chainrule[sklearn]'`` brings it.
"""

from chainrule.interop.sklearn import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
