"""NetworkClassifier and NetworkRegressor: any module as an estimator of scikit-learn's."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from chainrule.data.checks import check_known, check_no_texts
from chainrule.deploy.making import Fitted
from chainrule.dtypes import DType
from chainrule.errors import ChainruleError, SettingError
from chainrule.interop.sklearn import arithmetic
from chainrule.interop.sklearn.answers import (
    check_class_weight,
    check_dense,
    check_of_classes,
    log_probabilities,
    warn_if_interrupted,
)
from chainrule.interop.sklearn.folds import check_share, has_shares
from chainrule.interop.sklearn.kept import HoldsTrainer
from chainrule.interop.sklearn.mlp import refuse_balanced
from chainrule.interop.sklearn.sharing import train
from chainrule.nn import Module, loss_by_name
from chainrule.nn.meaning import Meaning, meaning_of, named
from chainrule.optim import Optimizer, by_name
from chainrule.tensor.functions import no_grad
from chainrule.tensor.random import Generator, drawing_from
from chainrule.training import Trainer, inputs
from chainrule.training.callbacks import EarlyStopping, as_callbacks
from chainrule.training.metrics import told

Array = np.ndarray[Any, Any]
SEEDS = 2**31


class _Network(HoldsTrainer, BaseEstimator):
    """What both estimators share: the module of a fit, its trainer, and what goes in and out."""

    def __init__(
        self, module: Module | Callable[[int, int], Module], *, loss: Any, optimizer: Any = "adam", lr: float | None = None,
        epochs: int = 50, batch_size: int = 64, shuffle: bool = True, drop_last: bool = False, metrics: Sequence[Any] = (), callbacks: Sequence[Any] = (),
        early_stopping: str | bool | None = None, validation_fraction: float = 0.1, n_iter_no_change: int = 10, tol: float = 1e-4,
        max_norm: float | None = None, output: str | None = None, warm_start: bool = False, random_state: Any = None,
        verbose: bool = False, dtype: str = "float32", record: bool | str = False,
    ) -> None:  # fmt: skip
        self.module, self.loss, self.optimizer, self.lr = module, loss, optimizer, lr
        self.epochs, self.batch_size, self.shuffle, self.drop_last = epochs, batch_size, shuffle, drop_last
        self.metrics, self.callbacks = metrics, callbacks
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.n_iter_no_change, self.tol = n_iter_no_change, tol
        self.max_norm, self.output, self.warm_start, self.random_state = max_norm, output, warm_start, random_state
        self.verbose, self.dtype, self.record = verbose, dtype, record

    # ---------------------------------------------------------------- what each says

    def _validated(self, X: Any, y: Any, incremental: bool, classes: Any, reset: bool) -> tuple[Array, Array, int]:
        """Rows and targets as the trainer takes them, and how many outputs there are to be."""
        raise NotImplementedError

    def _classes_weight(self, y: Array, weights: Any, incremental: bool) -> Any:
        return None

    # ---------------------------------------------------------------- fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train a new copy of the module (``warm_start``: the one that stands) for `epochs` passes over these rows.

        Args:
            X: rows, shape (N, ...).
            y: a target for each.
            sample_weight: how much each row weighs in the loss, shape (N,).
        """
        return self._fit(X, y, sample_weight, self.epochs, not (self.warm_start and hasattr(self, "module_")))

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        epochs: int,
        first: bool,
        incremental: bool = False,
        classes: Any = None,
    ) -> Any:
        self._arithmetic()
        X, y, outputs = self._validated(X, y, incremental, classes, reset=first)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        random = check_random_state(self.random_state)
        if first:
            made = self._made(X.shape[1], outputs, int(random.randint(SEEDS)))
            self._check_outputs(made, X)
            self.module_, self.trainer_ = made, self._trainer(made)  # both or neither
        stops, by_class = self._stopping(incremental), self._classes_weight(y, weights, incremental)
        X, y, weights, held_out = self._split(X, y, weights, random) if stops else (X, y, weights, None)
        alone = (
            not first or self.record
        )  # a record is of the trainer whose steps it keeps, and not of one that lends its own
        fit = self.trainer_.fit if alone else partial(train, self.trainer_)
        fit(
            X, y, epochs=epochs, batch_size=self.batch_size, seed=int(random.randint(SEEDS)), shuffle=self.shuffle,
            validation_data=held_out, progress=bool(self.verbose), callbacks=[*as_callbacks(self.callbacks), *([stops] if stops else [])],
            sample_weight=weights, class_weight=by_class, drop_last=self.drop_last, record=self.record,
        )  # fmt: skip
        if stops:
            self.best_epoch_ = stops.best_epoch
        self.history_ = self.trainer_.history
        self.n_iter_ = self.history_.epochs
        warn_if_interrupted(self)
        return self

    def _made(self, inputs: int, outputs: int, seed: int) -> Module:
        """The module of a fit: a copy of the one given, or what the function gives for so many inputs and outputs."""
        if isinstance(self.module, Module):
            made = copy.deepcopy(self.module)
        else:
            with drawing_from(Generator(seed)):
                made = self.module(inputs, outputs)
        if not isinstance(made, Module):
            raise SettingError(
                f"{type(self).__name__}: module must be an nn.Module, or a function (inputs, outputs) that makes one, got "
                f"{type(made).__name__}. Pass nn.Sequential(...), or lambda n, k: nn.Sequential(...)."
            )
        return arithmetic.computing_in(made, self._arithmetic())

    def _arithmetic(self) -> DType:
        return arithmetic.full(
            self, self.dtype, "Layers of the module may be bfloat16 all the same: nn.Linear(..., dtype=cr.bfloat16)."
        )

    def _check_outputs(self, made: Module, X: Array) -> None:
        """Raise where the outputs cannot be about these targets; what does not run at all, the trainer says."""

    def _trainer(self, module: Module) -> Trainer:
        optimizer, rate = self.optimizer, dict[str, Any]() if self.lr is None else {"lr": self.lr}
        kind = by_name(optimizer) if isinstance(optimizer, str) else optimizer
        if not callable(kind) or isinstance(kind, Optimizer):
            raise SettingError(
                f"{type(self).__name__}: optimizer must be a name, a class or a function of parameters, got {optimizer!r}. "
                f"Each fit makes its own: pass 'adam', or functools.partial(optim.SGD, momentum=0.9)."
            )
        optimizer = kind(module.parameters(), **rate)
        return Trainer(module, self._loss(), optimizer, self.metrics, self.max_norm, self.output)

    def _loss(self) -> Any:
        return loss_by_name(self.loss) if isinstance(self.loss, str) else copy.deepcopy(self.loss)

    def _meaning(self) -> Meaning | None:
        return named(self.output, "output=") if self.output is not None else meaning_of(self._loss())

    # ---------------------------------------------------------------- early stopping

    def _stopping(self, incremental: bool) -> EarlyStopping | None:
        if not self.early_stopping:
            return None
        if incremental:
            raise ValueError("partial_fit does not support early_stopping")
        monitor = "val_loss" if self.early_stopping is True else self.early_stopping
        return EarlyStopping(monitor, min_delta=self.tol, patience=self.n_iter_no_change, restore_best_weights=True)

    def _split(self, X: Array, y: Array, weights: Any, random: Any) -> tuple[Any, Any, Any, tuple[Any, ...]]:
        check_share(self.validation_fraction, none=False)
        parts = [X, y] if weights is None else [X, y, weights]
        stratify = y if self._stratified(y, math.ceil(self.validation_fraction * len(y))) else None
        found = train_test_split(*parts, test_size=self.validation_fraction, random_state=random, stratify=stratify)
        none = [None] if weights is None else []
        return (*found[::2], *none, tuple(found[1::2]))

    def _stratified(self, y: Array, out: int) -> bool:
        """Is every class to have its share of the rows that are held out?"""
        return False

    def _made_again(self, loss: Any, optimizer: Any) -> Trainer:
        return Trainer(self.module_, loss, optimizer, self.metrics, self.max_norm, self.output)

    # ---------------------------------------------------------------- prediction

    def _bundled(self) -> Fitted:
        check_is_fitted(self)
        meaning = told(self.trainer_.loss, self._meaning(), "bundle")
        classes = getattr(self, "classes_", None)
        return Fitted(self.module_, meaning, classes, getattr(self, "feature_names_in_", None))

    def _given(self, X: Any) -> Array:
        check_is_fitted(self)
        check_dense(X, type(self).__name__)
        check_known(X, f"{type(self).__name__}: X")
        found: Array = validate_data(self, X, reset=False, allow_nd=True)
        return found


