"""The multilayer perceptrons give what scikit-learn's give, step for step, and pass its checks."""

import os
import pickle
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import sklearn
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine, make_multilabel_classification
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import chainrule.sklearn as ours
from chainrule.interop.sklearn import network, perceptron

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


WINE, CANCER, IRIS = scaled(load_wine), scaled(load_breast_cancer), scaled(load_iris)
DIABETES = (lambda X, y: (X, y / 100))(*scaled(load_diabetes))
TWO = DIABETES[0], np.stack([DIABETES[1], DIABETES[1] ** 2], axis=1)
MANY = make_multilabel_classification(n_samples=150, n_classes=4, random_state=0)


def both(name, data, fit=None, **settings):
    settings = {"hidden_layer_sizes": (20,), "max_iter": 30, "random_state": 0, **settings}
    return [getattr(module, name)(**settings).fit(*data, **(fit or {})) for module in (theirs, ours)]


def assert_same(peer, mine, tolerance=1e-9):
    assert mine.n_iter_ == peer.n_iter_
    assert mine.t_ == peer.t_
    for name in ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_", "loss_"):
        expected = getattr(peer, name, None)
        if expected is not None:
            np.testing.assert_allclose(getattr(mine, name), expected, rtol=tolerance, err_msg=name)
    for expected, found in zip([*peer.coefs_, *peer.intercepts_], [*mine.coefs_, *mine.intercepts_], strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=tolerance)


SETTINGS = {
    "adam": {},
    "no_penalty": {"alpha": 0},
    "penalty": {"alpha": 1.0},
    "two_layers": {"hidden_layer_sizes": (16, 8)},
    "no_hidden_layer": {"hidden_layer_sizes": ()},
    "logistic": {"activation": "logistic"},
    "tanh": {"activation": "tanh"},
    "identity": {"activation": "identity"},
    "short_last_batch": {"batch_size": 32},
    "one_row_batches": {"batch_size": 1, "max_iter": 2},
    "as_they_come": {"shuffle": False, "batch_size": 50},
    "betas": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.01},
    "no_momentum": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.01},
    "plain_momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.01},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.05, "power_t": 0.3},
    "adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "tol": 0.02,
        "n_iter_no_change": 2,
        "learning_rate_init": 0.02,
    },
    "early_stopping": {"early_stopping": True, "max_iter": 100, "n_iter_no_change": 5, "batch_size": 40},
    "stops_by_loss": {"tol": 0.01, "n_iter_no_change": 3, "max_iter": 300},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("data", [WINE, CANCER, MANY], ids=["classes", "two_classes", "labels"])
def test_a_classifier_takes_scikit_learns_steps(data, settings):
    assert_same(*both("MLPClassifier", data, **settings))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("data", [DIABETES, TWO], ids=["one_output", "two_outputs"])
def test_a_regressor_takes_scikit_learns_steps(data, settings):
    assert_same(*both("MLPRegressor", data, **settings))


def test_a_regressor_of_counts_takes_scikit_learns_steps():
    X, y = DIABETES
    assert_same(*both("MLPRegressor", (X, np.floor(y)), loss="poisson", early_stopping=True))


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("name", "data"), [("MLPClassifier", WINE), ("MLPRegressor", TWO)])
def test_weights_of_rows_mean_what_they_mean_in_scikit_learn(name, data, early):
    weights = np.random.default_rng(0).uniform(0, 3, len(data[0]))
    assert_same(*both(name, data, {"sample_weight": weights}, early_stopping=early, batch_size=50))


def test_a_batch_without_any_weight_changes_nothing_but_by_the_penalty():
    X, y = WINE
    weights = np.r_[np.zeros(50), np.ones(len(X) - 50)]
    model = ours.MLPClassifier((8,), alpha=0, batch_size=50, shuffle=False, max_iter=5, random_state=0)
    model.fit(X, y, sample_weight=weights)
    rest = ours.MLPClassifier((8,), alpha=0, batch_size=50, shuffle=False, max_iter=5, random_state=0, solver="sgd")
    assert np.isfinite(model.loss_curve_).all()
    assert rest.fit(X, y, sample_weight=weights).loss_ > 0


