"""Tabular estimators of several networks: which rows each has, what is averaged, and that one program trains them."""

import pickle
import re

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine
from sklearn.utils.estimator_checks import estimator_checks_generator

import chainrule as cr
from chainrule.callbacks import Callback
from chainrule.errors import SettingError, UnknownNameError
from chainrule.interop.sklearn.folds import best_epoch, folds, held_out
from chainrule.sklearn import TabularClassifier, TabularRegressor
from chainrule.training.history import History
from chainrule.training.recipe import built, recipe

rng = np.random.default_rng(0)
WINE, DIABETES = (load(return_X_y=True) for load in (load_wine, load_diabetes))
SMALL = {"hidden": (8, 8), "epochs": 12, "random_state": 0}


def classifier(**settings):
    return TabularClassifier(**{**SMALL, **settings})


def regressor(**settings):
    return TabularRegressor(**{**SMALL, **settings})


def weights(model):
    return [value.numpy() for network in model.estimators_ for value in network.module_.state_dict().values()]


def assert_equal(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------- which rows


def test_folds_are_of_one_size_and_hold_each_row_out_once_at_most():
    labels = np.repeat([0, 1], [43, 10])
    found = folds(53, 5, labels, None, np.random.RandomState(0))
    assert [(len(kept), len(out)) for kept, out in found] == [(43, 10)] * 5
    assert len(np.unique(np.concatenate([out for _, out in found]))) == 50
    for kept, out in found:
        assert sorted([*kept, *out]) == list(range(53))
    of_class = [np.bincount(labels[out], minlength=2)[1] for _, out in found]
    assert max(of_class) - min(of_class) <= 1


def test_groups_stay_together():
    groups = np.arange(60) // 4
    for labels in (None, np.arange(60) % 2):
        for kept, out in [*folds(60, 3, labels, groups, np.random.RandomState(0)), held_out(60, 0.2, labels, groups, np.random.RandomState(0))]:  # fmt: skip
            assert out.size
            assert not set(groups[kept]) & set(groups[out])
    X, y = WINE
    model = classifier(n_cv=3).fit(X, y, groups=np.arange(len(y)) // 10)
    assert len(model.estimators_) == 3
    assert all("val_accuracy" in network.history_ for network in model.estimators_)


def test_fewer_rows_than_folds_are_refused():
    with pytest.raises(ValueError, match=re.escape("n_cv=5 validates by that many parts of the rows, but there are n_samples=4 samples. Pass a smaller n_cv.")):  # fmt: skip
        classifier(n_cv=5).fit(WINE[0][:4], [0, 1, 0, 1])
    with pytest.raises(ValueError, match="there are n_groups=2 groups"):
        classifier(n_cv=5).fit(*WINE, groups=np.arange(178) % 2)


# ---------------------------------------------------------------- what each is


def test_a_network_of_a_fold_is_the_recipes_training_on_the_other_rows():
    X, y = DIABETES
    model, random = regressor(n_cv=3).fit(X, y), np.random.RandomState(0)
    parts = folds(len(y), 3, None, None, random)
    seeds = random.randint(2**31, size=(3, 2))
    chosen = recipe("tabular", "regression").changed(hidden=(8, 8), epochs=12)
    for network, (kept, out), (seed, order) in zip(model.estimators_, parts, seeds, strict=True):
        center, scale = y[kept].mean(), y[kept].std()
        inputs, target = network.columns_.transform(X), ((y - center) / scale).astype(np.float32)[:, None]
        trainer = built(chosen, network.columns_.layout_, 1, inputs[kept], seed)
        stops = chosen.stopping(len(out))
        trainer.fit(inputs[kept], target[kept], epochs=12, batch_size=256, drop_last=True, seed=order,
                    validation_data=(inputs[out], target[out]), callbacks=stops, progress=False)  # fmt: skip
        assert network.best_epoch_ == stops.best_epoch
        for a, b in zip(network.module_.state_dict().values(), trainer.model.state_dict().values(), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        np.testing.assert_array_equal(network.predict(X), trainer.predict(inputs)[:, 0].astype(float) * scale + center)
    np.testing.assert_array_equal(model.predict(X), np.mean([one.predict(X) for one in model.estimators_], axis=0))


def test_probabilities_are_averaged():
    model = classifier(n_cv=3).fit(*WINE)
    mean = np.mean([network.predict_proba(WINE[0]) for network in model.estimators_], axis=0)
    np.testing.assert_array_equal(model.predict_proba(WINE[0]), mean)
    np.testing.assert_array_equal(model.predict(WINE[0]), mean.argmax(axis=1))
    assert not hasattr(model, "module_")
    alone = classifier().fit(*WINE)
    assert alone.estimators_ == [alone]


def test_refits_take_all_rows_for_the_epochs_that_folds_found_best():
    model = regressor(n_cv=3, n_refit=2).fit(*DIABETES)
    epochs = best_epoch([network.history_ for network in model.cv_estimators_], "val_loss")
    assert [len(network.history_["val_loss"]) for network in model.cv_estimators_] == [12] * 3
    assert [network.n_iter_ for network in model.estimators_] == [epochs] * 2
    assert not any("val_loss" in network.history_ for network in model.estimators_)
    assert model.estimators_[0].center_ == pytest.approx(DIABETES[1].mean(), rel=1e-12)
    one, other = model.estimators_
    assert (one.predict(DIABETES[0]) != other.predict(DIABETES[0])).any()
    again = regressor().set_params(**model.get_params()).set_params(n_cv=1, n_refit=0).fit(*DIABETES)
    assert not hasattr(again, "cv_estimators_")


def test_the_best_epoch_of_several_is_that_of_their_mean_and_the_last_of_equals():
    histories = [History(), History()]
    for history, seen in zip(histories, ([0.5, 0.9, 0.5, 0.7], [0.6, 0.1, 0.7, 0.5, 1.0]), strict=True):
        for value in seen:
            history.add({"val_accuracy": value})
    assert best_epoch(histories, "val_accuracy") == 4  # 0.55, 0.5, 0.6, 0.6; the fifth only one of them has
    nan = History()
    for value in [np.nan, 2.0, 1.0, np.nan]:
        nan.add({"val_loss": value})
    assert best_epoch([nan], "val_loss") == 3


def test_rows_that_were_held_out_by_the_caller_validate_every_network():
    X, y = WINE
    model = classifier(n_cv=2).fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    assert len(model.estimators_) == 2
    assert (weights(model)[1] != weights(model)[1 + len(weights(model)) // 2]).any()
    with pytest.raises(
        ValueError, match=r"TabularClassifier: n_refit=1 trains on all rows once more, and X_val is to be held out."
    ):
        classifier(n_refit=1).fit(X, y, X_val=X, y_val=y)
    for name, value in (("n_cv", 0), ("n_refit", -1), ("n_cv", 2.5)):
        with pytest.raises(ValueError, match=f"TabularClassifier: {name} must be a whole number"):
            classifier(**{name: value}).fit(X, y)


# ---------------------------------------------------------------- the same bits, one program


def test_bits_depend_on_the_random_state_alone():
    before, found = cr.get_num_threads(), []
    try:
        for threads in (1, 2):
            cr.set_num_threads(threads)
            found.append(classifier(n_cv=3, n_refit=2).fit(*WINE))
    finally:
        cr.set_num_threads(before)
    assert_equal(*found)
    assert_equal(found[0], pickle.loads(pickle.dumps(found[0])))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(found[0])).predict_proba(WINE[0]), found[0].predict_proba(WINE[0])
    )
    assert_equal(found[0], clone(found[0]).fit(*WINE))
    other = classifier(n_cv=3, n_refit=2, random_state=1).fit(*WINE)
    assert any((a != b).any() for a, b in zip(weights(found[0]), weights(other), strict=True))


def test_networks_of_a_bag_share_one_compiled_step(monkeypatch):
    from chainrule.training import lending

    copies = []
    monkeypatch.setattr(lending.copy, "deepcopy", lambda thing, keep=lending.copy.deepcopy: copies.append(thing) or keep(thing))  # fmt: skip
    before = cr.get_num_threads()
    cr.set_num_threads(1)
    try:
        model = regressor(n_cv=5).fit(*DIABETES)
    finally:
        cr.set_num_threads(before)
    assert len(model.estimators_) == 5
    assert len([thing for thing in copies if isinstance(thing, cr.Trainer)]) == 1


def test_a_bundle_holds_one_network():
    X, y = DIABETES
    model = regressor(n_cv=2, n_refit=1).fit(X, y)
    bundled = cr.bundle(model)
    np.testing.assert_allclose(np.ravel(bundled.predict(X)), model.predict(X), rtol=1e-6)
    with pytest.raises(SettingError, match=r"bundle: this TabularRegressor is the mean of 2 networks, and a bundle holds one. Bundle one of its estimators_, or fit with n_refit=1."):  # fmt: skip
        cr.bundle(regressor(n_cv=2).fit(X, y))


# ---------------------------------------------------------------- odd rows


def test_what_a_fold_lacks_other_rows_tell():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"kind": ["a", "b", "c"] * 20, "size": rng.standard_normal(60)})
    X.loc[0, "kind"], X.loc[1, "size"] = "once", np.nan
    y = np.array(["no", "yes"] * 29 + ["rare", "no"])
    model = classifier(n_cv=5, n_refit=1).fit(X, y)
    assert {network.columns_.layout_ for network in [*model.estimators_, *model.cv_estimators_]} == {model.estimators_[0].columns_.layout_}  # fmt: skip
    assert model.predict_proba(X).shape == (60, 3)
    assert [network.classes_.tolist() for network in model.cv_estimators_] == [["no", "rare", "yes"]] * 5
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-6)


