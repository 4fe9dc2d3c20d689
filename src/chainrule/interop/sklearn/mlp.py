"""MLPClassifier and MLPRegressor: scikit-learn's, trained natively."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from chainrule.data.checks import check_no_texts
from chainrule.interop.sklearn import formula, scores
from chainrule.interop.sklearn.perceptron import Perceptron
from chainrule.tensor.creation import from_numpy

Array = np.ndarray[Any, Any]

_MORE: dict[str, Any] = {
    "activation": [StrOptions(set(formula.ACTIVATIONS))],
    "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw", "rmsprop"})],
    "scoring": [str, callable, None],
    "callbacks": [list, tuple],
    "normalization": [StrOptions({"batch", "layer"}), None],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "dtype": [StrOptions({"float32", "float64"}), None],
}


def refuse_balanced(incremental: bool) -> None:
    """Raise for `partial_fit`, which sees only some of the rows."""
    if incremental:
        raise ValueError(
            "class_weight='balanced' is not supported for partial_fit, which sees only some of the rows. Pass the weights "
            "themselves: sklearn.utils.class_weight.compute_class_weight('balanced', classes=classes, y=y) of all of them, as "
            "a dict."
        )


class MLPClassifier(Perceptron, neural_network.MLPClassifier):
    """scikit-learn's multilayer perceptron for classes, its fit one native program.

    Every parameter, attribute and method of scikit-learn's means what it means there (this is a subclass): with the same
    ``random_state`` the weights begin alike and the rows come in the same order, so that losses agree to rounding.

    Args:
        hidden_layer_sizes, activation, solver, ..., max_fun: as there; ``activation`` takes ``"leaky_relu"``, ``"elu"``,
            ``"selu"``, ``"gelu"``, ``"silu"``, ``"mish"``, ``"softplus"`` and others as well, ``solver`` ``"adamw"`` (alpha
            shrinks the weights themselves) and ``"rmsprop"`` (beta_2 is its memory).
        dropout: the share of each hidden layer's outputs that a step drops, in [0, 1).
        normalization: ``"batch"`` or ``"layer"``: `nn.BatchNorm1d` or `nn.LayerNorm` between each hidden layer's product and
            its activation. A last batch of one row is left out of an epoch where batches are normalised.
        class_weight: a factor for each class, as a dict, or ``"balanced"``: ``n_samples / (n_classes * count)``. It
            multiplies ``sample_weight``, in the score for early stopping, too.
        scoring: what early stopping goes by: a name or function of scikit-learn's (``"roc_auc"``, ``"neg_log_loss"``),
            ``"loss"`` for that of the rows held out, less being better; None for accuracy.
        callbacks: functions ``(model, epoch)``, called after each epoch with the weights of then; one that returns True
            ends the fit.
        dtype: of the arithmetic of a fit: ``"float32"`` takes half the time of ``"float64"``; None: the dtype of X.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from chainrule.sklearn import MLPClassifier
        >>> X, y = load_wine(return_X_y=True)
        >>> model = make_pipeline(StandardScaler(), MLPClassifier((32,), solver="lbfgs", random_state=0))
        >>> float(model.fit(X, y).score(X, y))
        1.0
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012 - scikit-learn's name for it, and its form
        **neural_network.MLPClassifier._parameter_constraints,
        **_MORE,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self, hidden_layer_sizes: Any = (100,), activation: str = "relu", *, solver: str = "adam", alpha: float = 0.0001,
        batch_size: Any = "auto", learning_rate: str = "constant", learning_rate_init: float = 0.001, power_t: float = 0.5,
        max_iter: int = 200, shuffle: bool = True, random_state: Any = None, tol: float = 1e-4, verbose: bool = False,
        warm_start: bool = False, momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
        validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
        n_iter_no_change: float = 10, max_fun: int = 15000, dropout: float = 0.0, normalization: str | None = None, class_weight: Any = None,
        scoring: Any = None, callbacks: Any = (), dtype: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes, activation=activation, solver=solver, alpha=alpha, batch_size=batch_size,
            learning_rate=learning_rate, learning_rate_init=learning_rate_init, power_t=power_t, max_iter=max_iter,
            shuffle=shuffle, random_state=random_state, tol=tol, verbose=verbose, warm_start=warm_start, momentum=momentum,
            nesterovs_momentum=nesterovs_momentum, early_stopping=early_stopping, validation_fraction=validation_fraction,
            beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, n_iter_no_change=n_iter_no_change, max_fun=max_fun,
        )  # fmt: skip
        self.dropout, self.class_weight, self.dtype = dropout, class_weight, dtype
        self.normalization, self.scoring, self.callbacks = normalization, scoring, callbacks

    def _row_weights(self, y: Array, sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if self.class_weight != "balanced":
            found = compute_sample_weight(self.class_weight, y.astype(int) if self._multilabel else self._labels(y))
            return found if sample_weight is None else found * sample_weight
        refuse_balanced(incremental)
        each = sample_weight if sample_weight is not None else np.ones(len(y))
        for column in y.T if self._multilabel else [self._labels(y)]:
            classes, numbers = np.unique(column, return_inverse=True)
            shares = compute_class_weight("balanced", classes=classes, y=column, sample_weight=sample_weight)
            each = each * shares[numbers]
        return each

    @property
    def _multilabel(self) -> bool:
        return bool(self._label_binarizer.y_type_.startswith("multilabel"))

    def _labels(self, y: Array) -> Array:
        """The labels behind the answers that scikit-learn made of them."""
        found: Array = self.classes_[y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0].astype(int)]
        return found

    def _as_given(self, y: Array) -> Array:
        found: Array = self._label_binarizer.inverse_transform(y)
        return found

    def _default_score(self, z: Array, y: Array, weights: Array | None) -> float:
        return scores.accuracy(z, y, weights)