class NetworkClassifier(ClassifierMixin, _Network):
    """Any module as a classifier: classes of any type go in and come out, and a `Trainer` trains in between.

    Args:
        module: an ``nn.Module``, of which each fit trains a copy; or a function ``(inputs, outputs)`` that makes one: it is
            called with the number of features and of outputs, and its random weights come from ``random_state``.
        loss: of `Trainer`: ``"cross_entropy"`` takes an output for each class, ``"binary_cross_entropy_with_logits"`` one
            for two classes.
        optimizer: a name, or a class or function that is called with the parameters (and ``lr``, if given).
        lr: the learning rate; None for the optimizer's own.
        epochs, batch_size, shuffle, drop_last, metrics, callbacks, max_norm, output: of `Trainer` and its ``fit``.
        early_stopping: True for ``"val_loss"``, or the name of another measure of rows that are held out
            (``"val_accuracy"``, with ``metrics=["accuracy"]``): the best epoch's weights are kept, and after
            ``n_iter_no_change`` epochs without one better by ``tol`` the fit ends.
        validation_fraction: the share of rows to hold out for that, every class by its share where that can be.
        class_weight: a factor for each class, as a dict, or ``"balanced"``.
        warm_start: go on with the module of the fit before.
        random_state: of weights, orders, dropout and the rows that are held out.
        verbose: show progress.
        dtype: of the module's parameters: ``"float32"`` or ``"float64"``; those in bfloat16 stay so.
        record: of ``Trainer.fit``: True, or a folder, keeps every step of a fit, so that ``trainer_.explain`` can derive any.

    Attributes:
        classes_: the labels, sorted.
        module_: the trained module.
        trainer_: its `Trainer`, which explains, diagnoses and saves it.
        history_: what each epoch measured.
        n_iter_: how many epochs there were.
        best_epoch_: the epoch whose weights are kept, counted from 1 (with early stopping).

    Example:
        >>> from sklearn.datasets import load_wine
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from chainrule import nn
        >>> from chainrule.sklearn import NetworkClassifier
        >>> X, y = load_wine(return_X_y=True, as_frame=False)
        >>> def network(inputs, outputs):
        ...     return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, outputs))
        >>> model = make_pipeline(StandardScaler(), NetworkClassifier(network, lr=0.01, random_state=0))
        >>> model.fit(X, y).score(X, y) > 0.97
        True
    """

    def __init__(
        self, module: Module | Callable[[int, int], Module], *, loss: Any = "cross_entropy", optimizer: Any = "adam",
        lr: float | None = None, epochs: int = 50, batch_size: int = 64, shuffle: bool = True, drop_last: bool = False, metrics: Sequence[Any] = (),
        callbacks: Sequence[Any] = (), early_stopping: str | bool | None = None, validation_fraction: float = 0.1,
        n_iter_no_change: int = 10, tol: float = 1e-4, class_weight: Any = None, max_norm: float | None = None,
        output: str | None = None, warm_start: bool = False, random_state: Any = None, verbose: bool = False,
        dtype: str = "float32", record: bool | str = False,
    ) -> None:  # fmt: skip
        super().__init__(
            module, loss=loss, optimizer=optimizer, lr=lr, epochs=epochs, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last,
            metrics=metrics, callbacks=callbacks, early_stopping=early_stopping, validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change, tol=tol, max_norm=max_norm, output=output, warm_start=warm_start,
            random_state=random_state, verbose=verbose, dtype=dtype, record=record,
        )  # fmt: skip
        self.class_weight = class_weight

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """One pass over these rows, from where the fit before ended; the first call names all `classes`."""
        first = not hasattr(self, "module_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if not first and classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}"
            )
        return self._fit(X, y, sample_weight, 1, first, incremental=True, classes=classes)

    def _validated(self, X: Any, y: Any, incremental: bool, classes: Any, reset: bool) -> tuple[Array, Array, int]:
        check_dense(X, type(self).__name__)
        check_known(X, f"{type(self).__name__}: X")
        check_known(y, f"{type(self).__name__}: y")
        X, y = validate_data(self, X, y, reset=reset, allow_nd=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if reset:
            self.classes_ = np.unique(y if classes is None else classes)
        numbers = np.searchsorted(self.classes_, y)
        known = numbers < len(self.classes_)
        known[known] = self.classes_[numbers[known]] == y[known]
        if not known.all():
            raise ValueError(f"y has labels that are not among the classes {self.classes_}: {np.unique(y[~known])}.")
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of at least 2 classes, but y contains only one class: {self.classes_.tolist()[0]!r}."
            )
        meaning = self._meaning()
        check_of_classes(type(self).__name__, meaning, self._loss())
        if meaning is None or not meaning.binary:
            return X, numbers, len(self.classes_)
        if len(self.classes_) != 2:
            raise ValueError(
                f"Only binary classification is supported with the loss {self.loss!r}, got {len(self.classes_)} classes. Use "
                f"'cross_entropy'."
            )
        return X, numbers[:, None].astype(np.float32), 1

    def _check_outputs(self, made: Module, X: Array) -> None:
        meaning, classes = self._meaning(), len(self.classes_)
        if meaning is None or not meaning.over_classes:
            return
        try:
            with inputs.evaluating(made), no_grad():
                _, found = inputs.features(made, X[: inputs.PROBED], "fit")
        except ChainruleError:
            return
        if found.dim() > 1 and found.shape[1] > classes:
            raise ValueError(
                f"{type(self).__name__}: the module must give an output for each of the {classes} classes in y, got {found.shape[1]}, "
                f"so that classes that do not exist would have probabilities. Give its last layer {classes} outputs, or pass a function "
                f"(inputs, outputs) that makes it; classes that come later are named by partial_fit(X, y, classes=...)."
            )

    def _classes_weight(self, y: Array, weights: Any, incremental: bool) -> Any:
        """The weight of each class, by its number."""
        check_class_weight(self)
        if self.class_weight is None:
            return None
        if isinstance(self.class_weight, str):
            refuse_balanced(incremental)
            y = y.reshape(len(y)).astype(int)
            found = compute_class_weight("balanced", classes=np.unique(y), y=y, sample_weight=weights)
            return dict(zip(np.unique(y).tolist(), found.tolist(), strict=True))
        numbers = {label: number for number, label in enumerate(self.classes_.tolist())}
        unknown = [label for label in self.class_weight if label not in numbers]
        if unknown:
            raise ValueError(f"class_weight names {unknown}, which are not among the classes {self.classes_}.")
        return {numbers[label]: float(weight) for label, weight in self.class_weight.items()}

    def _stratified(self, y: Array, out: int) -> bool:
        return has_shares(y, out)

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, in the order of ``classes_``: shape (N, classes)."""
        X, meaning = self._given(X), told(self.trainer_.loss, self._meaning(), "predict_proba")
        if meaning.binary:
            found = meaning.both(self.trainer_.predict(X))
            if not meaning.broken(found):
                return found
        return self.trainer_.predict_proba(X)

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`, finite also where a probability is below the smallest float: shape (N, classes)."""
        X = self._given(X)
        return log_probabilities(self.trainer_, X, self.predict_proba)

    def predict(self, X: Any) -> Array:
        """The likeliest class of each row."""
        X = self._given(X)
        found: Array = self.classes_[self.trainer_.predict_classes(X)]
        return found