@pytest.mark.parametrize(
    ("name", "data"), [("MLPClassifier", WINE), ("MLPClassifier", MANY), ("MLPRegressor", DIABETES)]
)
def test_lbfgs_finds_what_scikit_learns_finds(name, data):
    weights = np.random.default_rng(0).uniform(0, 3, len(data[0]))
    peer, mine = both(name, data, {"sample_weight": weights}, solver="lbfgs", max_iter=5)
    assert mine.n_iter_ == peer.n_iter_
    np.testing.assert_allclose(mine.loss_, peer.loss_, rtol=1e-6)
    np.testing.assert_allclose(mine.coefs_[0], peer.coefs_[0], rtol=1e-4, atol=1e-6)


def test_lbfgs_descends_the_function_of_its_gradient_for_several_outputs():
    peer, mine = both("MLPRegressor", TWO, solver="lbfgs", max_iter=2000, max_fun=5000, alpha=1e-2)
    assert mine.loss_ <= peer.loss_ * 1.05


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_goes_on_as_scikit_learns_does(solver):
    X, y = WINE
    models = [module.MLPClassifier((12,), solver=solver, random_state=0) for module in (theirs, ours)]
    for rows in (slice(0, 60), slice(60, 120), slice(120, None), slice(0, 60)):
        for model in models:
            model.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
    assert_same(*models)


def test_partial_fit_goes_on_after_a_pickle():
    X, y = WINE
    models = [ours.MLPClassifier((12,), random_state=0).partial_fit(X, y, classes=[0, 1, 2]) for _ in range(2)]
    models[1] = pickle.loads(pickle.dumps(models[1]))
    first, second = (model.partial_fit(X, y).coefs_[0] for model in models)
    np.testing.assert_array_equal(first, second)


def test_a_warm_start_goes_on_as_scikit_learns_does():
    models = [
        module.MLPRegressor(hidden_layer_sizes=(12,), warm_start=True, max_iter=7, random_state=0)
        for module in (theirs, ours)
    ]
    for _ in range(3):
        for model in models:
            model.fit(*DIABETES)
    assert len(models[1].loss_curve_) == 21
    assert_same(*models)


def test_a_warm_start_of_other_layers_is_refused():
    model = ours.MLPRegressor(hidden_layer_sizes=(12,), warm_start=True, max_iter=2).fit(*DIABETES)
    text = (
        "MLPRegressor: the weights of the earlier fit are of layers of [10, 12, 1] units, but these data and "
        "hidden_layer_sizes are of [10, 5, 1]. Fit with warm_start=False to begin anew."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        model.set_params(hidden_layer_sizes=(5,)).fit(*DIABETES)


def test_a_stream_of_random_numbers_is_left_where_scikit_learn_leaves_it():
    drawn = []
    for module in (theirs, ours):
        random = np.random.RandomState(5)
        model = module.MLPClassifier((8,), tol=0.02, n_iter_no_change=2, max_iter=50, random_state=random)
        drawn.append((model.fit(*WINE).n_iter_, random.randint(2**31)))
    assert drawn[0] == drawn[1]
    assert drawn[0][0] < 50


def test_text_labels_sparse_rows_and_float32():
    X, y = WINE
    names = np.array(["red", "rosé", "white"], object)[y]
    peer, mine = both("MLPClassifier", (X.astype(np.float32), names))
    assert_same(peer, mine, 1e-4)
    assert list(mine.predict(X.astype(np.float32))) == list(peer.predict(X.astype(np.float32)))
    assert_same(*both("MLPClassifier", (sparse.csr_matrix(X), names)))
    assert mine.predict_proba(sparse.csr_matrix(X)).shape == (len(X), 3)


@pytest.mark.parametrize(("name", "data"), [("MLPClassifier", WINE), ("MLPRegressor", DIABETES)])
@pytest.mark.parametrize("early", [False, True])
def test_many_sparse_rows_are_made_dense_some_at_a_time(name, data, early, monkeypatch):
    X, y = data
    monkeypatch.setattr(network, "COPIED", 2 * 32 * X.shape[1] * 8)  # two batches
    monkeypatch.setattr(perceptron, "COPIED", 2 * 32 * X.shape[1] * 8)
    seen = []
    dense = perceptron._dense
    monkeypatch.setattr(perceptron, "_dense", lambda rows: (seen.append(rows.shape), dense(rows))[1])
    weights = np.random.default_rng(0).uniform(1, 2, len(X))
    assert_same(*both(name, (sparse.csr_matrix(X), y), {"sample_weight": weights}, batch_size=32, early_stopping=early))
    assert max(rows for rows, columns in seen if columns) == 64


def test_data_frames_give_their_names():
    pandas = pytest.importorskip("pandas")
    X, y = load_wine(return_X_y=True, as_frame=True)
    peer, mine = both("MLPClassifier", (X, y))
    assert list(mine.feature_names_in_) == list(peer.feature_names_in_)
    assert_same(peer, mine)
    pipeline = make_pipeline(StandardScaler(), mine).set_output(transform="pandas").fit(X, y)
    assert isinstance(pipeline[:-1].transform(X), pandas.DataFrame)


def test_polars_frames_are_taken():
    polars = pytest.importorskip("polars")
    X, y = WINE
    frame = polars.DataFrame({f"column {i}": X[:, i] for i in range(X.shape[1])})
    assert_same(*both("MLPClassifier", (frame, y)))


def test_a_fit_in_float32_of_rows_in_float64():
    peer, mine = both("MLPClassifier", WINE)[0], ours.MLPClassifier((20,), max_iter=30, random_state=0, dtype="float32")
    mine.fit(*WINE)
    np.testing.assert_allclose(mine.loss_curve_, peer.loss_curve_, rtol=1e-4)
    assert mine.coefs_[0].dtype == np.float64
    assert mine.predict_proba(WINE[0]).dtype == np.float64


@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "selu", "gelu", "silu", "softplus"])
def test_more_activations_learn(activation):
    model = ours.MLPClassifier((20,), activation, max_iter=200, learning_rate_init=0.01, random_state=0).fit(*WINE)
    assert model.score(*WINE) > 0.98


