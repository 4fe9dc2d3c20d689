"""TabularClassifier and TabularRegressor: a published recipe for tables as an estimator that needs no tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from chainrule.deploy.making import Fitted
from chainrule.dtypes import as_dtype
from chainrule.interop.sklearn.kept import HoldsTrainer
from chainrule.training import Trainer
from chainrule.training.columns import FROM_DTYPE, Columns, is_frame
from chainrule.training.metrics import told
from chainrule.training.recipe import Recipe, built, recipe

Array = np.ndarray[Any, Any]
SEEDS = 2**31
SHARE = 0.2  # of the rows that are held out


class _Tabular(HoldsTrainer, BaseEstimator):
    """What both estimators share: columns and targets in, the recipe's training, and the way back."""

    _task: str

    def __init__(
        self, preset: str = "tabular", *, hidden: Sequence[int] | None = None, activation: str | None = None,
        epochs: int | None = None, batch_size: int | None = None, lr: float | None = None, monitor: str | None = None,
        early_end: bool = True, validation_fraction: float = SHARE, categorical_features: Any = FROM_DTYPE,
        metrics: Sequence[Any] = (), callbacks: Sequence[Any] = (), random_state: Any = None, verbose: bool = False,
        dtype: str = "float32",
    ) -> None:  # fmt: skip
        self.preset, self.hidden, self.activation, self.epochs = preset, hidden, activation, epochs
        self.batch_size, self.lr, self.monitor, self.early_end = batch_size, lr, monitor, early_end
        self.validation_fraction, self.categorical_features = validation_fraction, categorical_features
        self.metrics, self.callbacks, self.random_state, self.verbose = metrics, callbacks, random_state, verbose
        self.dtype = dtype

    # ---------------------------------------------------------------- what each says

    def _labelled(self, y: Any) -> Array:
        """Targets as they were given, checked."""
        raise NotImplementedError

    def _learn(self, y: Array, kept: Array, weights: Array | None) -> None:
        """What targets are; numbers are scaled as the rows to train on say."""
        raise NotImplementedError

    def _encoded(self, y: Array) -> Array:
        """Targets as the trainer takes them."""
        raise NotImplementedError

    def _outputs(self) -> int:
        raise NotImplementedError

    def _recipe(self) -> Recipe:
        hidden = None if self.hidden is None else tuple(self.hidden)
        monitor = self.monitor and f"val_{self.monitor.removeprefix('val_')}"
        return recipe(self.preset, self._task).changed(
            hidden=hidden, activation=self.activation, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr,
            monitor=monitor,
        )  # fmt: skip

    def _weights(self, y: Array, sample_weight: Any, X: Any) -> Array | None:
        return None if sample_weight is None else _check_sample_weight(sample_weight, X)

    # ---------------------------------------------------------------- fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None) -> Any:
        """Train by the recipe, and keep the epoch that is best on rows that are held out.

        Args:
            X: rows, shape (N, F): an array of numbers or a data frame; NaN is missing.
            y: a target for each.
            sample_weight: how much each row weighs in the loss, shape (N,).
            X_val, y_val: rows to hold out, in place of a share of X.
        """
        chosen, random = self._recipe(), check_random_state(self.random_state)
        X = self._rows(X, y, reset=True)
        y = self._labelled(y)
        weights = self._weights(y, sample_weight, X)
        if weights is not None and not weights.all():  # rows that weigh nothing are not there
            X, y, weights = _taken(X, weights > 0), y[weights > 0], weights[weights > 0]
        kept, out = (np.arange(len(y)), np.arange(0)) if X_val is not None else self._split(y, random)
        self._learn(y, kept, weights)
        y = self._encoded(y)
        self.columns_ = Columns(self.categorical_features, chosen.one_hot if chosen.full else None).fit(
            _taken(X, kept), None if weights is None else weights[kept]
        )
        inputs = self.columns_.transform(X, self.dtype)
        held_out: tuple[Any, ...] | None = None
        if X_val is not None:
            rows = self._rows(X_val, y_val, reset=False)
            held_out = (self.columns_.transform(rows, self.dtype), self._encoded(self._labelled(y_val)))
        elif len(out):
            held_out = (inputs[out], y[out], *([] if weights is None else [weights[out]]))
        if weights is not None and self.monitor is None:
            chosen = chosen.changed(monitor="val_loss")  # metrics count each row once
        return self._train(chosen, inputs[kept], y[kept], None if weights is None else weights[kept], held_out, random)

    def _train(
        self, chosen: Recipe, X: Array, y: Array, weights: Array | None, held_out: tuple[Any, ...] | None, random: Any
    ) -> Any:
        seed, order = int(random.randint(SEEDS)), int(random.randint(SEEDS))
        self.trainer_ = built(
            chosen, self.columns_.layout_, self._outputs(), X, seed, as_dtype(self.dtype), tuple(self.metrics)
        )
        self.module_ = self.trainer_.model
        held = 0 if held_out is None else len(held_out[1])
        stopping = [chosen.stopping(held, bool(self.early_end))] if held else []
        self.trainer_.fit(
            X, y, epochs=chosen.epochs, batch_size=min(chosen.batch_size, len(X)), drop_last=True, seed=order, sample_weight=weights,
            validation_data=held_out, callbacks=[*self.callbacks, *stopping],
            progress=bool(self.verbose),
        )  # fmt: skip
        self.history_ = self.trainer_.history
        self.n_iter_ = self.history_.epochs
        self.best_epoch_ = stopping[0].best_epoch if stopping else self.n_iter_
        self.recipe_ = chosen
        return self

    def _split(self, y: Array, random: Any) -> tuple[Array, Array]:
        """The numbers of the rows to train on, and of those held out: none where there are too few."""
        rows, share = len(y), self.validation_fraction
        if not 0 <= share < 1:
            raise ValueError(f"validation_fraction must be 0 or more and below 1, got {share!r}.")
        out = rows - math.ceil((1 - share) * rows)
        if not out:
            return np.arange(rows), np.arange(0)
        stratify = y if self._stratified(y, out) else None
        found = train_test_split(np.arange(rows), test_size=out, random_state=random, stratify=stratify)
        return found[0], found[1]

    def _stratified(self, y: Array, out: int) -> bool:
        return False

    # ---------------------------------------------------------------- what goes in

    def _rows(self, X: Any, y: Any, reset: bool) -> Any:
        """Rows that were checked: an array of numbers, or a data frame as it came."""
        if not is_frame(X) and self._all_numbers():
            if y is None and not reset:
                return validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
            X, _ = validate_data(
                self, X, y, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan", multi_output=True
            )
            return X
        found = validate_data(self, X, y if reset else "no_validation", reset=reset, skip_check_array=True)
        X = found[0] if isinstance(found, tuple) else found
        if not is_frame(X):
            X = check_array(X, dtype=None, ensure_all_finite=False)
        if not (X.shape[0] and X.shape[1]):
            raise ValueError(
                f"Found array with {X.shape[0]} sample(s) and {X.shape[1]} feature(s): 1 or more is required."
            )
        if y is not None:
            check_consistent_length(X, y)
        return X

    def _all_numbers(self) -> bool:
        """Is no column of an array a categorical one?"""
        given = self.categorical_features
        return given is None or isinstance(given, str)

    def _given(self, X: Any) -> Array:
        check_is_fitted(self)
        return self.columns_.transform(self._rows(X, None, reset=False), self.dtype)

    def _bundled(self) -> Fitted:
        check_is_fitted(self)
        meaning = told(self.trainer_.loss, self.trainer_.session.meaning, "bundle")
        return Fitted(self.module_, meaning, None, getattr(self, "feature_names_in_", None), self.columns_)

    def _made_again(self, loss: Any, optimizer: Any) -> Trainer:
        return Trainer(self.module_, loss, optimizer, tuple(self.metrics))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class TabularClassifier(ClassifierMixin, _Tabular):
    """Tables without tuning: the RealMLP-TD-S recipe, in numbers that were tuned once on 118 data sets.

    Numbers go in as they are: they are centred and scaled robustly and clipped smoothly, categories become a column a
    level. The network is a learned factor for each input and three layers of 256 SELU units in NTK parametrisation; Adam
    trains it on smoothed labels at a rate that goes in four waves. The epoch that has most right answers on rows that are
    held out is kept, and the training ends with a wave that brought no better one.

    Args:
        preset: ``"tabular"``, or where probabilities count ``"tabular_log_loss"`` (no smoothing; the best epoch is that
            of the lowest log loss). ``"tabular_full"`` is RealMLP-TD: numbers with waves of their own, learned vectors for
            categories of more than eight levels, dropout and weight decay.
        hidden, activation, epochs, batch_size, lr: in place of the recipe's own (`chainrule.training.recipe.Recipe`).
        label_smoothing: likewise.
        monitor: what the best epoch is best at, ``"loss"`` or a metric by name (``"roc_auc"``, ``"balanced_accuracy"``).
            None: the recipe's own; with weights of rows or classes, the weighted loss.
        early_end: end with a wave that brought no better epoch (one more right answer is none); the published recipe takes
            all epochs, and so do trainings of fewer than its 256.
        validation_fraction: the share of rows that are held out, every class by its share; 0: none, and the last epoch
            stays. Where there are fewer than five rows none are.
        categorical_features: ``"from_dtype"``: the columns of a data frame that hold no numbers; or numbers, names or a
            mask of columns; None for none.
        class_weight: a factor for each class, as a dict, or ``"balanced"``.
        metrics, callbacks: of `Trainer` and its ``fit``.
        random_state: of weights, orders and the rows that are held out.
        verbose: show progress.
        dtype: of the arithmetic, ``"float32"`` or ``"float64"``.

    Attributes:
        classes_: the labels, sorted.
        columns_: what became of each column.
        module_, trainer_: the trained module, and its `Trainer`, which explains and diagnoses it.
        history_: what each epoch measured.
        n_iter_, best_epoch_: how many epochs there were, and which is kept (counted from 1).

    Source: Holzmueller, Grinsztajn, Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular data",
    NeurIPS 2024, arXiv 2407.04491.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> from sklearn.model_selection import train_test_split
        >>> from chainrule.sklearn import TabularClassifier
        >>> X_train, X_test, y_train, y_test = train_test_split(*load_wine(return_X_y=True), random_state=0)
        >>> TabularClassifier(random_state=0).fit(X_train, y_train).score(X_test, y_test) > 0.95
        True
    """

    _task = "classification"

    def __init__(
        self, preset: str = "tabular", *, hidden: Sequence[int] | None = None, activation: str | None = None,
        epochs: int | None = None, batch_size: int | None = None, lr: float | None = None,
        label_smoothing: float | None = None, monitor: str | None = None, early_end: bool = True,
        validation_fraction: float = SHARE, categorical_features: Any = FROM_DTYPE, class_weight: Any = None,
        metrics: Sequence[Any] = (), callbacks: Sequence[Any] = (), random_state: Any = None, verbose: bool = False,
        dtype: str = "float32",
    ) -> None:  # fmt: skip
        super().__init__(
            preset, hidden=hidden, activation=activation, epochs=epochs, batch_size=batch_size, lr=lr, monitor=monitor,
            early_end=early_end, validation_fraction=validation_fraction, categorical_features=categorical_features,
            metrics=metrics, callbacks=callbacks, random_state=random_state, verbose=verbose, dtype=dtype,
        )  # fmt: skip
        self.label_smoothing, self.class_weight = label_smoothing, class_weight

    def _recipe(self) -> Recipe:
        return super()._recipe().changed(label_smoothing=self.label_smoothing)

    def _labelled(self, y: Any) -> Array:
        found: Array = column_or_1d(y, warn=True)
        missing = [label is None or label != label for label in found.tolist()]
        if any(missing):
            raise ValueError(
                f"Input y contains NaN: the label of row {missing.index(True)} is missing. Leave such rows out."
            )
        kinds = {type(label).__name__ for label in found.tolist()}
        if "str" in kinds and len(kinds) > 1:
            raise ValueError(f"labels must be of one type, got {', '.join(sorted(kinds))}. Make all of them texts.")
        check_classification_targets(found)
        return found

    def _learn(self, y: Array, kept: Array, weights: Array | None) -> None:
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of at least 2 classes, but y contains only one class: "
                f"{self.classes_.tolist()[0]!r}."
            )

    def _encoded(self, y: Array) -> Array:
        numbers = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        unknown = self.classes_[numbers] != y
        if unknown.any():
            raise ValueError(f"y_val has labels that are not in y: {np.unique(y[unknown]).tolist()}.")
        return numbers.astype(np.int64)

    def _outputs(self) -> int:
        return len(self.classes_)

    def _weights(self, y: Array, sample_weight: Any, X: Any) -> Array | None:
        given = super()._weights(y, sample_weight, X)
        if self.class_weight is None:
            return given
        by_class = compute_sample_weight(self.class_weight, y)
        return np.asarray(by_class if given is None else by_class * given)

    def _bundled(self) -> Fitted:
        return replace(super()._bundled(), classes=self.classes_.tolist())

    def _stratified(self, y: Array, out: int) -> bool:
        counts = np.unique(y, return_counts=True)[1]
        return bool(counts.min() >= 2 and out >= len(counts) and len(y) - out >= len(counts))

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, in the order of ``classes_``: shape (N, classes)."""
        inputs = self._given(X)
        return self.trainer_.predict_proba(inputs)

    def predict(self, X: Any) -> Array:
        """The likeliest class of each row."""
        inputs = self._given(X)
        found: Array = self.classes_[self.trainer_.predict_classes(inputs)]
        return found


class TabularRegressor(RegressorMixin, _Tabular):
    """Tables without tuning, for numbers: the RealMLP-TD-S recipe; see `TabularClassifier`.

    The targets are scaled to mean 0 and deviation 1, the units are Mish, and the best epoch is that of the least mean
    squared error.

    Args:
        preset, hidden, ..., dtype: as for `TabularClassifier`; ``monitor`` is ``"loss"``, or a metric (``"mae"``).

    Attributes:
        columns_, module_, trainer_, history_, n_iter_, best_epoch_: as there.

    Example:
        >>> from sklearn.datasets import make_friedman1
        >>> from chainrule.sklearn import TabularRegressor
        >>> X, y = make_friedman1(400, random_state=0)
        >>> TabularRegressor(random_state=0).fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.9
        True
    """

    _task = "regression"

    def _labelled(self, y: Any) -> Array:
        found: Array = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        return column_or_1d(found, warn=True) if found.ndim == 2 and found.shape[1] == 1 else found

    def _learn(self, y: Array, kept: Array, weights: Array | None) -> None:
        self._flat = y.ndim == 1
        values, shares = y[kept].reshape(len(kept), -1), None if weights is None else weights[kept]
        self.center_ = np.average(values, axis=0, weights=shares)
        self.scale_ = np.sqrt(np.average((values - self.center_) ** 2, axis=0, weights=shares))
        self._range = values.min(axis=0), values.max(axis=0)

    def _encoded(self, y: Array) -> Array:
        y = y.reshape(len(y), -1)
        scale = np.where(self.scale_ > 0, self.scale_, 1.0)
        return np.asarray((y - self.center_) / scale, self.dtype)

    def _outputs(self) -> int:
        return len(self.center_)

    def _bundled(self) -> Fitted:
        found = super()._bundled()
        center, scale = self.center_.tolist(), self.scale_.tolist()
        return replace(found, center=center, scale=scale, range=self._range if self.recipe_.full else None)

    def predict(self, X: Any) -> Array:
        """A value for each row, in the targets' own unit: shape (N,), or (N, targets) where there are several."""
        inputs = self._given(X)
        found = self.trainer_.predict(inputs).astype(np.float64) * self.scale_ + self.center_
        if self.recipe_.full:
            found = np.clip(found, *self._range)
        values: Array = found[:, 0] if self._flat else found
        return values


def _taken(X: Any, rows: Array) -> Any:
    """These rows of an array or a data frame."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]