class NetworkRegressor(RegressorMixin, _Network):
    """Any module as a regressor; see `NetworkClassifier` for what it takes.

    Args:
        module, ..., dtype: as for `NetworkClassifier`; ``loss`` is ``"mse"`` unless given (``"huber"``, ``"l1"``, your own).

    Attributes:
        module_, trainer_, history_, n_iter_, best_epoch_: as there.

    Example:
        >>> from sklearn.datasets import make_friedman1
        >>> from chainrule import nn
        >>> from chainrule.sklearn import NetworkRegressor
        >>> X, y = make_friedman1(500, random_state=0)
        >>> def network(inputs, outputs):
        ...     return nn.Sequential(nn.Linear(inputs, 32), nn.SiLU(), nn.Linear(32, outputs))
        >>> model = NetworkRegressor(network, lr=0.01, epochs=200, random_state=0).fit(X, y)
        >>> model.score(X, y) > 0.8
        True
    """

    def __init__(
        self, module: Module | Callable[[int, int], Module], *, loss: Any = "mse", optimizer: Any = "adam",
        lr: float | None = None, epochs: int = 50, batch_size: int = 64, shuffle: bool = True, drop_last: bool = False, metrics: Sequence[Any] = (),
        callbacks: Sequence[Any] = (), early_stopping: str | bool | None = None, validation_fraction: float = 0.1,
        n_iter_no_change: int = 10, tol: float = 1e-4, max_norm: float | None = None, output: str | None = None,
        warm_start: bool = False, random_state: Any = None, verbose: bool = False, dtype: str = "float32",
        record: bool | str = False,
    ) -> None:  # fmt: skip
        super().__init__(
            module, loss=loss, optimizer=optimizer, lr=lr, epochs=epochs, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last,
            metrics=metrics, callbacks=callbacks, early_stopping=early_stopping, validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change, tol=tol, max_norm=max_norm, output=output, warm_start=warm_start,
            random_state=random_state, verbose=verbose, dtype=dtype, record=record,
        )  # fmt: skip

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One pass over these rows, from where the fit before ended."""
        return self._fit(X, y, sample_weight, 1, not hasattr(self, "module_"), incremental=True)

    def _validated(self, X: Any, y: Any, incremental: bool, classes: Any, reset: bool) -> tuple[Array, Array, int]:
        check_dense(X, type(self).__name__)
        check_known(X, f"{type(self).__name__}: X")
        check_known(y, f"{type(self).__name__}: y")
        check_no_texts(y, f"{type(self).__name__}: y")
        X, y = validate_data(self, X, y, reset=reset, allow_nd=True, multi_output=True, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._flat = y.ndim == 1
        y = y.reshape(len(y), -1)
        return X, y.astype(self._arithmetic().numpy), y.shape[1]

    def predict(self, X: Any) -> Array:
        """The outputs for each row: shape (N,), or (N, targets) where there are several."""
        X = self._given(X)
        found: Array = self.trainer_.predict(X)
        return found.reshape(len(found)) if self._flat else found
