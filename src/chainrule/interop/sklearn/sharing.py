"""Fits in compiled steps that they share: `shared_programs`, and scikit-learn's cross-validation inside of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import joblib
from sklearn import model_selection

from chainrule.compiler.runtime.threads import get_num_threads
from chainrule.errors import SettingError
from chainrule.training import Trainer
from chainrule.training.lending import Lender

KINDS = 8  # of networks and rows whose steps are kept; folds have one or two


class _Open:
    """The blocks that are open, and who lends steps in them. A fit has the bits that it would have without, so any that runs
    meanwhile, in whatever thread, may ask.
    """

    def __init__(self) -> None:
        self.lock, self.blocks = threading.Lock(), 0
        self.lender: Lender | None = None

    def begin(self) -> None:
        with self.lock:
            self.blocks += 1
            self.lender = self.lender or Lender(KINDS)

    def end(self) -> None:
        with self.lock:
            self.blocks -= 1
            if not self.blocks:
                self.lender = None


_open = _Open()


def train(trainer: Trainer, X: Any, y: Any, own: Lender | None = None, **options: Any) -> None:
    """``trainer.fit``, in the steps of the open block, or else of `own`."""
    lender = _open.lender or own
    if lender is None:
        trainer.fit(X, y, **options)
    else:
        lender.fit(trainer, X, y, **options)


@contextmanager
def shared_programs(n_jobs: int | None = None) -> Iterator[None]:
    """Inside the block, fits that differ only in numbers run in the same compiled steps, and scikit-learn's loops in threads.

    That goes for whatever fits `NetworkClassifier`, `NetworkRegressor`, `TabularClassifier` and `TabularRegressor`, alone or in a
    pipeline: ``GridSearchCV``, ``learning_curve``, ``BaggingClassifier`` ... Each fit has the bits that it has outside, on one
    thread, as long as its ``random_state`` is a number. Callbacks are given the `Trainer` whose steps were lent. (The `MLPClassifier` and `MLPRegressor`
    share their steps anyway.)

    Args:
        n_jobs: how many fits at a time, where a loop says nothing else; None: the number of threads that programs may use.

    Raises:
        SettingError: it is no number of fits.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> from sklearn.model_selection import GridSearchCV
        >>> from chainrule.sklearn import TabularClassifier, shared_programs
        >>> search = GridSearchCV(TabularClassifier(epochs=20, random_state=0), {"lr": [0.004, 0.04]}, cv=3)
        >>> with shared_programs():
        ...     search.best_params_ if search.fit(*load_wine(return_X_y=True)) else None
        {'lr': 0.04}
    """
    jobs = get_num_threads() if n_jobs is None else n_jobs
    if isinstance(jobs, bool) or not hasattr(jobs, "__index__") or jobs == 0:
        raise SettingError(
            f"shared_programs: n_jobs must be a whole number other than 0, or None, got {n_jobs!r}. Pass 2 for two fits at a time."
        )
    _open.begin()
    try:
        with joblib.parallel_config("threading", n_jobs=jobs):
            yield
    finally:
        _open.end()


def cross_validate(estimator: Any, X: Any, y: Any = None, *, n_jobs: int | None = None, **options: Any) -> Any:
    """scikit-learn's ``cross_validate``, its folds trained in one compiled program, several at a time.

    The same scores, to the bit, as long as ``random_state`` is a number: what it calls is scikit-learn's function, inside of `shared_programs`.

    Args:
        estimator: one of this module, or a pipeline with one; any other is trained as ever, in threads.
        X, y: as there.
        n_jobs: as for `shared_programs`.
        options: as there: ``cv``, ``scoring``, ``groups``, ``return_estimator`` ...

    Example:
        >>> from sklearn.datasets import load_wine
        >>> from chainrule.sklearn import TabularClassifier, cross_validate
        >>> X, y = load_wine(return_X_y=True)
        >>> found = cross_validate(TabularClassifier(random_state=0), X, y, cv=5, scoring=("accuracy", "neg_log_loss"))
        >>> float(found["test_accuracy"].mean()) > 0.95
        True
    """
    with shared_programs(n_jobs):
        return model_selection.cross_validate(estimator, X, y, **options)


def cross_val_score(estimator: Any, X: Any, y: Any = None, *, n_jobs: int | None = None, **options: Any) -> Any:
    """scikit-learn's ``cross_val_score``, as `cross_validate`: the score of each fold.

    Args:
        estimator, X, y, n_jobs, options: as there.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> from chainrule.sklearn import TabularRegressor, cross_val_score
        >>> cross_val_score(TabularRegressor(epochs=20, random_state=0), *load_diabetes(return_X_y=True), cv=3).shape
        (3,)
    """
    with shared_programs(n_jobs):
        return model_selection.cross_val_score(estimator, X, y, **options)


def cross_val_predict(estimator: Any, X: Any, y: Any = None, *, n_jobs: int | None = None, **options: Any) -> Any:
    """scikit-learn's ``cross_val_predict``, as `cross_validate`: what is predicted of each row by the fold that had it held out.

    Args:
        estimator, X, y, n_jobs, options: as there.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> from chainrule.sklearn import TabularClassifier, cross_val_predict
        >>> X, y = load_wine(return_X_y=True)
        >>> cross_val_predict(TabularClassifier(epochs=20, random_state=0), X, y, cv=3, method="predict_proba").shape
        (178, 3)
    """
    with shared_programs(n_jobs):
        return model_selection.cross_val_predict(estimator, X, y, **options)