class MLPRegressor(Perceptron, neural_network.MLPRegressor):
    """scikit-learn's multilayer perceptron for numbers, its fit one native program; see `MLPClassifier`.

    Of several outputs scikit-learn's lbfgs reads the mean of their losses with the gradient of their sum; here the function
    that it descends is that of the gradient. ``loss_`` is reported as there.

    Args:
        hidden_layer_sizes, activation, ..., max_fun: as in scikit-learn; ``activation`` and ``solver`` as for
            `MLPClassifier`.
        loss: ``"absolute_error"``, ``"huber"`` and ``"quantile"`` as well, or a function ``(output, target)`` of tensors of
            shape (N, K) that gives a loss for each row, shape (N,), or for each output.
        quantile: what the loss ``"quantile"`` estimates, in (0, 1).
        dropout, normalization, scoring, callbacks, dtype: as for `MLPClassifier`; ``scoring`` None is R^2.

    Example:
        >>> from sklearn.datasets import make_regression
        >>> from chainrule.sklearn import MLPRegressor
        >>> X, y = make_regression(n_samples=200, n_features=5, random_state=0)
        >>> model = MLPRegressor(hidden_layer_sizes=(32,), solver="lbfgs", max_iter=1000, tol=0.1, random_state=0).fit(X, y)
        >>> model.score(X, y) > 0.99
        True
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **neural_network.MLPRegressor._parameter_constraints,
        **_MORE,
        "loss": [StrOptions({"squared_error", "poisson", "absolute_error", "huber", "quantile"}), callable],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self, loss: str = "squared_error", hidden_layer_sizes: Any = (100,), activation: str = "relu", *,
        solver: str = "adam", alpha: float = 0.0001, batch_size: Any = "auto", learning_rate: str = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
        random_state: Any = None, tol: float = 1e-4, verbose: bool = False, warm_start: bool = False, momentum: float = 0.9,
        nesterovs_momentum: bool = True, early_stopping: bool = False, validation_fraction: float = 0.1, beta_1: float = 0.9,
        beta_2: float = 0.999, epsilon: float = 1e-8, n_iter_no_change: float = 10, max_fun: int = 15000,
        dropout: float = 0.0, normalization: str | None = None, quantile: float = 0.5, scoring: Any = None, callbacks: Any = (), dtype: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            loss=loss, hidden_layer_sizes=hidden_layer_sizes, activation=activation, solver=solver, alpha=alpha,
            batch_size=batch_size, learning_rate=learning_rate, learning_rate_init=learning_rate_init, power_t=power_t,
            max_iter=max_iter, shuffle=shuffle, random_state=random_state, tol=tol, verbose=verbose, warm_start=warm_start,
            momentum=momentum, nesterovs_momentum=nesterovs_momentum, early_stopping=early_stopping,
            validation_fraction=validation_fraction, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon,
            n_iter_no_change=n_iter_no_change, max_fun=max_fun,
        )  # fmt: skip
        self.dropout, self.quantile, self.dtype = dropout, quantile, dtype
        self.normalization, self.scoring, self.callbacks = normalization, scoring, callbacks

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> Any:
        check_no_texts(y, f"{type(self).__name__}: y")
        return super()._validate_input(X, y, incremental, reset)

    def _as_given(self, y: Array) -> Array:
        return y[:, 0] if y.shape[1] == 1 else y

    def _default_score(self, z: Array, y: Array, weights: Array | None) -> float:
        values = formula.OUTPUTS[self.out_activation_](from_numpy(z)).numpy()
        return scores.r2(values, y, weights)