def test_weights_go_to_each_network():
    X, y = WINE
    often = (np.arange(len(y)) % 3 > 0).astype(float)
    spoiled = np.where(often[:, None] > 0, X, 1e9)
    groups = np.arange(len(y)) // 4
    one = classifier(n_cv=3, n_refit=1).fit(spoiled, y, often, groups=groups)
    assert_equal(one, classifier(n_cv=3, n_refit=1).fit(X, y, often, groups=groups))
    assert all("val_loss" in network.history_ for network in one.cv_estimators_)


def test_callbacks_and_metrics_are_each_networks_own():
    class Counts(Callback):
        epochs = 0

        def on_epoch_end(self, trainer, epoch, measured):
            self.epochs += 1

    given = Counts()
    model = classifier(n_cv=2, callbacks=[given], metrics=["log_loss"]).fit(*WINE)
    assert [network.callbacks[0].epochs for network in model.estimators_] == [12, 12]
    assert given.epochs == 0
    assert "val_log_loss" in model.estimators_[0].history_


def test_an_error_in_one_network_comes_out():
    with pytest.raises(UnknownNameError, match="unknown metric 'accuracyy'"):
        classifier(n_cv=3, monitor="accuracyy").fit(*WINE)


CHECKS = {
    "check_estimators_pickle", "check_fit_idempotent", "check_dict_unchanged", "check_estimators_unfitted",
    "check_fit2d_1sample", "check_estimators_overwrite_params", "check_n_features_in",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_pass_with_several_networks():
    """Those that a bag could break; that weights count as repeated rows cannot hold where folds are drawn from the rows."""
    made = classifier(n_cv=2, n_refit=1, hidden=(4,), epochs=2, random_state=None)
    chosen = [check for _, check in estimator_checks_generator(made) if check.func.__name__ in CHECKS]
    assert len(chosen) >= len(CHECKS)
    for check in chosen:
        check(clone(made))
