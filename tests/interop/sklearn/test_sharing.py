"""Cross-validation in one compiled program: scikit-learn's scores, to the bit, and few programs."""

import threading

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn import model_selection
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from chainrule import nn
from chainrule.compiler.frontend.specialization import Specialization
from chainrule.errors import SettingError
from chainrule.interop.sklearn import sharing
from chainrule.sklearn import (
    MLPClassifier,
    NetworkClassifier,
    TabularClassifier,
    TabularRegressor,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    shared_programs,
)

WINE, DIABETES = (load(return_X_y=True) for load in (load_wine, load_diabetes))


def network(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, outputs))


ESTIMATORS = {
    "tabular": (TabularClassifier(hidden=(8, 8), epochs=12, random_state=0), WINE),
    "bag": (TabularRegressor(hidden=(8, 8), epochs=12, n_cv=2, n_refit=1, random_state=0), DIABETES),
    "pipeline": (make_pipeline(StandardScaler(), NetworkClassifier(network, epochs=4, early_stopping=True, random_state=0)), WINE),
    "perceptron": (MLPClassifier((8,), max_iter=5, random_state=0), WINE),
}  # fmt: skip


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_scores_are_scikit_learns_to_the_bit(name):
    estimator, rows = ESTIMATORS[name]
    options = {"cv": 3, "return_train_score": True, "return_indices": True}
    expected = model_selection.cross_validate(estimator, *rows, **options)
    found = cross_validate(estimator, *rows, n_jobs=2, **options)
    assert found.keys() == expected.keys()
    for key in ("test_score", "train_score"):
        np.testing.assert_array_equal(found[key], expected[key])
    for side in ("train", "test"):
        for a, b in zip(found["indices"][side], expected["indices"][side], strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_other_two_are_scikit_learns_too():
    estimator, rows = ESTIMATORS["tabular"]
    scores = cross_val_score(estimator, *rows, cv=3, scoring="neg_log_loss")
    np.testing.assert_array_equal(
        scores, model_selection.cross_val_score(estimator, *rows, cv=3, scoring="neg_log_loss")
    )
    given = {"cv": 3, "method": "predict_proba"}
    np.testing.assert_array_equal(
        cross_val_predict(estimator, *rows, **given), model_selection.cross_val_predict(estimator, *rows, **given)
    )


def traced(monkeypatch, work):
    """How many programs are traced meanwhile."""
    made, whole = [], Specialization.__init__
    monkeypatch.setattr(Specialization, "__init__", lambda self, *given, **options: made.append(self) or whole(self, *given, **options))  # fmt: skip
    try:
        work()
    finally:
        monkeypatch.setattr(Specialization, "__init__", whole)
    return len(made)


def test_folds_of_one_size_have_one_program(monkeypatch):
    """A fold alone has three: training, validation, prediction; the others then only predict in another."""
    X, y = DIABETES[0][:440], DIABETES[1][:440]
    estimator = TabularRegressor(hidden=(8,), epochs=3, random_state=0)
    alone = traced(monkeypatch, lambda: model_selection.cross_validate(estimator, X, y, cv=4))
    shared = traced(monkeypatch, lambda: cross_validate(estimator, X, y, cv=4, n_jobs=1))
    assert (alone, shared) == (12, 6)


def test_a_search_inside_of_the_block_shares_and_the_block_leaves_nothing_behind():
    X, y = WINE
    grid = {"lr": [0.01, 0.04]}
    search = lambda: model_selection.GridSearchCV(ESTIMATORS["tabular"][0], grid, cv=3)  # noqa: E731
    with shared_programs(2):
        assert sharing._open.lender is not None
        with shared_programs():
            found = search().fit(X, y)
        assert sharing._open.lender is not None
    assert sharing._open.lender is None
    expected = search().fit(X, y)
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    with pytest.raises(ZeroDivisionError), shared_programs():
        1 / 0  # noqa: B018
    assert sharing._open.lender is None


def test_who_fits_beside_the_block_has_the_same_bits():
    X, y = WINE
    estimator, found = ESTIMATORS["tabular"][0], []
    expected = model_selection.cross_val_score(estimator, X, y, cv=2)
    with shared_programs():
        beside = threading.Thread(target=lambda: found.append(model_selection.cross_val_score(estimator, X, y, cv=2)))
        beside.start()
        np.testing.assert_array_equal(cross_val_score(estimator, X, y, cv=2), expected)
        beside.join()
    np.testing.assert_array_equal(found[0], expected)


def test_a_fit_that_goes_on_from_an_earlier_one_is_as_outside():
    X, y = WINE
    found = []
    for inside in (True, False):
        model = make_pipeline(StandardScaler(), NetworkClassifier(network, epochs=3, warm_start=True, random_state=0))
        for _ in range(2):
            if inside:
                with shared_programs():
                    model.fit(X, y)
            else:
                model.fit(X, y)
        found.append(model.predict_proba(X))
    np.testing.assert_array_equal(*found)


def test_other_estimators_and_bad_numbers():
    assert cross_validate(LogisticRegression(max_iter=5000), *WINE, cv=3)["test_score"].shape == (3,)
    for wrong in (0, True, "two"):
        with pytest.raises(
            SettingError, match="shared_programs: n_jobs must be a whole number other than 0, or None, got"
        ):
            cross_val_score(LogisticRegression(), *WINE, n_jobs=wrong)