def test_dropout_is_of_the_random_state_alone_and_of_steps_alone():
    def fitted(**settings):
        return ours.MLPClassifier((20,), max_iter=20, **{"random_state": 0, "dropout": 0.3, **settings}).fit(*WINE)

    first, second, other, none = fitted(), fitted(), fitted(random_state=1), fitted(dropout=0)
    np.testing.assert_array_equal(first.coefs_[0], second.coefs_[0])
    assert first.loss_ != none.loss_ != other.loss_
    np.testing.assert_array_equal(first.predict_proba(WINE[0]), first.predict_proba(WINE[0]))


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_normalised_layers_take_pytorchs_steps(normalization):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    X, y = CANCER
    settings = {"hidden_layer_sizes": (9,), "solver": "sgd", "momentum": 0.0, "batch_size": len(X), "alpha": 0}
    settings = {**settings, "normalization": normalization, "random_state": 0}
    start = ours.MLPClassifier(**settings, learning_rate_init=1e-300, max_iter=1).fit(X, y)
    mine = ours.MLPClassifier(**settings, learning_rate_init=0.1, max_iter=5).fit(X, y)
    norm = (torch.nn.BatchNorm1d if normalization == "batch" else torch.nn.LayerNorm)(9)
    peer = torch.nn.Sequential(torch.nn.Linear(30, 9), norm, torch.nn.ReLU(), torch.nn.Linear(9, 1)).double()
    with torch.no_grad():
        for layer, coef, intercept in zip((peer[0], peer[3]), start.coefs_, start.intercepts_, strict=True):
            layer.weight.copy_(torch.tensor(coef.T))
            layer.bias.copy_(torch.tensor(intercept))
    optimizer = torch.optim.SGD(peer.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            peer(torch.tensor(X))[:, 0], torch.tensor(y).double()
        )
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(mine.loss_, loss.item(), rtol=1e-9)
    np.testing.assert_allclose(mine.coefs_[0], peer[0].weight.detach().numpy().T, rtol=1e-8, atol=1e-12)
    for name, value in mine.norms_[0].items():
        np.testing.assert_allclose(value, getattr(norm, name).detach().numpy(), rtol=1e-8, atol=1e-12)
    probabilities = peer.eval()(torch.tensor(X)).sigmoid().detach().numpy()[:, 0]
    np.testing.assert_allclose(mine.predict_proba(X)[:, 1], probabilities, rtol=1e-8)


