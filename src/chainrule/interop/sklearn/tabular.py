"""TabularClassifier and TabularRegressor: a published recipe for tables as an estimator that needs no tuning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
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

from chainrule.compiler.runtime.threads import get_num_threads
from chainrule.data.checks import check_no_texts
from chainrule.deploy.making import Fitted
from chainrule.errors import SettingError
from chainrule.interop.sklearn import answers
from chainrule.interop.sklearn.arithmetic import full
from chainrule.interop.sklearn.folds import Fold, best_epoch, folds, held_out
from chainrule.interop.sklearn.kept import HoldsTrainer
from chainrule.interop.sklearn.sharing import train
from chainrule.training import Trainer
from chainrule.training.callbacks import as_callbacks
from chainrule.training.columns import FROM_DTYPE, Columns, is_frame, unmasked
from chainrule.training.lending import Lender
from chainrule.training.metrics import told
from chainrule.training.monitor import as_count
from chainrule.training.pools import by_threads
from chainrule.training.progress import report
from chainrule.training.recipe import Recipe, built, recipe

Array = np.ndarray[Any, Any]
SEEDS = 2**31
SHARE = 0.2  # of the rows that are held out
#: What a network has of its own, where there are several.
OWN = (
    "columns_", "module_", "trainer_", "history_", "n_iter_", "best_epoch_", "center_", "scale_", "_range",
)  # fmt: skip


@dataclass(frozen=True)
class Given:
    """What a fit was given, checked: rows, targets as they came, weights, and rows to validate by that are none of these."""

    X: Any
    y: Array
    weights: Array | None
    validation: tuple[Any, Array] | None


@dataclass(frozen=True)
class Manner:
    """How a network is trained.

    Attributes:
        recipe: what it is made of.
        early: may it end early?
        epochs: so many of the recipe's; None: all.
        steps: who lends compiled steps, where several networks are trained.
        columns: what all of them have as inputs; None: what its own rows say.
    """

    recipe: Recipe
    early: bool
    epochs: int | None = None
    steps: Lender | None = None
    columns: Columns | None = None


class _Tabular(HoldsTrainer, BaseEstimator):
    """What both estimators share: columns and targets in, the recipe's training, and the way back."""

    _task: str
    _members: list[Any] | None = None  # where there is more than one network

    def __init__(
        self, preset: str = "tabular", *, hidden: Sequence[int] | None = None, activation: str | None = None,
        epochs: int | None = None, batch_size: int | None = None, lr: float | None = None, monitor: str | None = None,
        early_end: bool = True, validation_fraction: float = SHARE, n_cv: int = 1, n_refit: int = 0,
        categorical_features: Any = FROM_DTYPE, metrics: Sequence[Any] = (), callbacks: Sequence[Any] = (),
        random_state: Any = None, verbose: bool = False, dtype: str = "float32",
    ) -> None:  # fmt: skip
        self.preset, self.hidden, self.activation, self.epochs = preset, hidden, activation, epochs
        self.batch_size, self.lr, self.monitor, self.early_end = batch_size, lr, monitor, early_end
        self.validation_fraction, self.n_cv, self.n_refit = validation_fraction, n_cv, n_refit
        self.categorical_features = categorical_features
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
        many = hasattr(self.hidden, "__iter__")
        hidden = None if self.hidden is None else tuple(self.hidden if many else [self.hidden])
        monitor = self.monitor and f"val_{self.monitor.removeprefix('val_')}"
        return recipe(self.preset, self._task).changed(
            hidden=hidden, activation=self.activation, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr,
            monitor=monitor,
        )  # fmt: skip

    def _weights(self, y: Array, sample_weight: Any, X: Any) -> Array | None:
        return None if sample_weight is None else _check_sample_weight(sample_weight, X)

    # ---------------------------------------------------------------- fitting

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None, groups: Any = None
    ) -> Any:
        """Train by the recipe, and keep the epoch that is best on rows that are held out.

        Args:
            X: rows, shape (N, F): an array of numbers or a data frame; NaN is missing.
            y: a target for each.
            sample_weight: how much each row weighs in the loss, shape (N,).
            X_val, y_val: rows to hold out, in place of a share of X; of ``n_cv`` networks each is validated by all of them.
            groups: a label for each row, shape (N,): rows of one group are held out together.
        """
        full(self, self.dtype)
        chosen, random = self._recipe(), check_random_state(self.random_state)
        count, again = as_count(self.n_cv, self._who, "n_cv", 1), as_count(self.n_refit, self._who, "n_refit")
        given, groups = self._checked(X, y, sample_weight, X_val, y_val, groups)
        if again and given.validation is not None:
            raise ValueError(
                f"{self._who}: n_refit={again} trains on all rows once more, and X_val is to be held out. Leave X_val out, or "
                f"pass n_refit=0."
            )
        if given.weights is not None and self.monitor is None:
            chosen = chosen.changed(monitor="val_loss")  # metrics count each row once
        parts, manner = self._folds(given, count, groups, random), Manner(chosen, bool(self.early_end))
        self._members = None
        self.__dict__.pop("cv_estimators_", None)
        if count > 1 or again:
            self._fit_several(given, parts, manner, again, random)
        else:
            self._fit_on(given, parts[0], manner, _seeds(random))
        return self

    @property
    def _who(self) -> str:
        return type(self).__name__

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, groups: Any
    ) -> tuple[Given, Array | None]:
        if (X_val is None) != (y_val is None):
            raise ValueError(
                f"{self._who}: X_val and y_val go together. Pass both, or neither to hold out a share of X."
            )
        y = unmasked(y)
        X = self._rows(X, y, reset=True)
        y = self._labelled(y)
        weights = self._weights(y, sample_weight, X)
        if groups is not None:
            check_consistent_length(X, groups)
            groups = np.unique(np.asarray(groups), return_inverse=True)[1]
        if weights is not None and not weights.all():  # rows that weigh nothing are not there
            known = weights > 0
            X, y, weights = _taken(X, known), y[known], weights[known]
            groups = None if groups is None else groups[known]
        apart = None if X_val is None else (self._rows(X_val, y_val, reset=False), self._labelled(y_val))
        return Given(X, y, weights, apart), groups

    def _folds(self, given: Given, count: int, groups: Array | None, random: Any) -> list[Fold]:
        rows = len(given.y)
        if given.validation is not None:
            return [(np.arange(rows), np.arange(0))] * count
        if count == 1:
            return [held_out(rows, self.validation_fraction, self._classes_of(given.y), groups, random)]
        return folds(rows, count, self._classes_of(given.y), groups, random)

    def _classes_of(self, y: Array) -> Array | None:
        """By what rows are held out evenly."""
        return None

    def _fit_several(self, given: Given, parts: list[Fold], manner: Manner, again: int, random: Any) -> None:
        """A network for each fold; then so many on all rows, for the number of epochs that is best by all folds."""
        everything = np.arange(len(given.y))
        self._learn(given.y, everything, given.weights)
        manner = replace(
            manner,
            early=manner.early and not again,  # where folds say which epoch is best, all take all of them
            steps=Lender(),
            columns=self._columns(manner.recipe).fit(given.X, given.weights),
        )
        found = self._networks(given, parts, manner, random)
        self.cv_estimators_ = found
        if again:
            manner = replace(manner, epochs=self._best_epoch(found, manner.recipe))
            found = self._networks(given, [(everything, everything[:0])] * again, manner, random)
        for name in OWN:
            self.__dict__.pop(name, None)
        self._members, self.recipe_ = found, manner.recipe

    def _best_epoch(self, networks: list[Any], chosen: Recipe) -> int:
        """Of the networks that were validated; the last one where none was."""
        judged = [network.history_ for network in networks if chosen.monitor in network.history_]
        return best_epoch(judged, chosen.monitor) if judged else chosen.epochs

    def _networks(self, given: Given, parts: list[Fold], manner: Manner, random: Any) -> list[Any]:
        """A fitted estimator of one network for each of these parts, several at a time."""
        members, seeds = [self._member() for _ in parts], [_seeds(random) for _ in parts]
        shown = report(bool(self.verbose), "fit", "network")
        shown.start(len(parts), 0, 1)

        def one(number: int) -> int:
            members[number]._fit_on(given, parts[number], manner, seeds[number])
            return number

        done = 0
        with closing(shown), closing(by_threads(one, range(len(parts)), min(len(parts), get_num_threads()))) as ended:
            for done, number in enumerate(ended, start=1):
                shown.epoch(done - 1, members[number].history_.row(members[number].n_iter_ - 1))
        if done < len(parts):
            raise KeyboardInterrupt
        return members

    def _member(self) -> Any:
        """An estimator of one network like this one."""
        member = clone(self).set_params(n_cv=1, n_refit=0)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(member, name, getattr(self, name))
        return member

    def _columns(self, chosen: Recipe) -> Columns:
        return Columns(self.categorical_features, chosen.one_hot if chosen.full else None)

    def _fit_on(self, given: Given, fold: Fold, manner: Manner, seeds: tuple[int, int]) -> None:
        """Train one network on the rows of a fold."""
        (kept, out), weights, chosen = fold, given.weights, manner.recipe
        self._learn(given.y, kept, weights)
        y = self._encoded(given.y)
        rows, shares = _taken(given.X, kept), None if weights is None else weights[kept]
        known = manner.columns
        self.columns_ = self._columns(chosen).fit(rows, shares) if known is None else known.like(rows, shares)
        inputs = self.columns_.transform(given.X, full(self, self.dtype).numpy)
        by: tuple[Any, ...] | None = None
        if given.validation is not None:
            by = (self.columns_.transform(given.validation[0], inputs.dtype), self._encoded(given.validation[1]))
        elif len(out):
            by = (inputs[out], y[out], *([] if weights is None else [weights[out]]))
        self._train(inputs[kept], y[kept], shares, by, manner, seeds)

    def _train(
        self,
        X: Array,
        y: Array,
        weights: Array | None,
        by: tuple[Any, ...] | None,
        manner: Manner,
        seeds: tuple[int, int],
    ) -> None:
        """Train one network, the best epoch chosen `by` other rows."""
        chosen = manner.recipe
        self.trainer_ = built(
            chosen, self.columns_.layout_, self._outputs(), X, seeds[0], full(self, self.dtype), tuple(self.metrics)
        )
        self.module_ = self.trainer_.model
        stopping = [] if by is None else [chosen.stopping(len(by[1]), manner.early)]
        train(
            self.trainer_, X, y, manner.steps, epochs=manner.epochs or chosen.epochs, batch_size=min(chosen.batch_size, len(X)),
            drop_last=True, seed=seeds[1], sample_weight=weights, validation_data=by, callbacks=[*as_callbacks(self.callbacks), *stopping],
            progress=bool(self.verbose) and manner.steps is None,
        )  # fmt: skip
        self.history_ = self.trainer_.history
        self.n_iter_ = self.history_.epochs
        self.best_epoch_ = stopping[0].best_epoch if stopping else self.n_iter_
        self.recipe_ = chosen
        answers.warn_if_interrupted(self)

    # ---------------------------------------------------------------- what goes in

    def _rows(self, X: Any, y: Any, reset: bool) -> Any:
        """Rows that were checked: an array of numbers, or a data frame as it came."""
        answers.check_dense(X, self._who, "A data frame with its categories goes in as it is, without an encoder. ")
        X = unmasked(X)
        if not is_frame(X) and self._all_numbers():
            answers.check_no_words(X, self._who)
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

    @property
    def estimators_(self) -> list[Any]:
        """The estimators of one network each whose predictions are averaged; this one alone, where it has one network."""
        check_is_fitted(self)
        return self._members or [self]

    def __sklearn_is_fitted__(self) -> bool:
        return bool(self._members) or super().__sklearn_is_fitted__()

    def _new_rows(self, X: Any) -> Any:
        """Checked rows to predict of."""
        rows = self._rows(X, None, reset=False)
        for note in self.estimators_[0].columns_.strangers(rows):
            warnings.warn(f"{type(self).__name__}: {note}. All its values are taken as unknown.", stacklevel=4)
        return rows

    def _mean(self, X: Any) -> Array:
        """The mean of what the networks predict."""
        networks = self.estimators_
        rows = self._new_rows(X)
        found = [network._predicted(network._inputs(rows)) for network in networks]
        mean: Array = found[0] if len(found) == 1 else np.mean(found, axis=0)
        return mean

    def _inputs(self, rows: Any) -> Array:
        """Checked rows as the one network takes them."""
        return self.columns_.transform(rows, full(self, self.dtype).numpy)

    def _predicted(self, inputs: Array) -> Array:
        """Of one network, what can be averaged."""
        raise NotImplementedError

    def _bundled(self) -> Fitted:
        networks = self.estimators_
        if len(networks) > 1:
            raise SettingError(
                f"bundle: this {self._who} is the mean of {len(networks)} networks, and a bundle holds one. Bundle one of its "
                f"estimators_, or fit with n_refit=1."
            )
        found: Fitted = networks[0]._fitted()
        return found

    def _fitted(self) -> Fitted:
        """What the one network consists of."""
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
        hidden, activation, epochs, batch_size, lr: in place of the recipe's own (`chainrule.training.recipe.Recipe`); one number
            for one hidden layer, as in scikit-learn.
        label_smoothing: likewise.
        monitor: what the best epoch is best at, ``"loss"`` or a metric by name (``"roc_auc"``, ``"balanced_accuracy"``).
            None: the recipe's own; with weights of rows or classes, the weighted loss.
        early_end: end with a wave that brought no better epoch (one more right answer is none); the published recipe takes
            all epochs, and so do trainings of fewer than its 256.
        validation_fraction: the share of rows that are held out, every class by its share; 0: none, and the last epoch
            stays. Where there are fewer than five rows none are.
        n_cv: so many networks instead of one, each validated by another of so many parts of the rows; what they predict is
            averaged. Made for few rows, of which one network would miss a fifth.
        n_refit: so many networks on all rows, for the number of epochs that is best in the mean of the ``n_cv`` ones, which
            then predict in their place. (To say which epoch is best, those take all epochs, without an early end.)
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
        estimators_: the estimators whose predictions are averaged, each of one network, with the attributes above from
            ``columns_`` on; where there is one network, this one alone.
        cv_estimators_: those that were validated by folds, where there are several (``n_cv``, ``n_refit``).

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
        validation_fraction: float = SHARE, n_cv: int = 1, n_refit: int = 0, categorical_features: Any = FROM_DTYPE,
        class_weight: Any = None,
        metrics: Sequence[Any] = (), callbacks: Sequence[Any] = (), random_state: Any = None, verbose: bool = False,
        dtype: str = "float32",
    ) -> None:  # fmt: skip
        super().__init__(
            preset, hidden=hidden, activation=activation, epochs=epochs, batch_size=batch_size, lr=lr, monitor=monitor,
            early_end=early_end, validation_fraction=validation_fraction, n_cv=n_cv, n_refit=n_refit,
            categorical_features=categorical_features, metrics=metrics, callbacks=callbacks, random_state=random_state, verbose=verbose, dtype=dtype,
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
        answers.check_class_weight(self)
        if self.class_weight is None:
            return given
        by_class = compute_sample_weight(self.class_weight, y)
        return np.asarray(by_class if given is None else by_class * given)

    def _fitted(self) -> Fitted:
        return replace(super()._fitted(), classes=self.classes_.tolist())

    def _classes_of(self, y: Array) -> Array | None:
        return np.unique(y, return_inverse=True)[1]

    def _predicted(self, inputs: Array) -> Array:
        found: Array = self.trainer_.predict_proba(inputs)
        return found

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, in the order of ``classes_``: shape (N, classes)."""
        return self._mean(X)

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`, finite also where a probability is below the smallest float: shape (N, classes)."""
        networks, rows = self.estimators_, self._new_rows(X)
        found = [answers.log_probabilities(n.trainer_, n._inputs(rows), n.trainer_.predict_proba) for n in networks]
        return answers.log_mean(found)

    def predict(self, X: Any) -> Array:
        """The likeliest class of each row."""
        network = self.estimators_[0]
        if network is self:
            numbers = self.trainer_.predict_classes(self._inputs(self._new_rows(X)))
        else:
            numbers = self._mean(X).argmax(axis=1)
        found: Array = self.classes_[numbers]
        return found


class TabularRegressor(RegressorMixin, _Tabular):
    """Tables without tuning, for numbers: the RealMLP-TD-S recipe; see `TabularClassifier`.

    The targets are scaled to mean 0 and deviation 1, the units are Mish, and the best epoch is that of the least mean
    squared error.

    Args:
        preset, hidden, ..., dtype: as for `TabularClassifier`; ``monitor`` is ``"loss"``, or a metric (``"mae"``).

    Attributes:
        columns_, module_, trainer_, history_, n_iter_, best_epoch_, estimators_, cv_estimators_: as there.

    Example:
        >>> from sklearn.datasets import make_friedman1
        >>> from chainrule.sklearn import TabularRegressor
        >>> X, y = make_friedman1(400, random_state=0)
        >>> TabularRegressor(random_state=0).fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.9
        True
    """

    _task = "regression"

    def _labelled(self, y: Any) -> Array:
        check_no_texts(y, f"{type(self).__name__}: y")
        found: Array = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        return column_or_1d(found, warn=True) if found.ndim == 2 and found.shape[1] == 1 else found

    def _learn(self, y: Array, kept: Array, weights: Array | None) -> None:
        self._flat = y.ndim == 1
        values, shares = y[kept].reshape(len(kept), -1), None if weights is None else weights[kept]
        power = np.frexp(np.abs(values).max(axis=0))[1]  # exactly; a square of 1e160 is beyond float64
        small = np.ldexp(values, -power)
        center = np.average(small, axis=0, weights=shares)
        scale = np.sqrt(np.average((small - center) ** 2, axis=0, weights=shares))
        self.center_, self.scale_ = np.ldexp(center, power), np.ldexp(scale, power)
        self._range = values.min(axis=0), values.max(axis=0)

    def _encoded(self, y: Array) -> Array:
        y = y.reshape(len(y), -1)
        scale = np.where(self.scale_ > 0, self.scale_, 1.0)
        return np.asarray((y - self.center_) / scale, full(self, self.dtype).numpy)

    def _outputs(self) -> int:
        return len(self.center_)

    def _fitted(self) -> Fitted:
        found = super()._fitted()
        center, scale = self.center_.tolist(), self.scale_.tolist()
        return replace(found, center=center, scale=scale, range=self._range if self.recipe_.full else None)

    def _predicted(self, inputs: Array) -> Array:
        found: Array = self.trainer_.predict(inputs).astype(np.float64) * self.scale_ + self.center_
        return np.clip(found, *self._range) if self.recipe_.full else found

    def predict(self, X: Any) -> Array:
        """A value for each row, in the targets' own unit: shape (N,), or (N, targets) where there are several."""
        found = self._mean(X)
        values: Array = found[:, 0] if self._flat else found
        return values


def _seeds(random: Any) -> tuple[int, int]:
    """Of a network's weights, and of the orders of its epochs."""
    return int(random.randint(SEEDS)), int(random.randint(SEEDS))


def _taken(X: Any, rows: Array) -> Any:
    """These rows of an array or a data frame."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]
