"""Estimators for scikit-learn; ``chainrule.sklearn`` is their public place."""

try:
    import sklearn as sklearn
except ImportError as error:
    raise ImportError(
        "chainrule.sklearn needs scikit-learn, which is not installed. Install it with: pip install 'chainrule[sklearn]'"
    ) from error

from chainrule.interop.sklearn.mlp import MLPClassifier, MLPRegressor
from chainrule.interop.sklearn.networks import NetworkClassifier, NetworkRegressor
from chainrule.interop.sklearn.sharing import cross_val_predict, cross_val_score, cross_validate, shared_programs
from chainrule.interop.sklearn.tabular import TabularClassifier, TabularRegressor

__all__ = [
    "MLPClassifier", "MLPRegressor", "NetworkClassifier", "NetworkRegressor", "TabularClassifier", "TabularRegressor",
    "cross_val_predict", "cross_val_score", "cross_validate", "shared_programs",
]  # fmt: skip