def test_a_last_batch_of_one_row_is_left_out_where_batches_are_normalised():
    model = ours.MLPClassifier((9,), normalization="batch", batch_size=59, max_iter=3, random_state=0).fit(*WINE)
    assert model.t_ == 3 * 177
    assert np.isfinite(model.loss_curve_).all()


def test_normalised_layers_stop_early_and_go_on_after_a_pickle():
    best = ours.MLPClassifier((9,), normalization="batch", early_stopping=True, max_iter=60, random_state=0).fit(*WINE)
    shorter = clone(best).set_params(max_iter=1 + int(np.argmax(best.validation_scores_))).fit(*WINE)
    np.testing.assert_array_equal(shorter.norms_[0]["running_var"], best.norms_[0]["running_var"])
    model = ours.MLPClassifier((9,), normalization="batch", random_state=0).partial_fit(*WINE, classes=[0, 1, 2])
    again = pickle.loads(pickle.dumps(model)).partial_fit(*WINE)
    np.testing.assert_array_equal(model.partial_fit(*WINE).norms_[0]["weight"], again.norms_[0]["weight"])


def test_what_is_of_batches_is_refused_by_lbfgs():
    text = "normalization and dropout are of steps on batches, which solver='lbfgs' does not take."
    for settings in ({"dropout": 0.1}, {"normalization": "layer"}):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            ours.MLPClassifier(solver="lbfgs", **settings).fit(*WINE)


@pytest.mark.parametrize("solver", ["adamw", "rmsprop"])
def test_more_solvers_learn(solver):
    model = ours.MLPClassifier((20,), solver=solver, alpha=0.01, max_iter=200, learning_rate_init=0.01, random_state=0)
    assert model.fit(*WINE).score(*WINE) > 0.98


def test_adamw_shrinks_the_weights_and_not_the_intercepts():
    strong, none = (
        ours.MLPRegressor(
            hidden_layer_sizes=(9,), solver="adamw", alpha=alpha, max_iter=1, random_state=0, batch_size=442
        )
        for alpha in (0.5, 0.0)
    )
    a, b = strong.fit(*DIABETES), none.fit(*DIABETES)
    start = ours.MLPRegressor(hidden_layer_sizes=(9,), random_state=0, learning_rate_init=1e-30, max_iter=1).fit(
        *DIABETES
    )
    np.testing.assert_allclose(a.coefs_[0], b.coefs_[0] - 0.001 * 0.5 * start.coefs_[0], rtol=1e-9)
    np.testing.assert_array_equal(a.intercepts_[0], b.intercepts_[0])


@pytest.mark.parametrize("quantile", [0.1, 0.9])
def test_a_quantile_lies_where_it_should(quantile):
    model = ours.MLPRegressor(
        "quantile", (20,), quantile=quantile, max_iter=500, learning_rate_init=0.01, random_state=0
    )
    X, y = DIABETES
    assert (y < model.fit(X, y).predict(X)).mean() == pytest.approx(quantile, abs=0.05)


def test_a_loss_of_ones_own_is_as_good_as_a_name():
    own, named = (
        ours.MLPRegressor(loss, (9,), max_iter=20, random_state=0, early_stopping=True).fit(*TWO)
        for loss in (lambda output, target: 0.5 * (output - target).square(), "squared_error")
    )
    np.testing.assert_array_equal(own.coefs_[0], named.coefs_[0])
    text = (
        "loss: it must give a number for each row, shape (200,), or for each row and output, shape (200, 1), got shape (). "
        "Leave out the mean: it is taken afterwards, with the weights of the rows."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        ours.MLPRegressor(lambda output, target: (output - target).square().mean()).fit(*DIABETES)


def test_huber_and_absolute_errors_withstand_outliers():
    X, y = DIABETES
    wild = y + 100 * (np.arange(len(y)) % 10 == 0)
    errors = {
        loss: np.abs(ours.MLPRegressor(loss, (9,), max_iter=500, random_state=0).fit(X, wild).predict(X) - y).mean()
        for loss in ("squared_error", "huber", "absolute_error")
    }
    assert errors["huber"] < errors["squared_error"] / 2 > errors["absolute_error"]


def test_early_stopping_by_any_score():
    def fitted(scoring, **settings):
        model = ours.MLPClassifier((9,), early_stopping=True, scoring=scoring, max_iter=60, random_state=0, **settings)
        return model.fit(WINE[0], np.array(["a", "b", "c"])[WINE[1]])

    by_name, by_loss, plain = fitted("neg_log_loss"), fitted("loss"), fitted(None)
    np.testing.assert_allclose(by_name.validation_scores_, by_loss.validation_scores_, rtol=1e-9)
    np.testing.assert_array_equal(by_name.coefs_[0], by_loss.coefs_[0])
    np.testing.assert_allclose(fitted("accuracy").validation_scores_, plain.validation_scores_)


def test_scores_see_no_names_of_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(WINE[0], columns=[f"column {i}" for i in range(13)])
    model = ours.MLPClassifier((9,), early_stopping=True, scoring="neg_log_loss", max_iter=3).fit(frame, WINE[1])
    assert list(model.feature_names_in_) == list(frame.columns)


def test_callbacks_see_each_epoch_and_may_end_the_fit():
    seen = []

    def watch(model, epoch):
        seen.append((epoch, model.score(*WINE)))
        return epoch == 5

    model = ours.MLPClassifier((9,), callbacks=[watch], random_state=0).fit(*WINE)
    assert model.n_iter_ == len(seen) == 5
    assert seen[-1][1] == model.score(*WINE) != seen[0][1]


def test_class_weights_are_weights_of_rows():
    X, y = IRIS[0][:120], np.array(["a", "b", "c"])[IRIS[1][:120]]
    given = ours.MLPClassifier((8,), max_iter=10, random_state=0, class_weight={"a": 1, "b": 2, "c": 5}).fit(X, y)
    rows = ours.MLPClassifier((8,), max_iter=10, random_state=0).fit(
        X, y, sample_weight=np.array([1, 2, 5])[IRIS[1][:120]]
    )
    np.testing.assert_array_equal(given.coefs_[0], rows.coefs_[0])
    even = ours.MLPClassifier((8,), max_iter=10, random_state=0, class_weight="balanced").fit(X, y)
    shares = ours.MLPClassifier((8,), max_iter=10, random_state=0).fit(X, y, np.where(y == "c", 2.0, 0.8))
    np.testing.assert_array_equal(even.coefs_[0], shares.coefs_[0])


def test_balanced_class_weights_are_refused_by_partial_fit():
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported for partial_fit"):
        ours.MLPClassifier(class_weight="balanced").partial_fit(*WINE, classes=[0, 1, 2])


def test_a_search_over_numbers_compiles_once(monkeypatch):
    made = []
    new = network.Network.__init__
    monkeypatch.setattr(network.Network, "__init__", lambda self, plan: (made.append(plan), new(self, plan))[1])
    grid = {"alpha": [1e-4, 1e-2, 1.0], "learning_rate_init": [1e-3, 1e-2], "beta_1": [0.9, 0.8]}
    search = GridSearchCV(ours.MLPClassifier((13,), max_iter=5, random_state=0), grid, cv=3).fit(*CANCER)
    assert set(search.best_params_) == set(grid)
    assert len(set(made)) == len(made) <= 2  # the folds, and all rows


def test_a_network_lent_again_gives_the_bits_of_a_new_one():
    def fitted(seed):
        model = ours.MLPClassifier((9,), max_iter=10, random_state=seed, dropout=0.2, early_stopping=True)
        return model.fit(*WINE)

    first = fitted(0)
    fitted(1)
    np.testing.assert_array_equal(fitted(0).coefs_[0], first.coefs_[0])


def test_fits_in_threads_do_not_feel_each_other():
    alone = [ours.MLPClassifier((10,), max_iter=20, random_state=seed).fit(*WINE).coefs_[0] for seed in range(4)]
    models = [ours.MLPClassifier((10,), max_iter=20, random_state=seed) for seed in range(4)]
    threads = [threading.Thread(target=lambda model=model: model.fit(*WINE)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model, expected in zip(models, alone, strict=True):
        np.testing.assert_array_equal(model.coefs_[0], expected)


def test_processes_fit_alike():
    pipeline = make_pipeline(StandardScaler(), ours.MLPClassifier((8,), max_iter=20, random_state=0))
    X, y = load_wine(return_X_y=True)
    np.testing.assert_array_equal(cross_val_score(pipeline, X, y, n_jobs=2), cross_val_score(pipeline, X, y))


def test_ensembles_and_calibrated_probabilities():
    members = [(f"{seed}", ours.MLPClassifier((8,), solver="lbfgs", random_state=seed)) for seed in range(3)]
    assert VotingClassifier(members, voting="soft").fit(*WINE).score(*WINE) > 0.9
    assert CalibratedClassifierCV(members[0][1], cv=3).fit(*WINE).score(*WINE) > 0.9


def test_metadata_is_routed():
    weights = np.random.default_rng(0).uniform(1, 2, len(WINE[0]))
    with sklearn.config_context(enable_metadata_routing=True):
        model = ours.MLPClassifier((8,), max_iter=5, random_state=0).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        routed = make_pipeline(scaler, model).fit(*WINE, sample_weight=weights)
    direct = clone(model).fit(StandardScaler().fit_transform(WINE[0]), WINE[1], weights)
    np.testing.assert_array_equal(routed[-1].coefs_[0], direct.coefs_[0])


def test_rows_that_are_many_are_read_where_they_lie(monkeypatch):
    expected = ours.MLPClassifier((8,), max_iter=5, random_state=0, early_stopping=True).fit(*WINE)
    monkeypatch.setattr(network, "COPIED", 100)
    waiting = dict(network._waiting)
    found = ours.MLPClassifier((8,), max_iter=5, random_state=0, early_stopping=True).fit(*WINE)
    np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])
    assert dict(network._waiting) == waiting  # none that holds the user's rows


def test_ctrl_c_ends_a_fit_with_the_weights_of_that_moment(monkeypatch):
    from chainrule.interop.sklearn import stochastic

    epoch = stochastic.Training._epoch

    def stop(self, loss, block):
        epoch(self, loss, block)
        if self.model.n_iter_ == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(stochastic.Training, "_epoch", stop)
    model = ours.MLPClassifier((8,), max_iter=50, random_state=0)
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        model.fit(*WINE)
    assert model.n_iter_ == 3
    assert np.isfinite(model.coefs_[0]).all()


def test_the_limit_of_epochs_is_warned_of():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        ours.MLPClassifier((8,), max_iter=2).fit(*WINE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.MLPClassifier((8,)).partial_fit(*WINE, classes=[0, 1, 2])


def test_weights_that_overflow_are_refused_as_scikit_learn_does():
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"), np.errstate(all="ignore"):
        ours.MLPRegressor(hidden_layer_sizes=(8,), solver="sgd", learning_rate_init=1e10, max_iter=20).fit(*DIABETES)


def test_verbose_prints_what_scikit_learn_prints(capsys):
    printed = []
    for module in (theirs, ours):
        module.MLPClassifier((8,), max_iter=100, tol=0.02, n_iter_no_change=2, random_state=0, verbose=True).fit(*WINE)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_importing_the_package_does_not_import_scikit_learn():
    code = "import sys, chainrule; assert 'sklearn' not in sys.modules; import chainrule.sklearn"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.parametrize(
    "estimator",
    [
        ours.MLPClassifier(),
        ours.MLPClassifier(solver="lbfgs", max_iter=50),
        ours.MLPRegressor(),
        ours.MLPRegressor(solver="sgd"),
    ],
    ids=["classifier", "classifier_lbfgs", "regressor", "regressor_sgd"],
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_pass(estimator):
    found = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(found) > 50
    # What is skipped is so by scikit-learn itself: for its own perceptron, too, and without an environment variable.
    known = {"check_array_api_input", "check_classifiers_multilabel_output_format_decision_function"}
    assert {check["check_name"] for check in found if check["status"] != "passed"} <= known
    assert not [check for check in found if check["status"] in ("failed", "xfail")]
