"""The tabular estimators: columns of every kind in, what the recipe's trainer gives, and scikit-learn's checks."""

import datetime
import pickle
import re
import warnings
from decimal import Decimal

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import check_estimator

import chainrule as cr
from chainrule.errors import DtypeError, SettingError, UnknownNameError
from chainrule.interop.sklearn.folds import held_out
from chainrule.sklearn import TabularClassifier, TabularRegressor
from chainrule.training.columns import Columns
from chainrule.training.recipe import built, recipe

rng = np.random.default_rng(0)
WINE, CANCER, DIABETES = (load(return_X_y=True) for load in (load_wine, load_breast_cancer, load_diabetes))
SMALL = {"hidden": (16, 16), "random_state": 0}


def classifier(**settings):
    return TabularClassifier(**{**SMALL, **settings})


def regressor(**settings):
    return TabularRegressor(**{**SMALL, **settings})


def weights(model):
    return [value.numpy() for value in model.module_.state_dict().values()]


def assert_equal(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


# Without rows held out and of whole batches, so that a fit is the same of repeated rows and of weights.
WHOLE = {"validation_fraction": 0, "batch_size": 500, "epochs": 60, "dtype": "float64", "random_state": None}


@pytest.mark.parametrize(
    "estimator",
    [classifier(**WHOLE), regressor(**WHOLE)],
    ids=["classifier", "regressor"],
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_pass(estimator):
    found = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(found) > 50
    assert {check["check_name"] for check in found if check["status"] != "passed"} <= {"check_array_api_input"}


# ---------------------------------------------------------------- a fit


def test_a_fit_is_the_recipes_training():
    X, y = WINE
    model = classifier(epochs=20).fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    random = np.random.RandomState(0)
    columns = Columns().fit(X[::2])
    chosen = recipe("tabular", "classification").changed(hidden=(16, 16), epochs=20)
    trainer = built(chosen, columns.layout_, 3, columns.transform(X[::2]), random.randint(2**31))
    trainer.fit(
        columns.transform(X[::2]), y[::2], epochs=20, batch_size=89, drop_last=True, seed=random.randint(2**31),
        validation_data=(columns.transform(X[1::2]), y[1::2]), callbacks=chosen.stopping(89), progress=False,
    )  # fmt: skip
    for found, expected in zip(weights(model), trainer.model.state_dict().values(), strict=True):
        np.testing.assert_array_equal(found, expected.numpy())


def test_it_learns_without_any_setting():
    X, y = WINE
    assert TabularClassifier(random_state=0).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.95
    X, y = DIABETES
    assert TabularRegressor(random_state=0).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.35


def test_the_best_epoch_is_kept_and_of_equal_ones_the_last():
    model = classifier(early_end=False, epochs=60).fit(*WINE)
    seen = np.array(model.history_["val_accuracy"])
    assert model.n_iter_ == len(seen) == 60
    assert model.best_epoch_ == 1 + np.flatnonzero(seen == seen.max())[-1]


def test_it_ends_with_a_wave_that_brought_nothing_better():
    model, whole = classifier().fit(*WINE), classifier(early_end=False).fit(*WINE)
    assert model.n_iter_ in (52, 120)
    assert whole.n_iter_ == 256
    seen = np.array(model.history_["val_accuracy"])
    start = {52: 18, 120: 52}[model.n_iter_]
    assert max(seen[start:]) < max(seen[:start]) + 1.5 / 35  # of 35 rows held out, at most one more is right
    assert model.history_["loss"] == whole.history_["loss"][: model.n_iter_]


def test_one_random_state_gives_one_result():
    assert_equal(classifier(epochs=5).fit(*WINE), classifier(epochs=5).fit(*WINE))
    other = classifier(epochs=5, random_state=1).fit(*WINE)
    assert any((a != b).any() for a, b in zip(weights(classifier(epochs=5).fit(*WINE)), weights(other), strict=True))


def test_every_class_is_held_out_by_its_share():
    y = np.repeat([0, 1], [90, 10])
    _, out = held_out(100, 0.2, y, None, np.random.RandomState(0))
    assert np.bincount(y[out]).tolist() == [18, 2]


def test_the_log_loss_preset_may_be_sure():
    """Smoothed targets keep probabilities of two classes around 0.95, also where there is no doubt."""
    X = rng.standard_normal((600, 2))
    y = (X[:, 0] > 0).astype(int)
    smooth, sure = (
        classifier(preset=preset).fit(X, y).predict_proba(X).max(axis=1).mean()
        for preset in ("tabular", "tabular_log_loss")
    )
    assert smooth < 0.97 < sure


def test_what_the_best_epoch_is_best_at_can_be_chosen():
    model = classifier(monitor="balanced_accuracy", epochs=30, early_end=False).fit(*WINE)
    seen = model.history_["val_balanced_accuracy"]
    assert seen[model.best_epoch_ - 1] == max(seen)
    model = regressor(monitor="mae", epochs=30, early_end=False).fit(*DIABETES)
    assert model.history_["val_mae"][model.best_epoch_ - 1] == min(model.history_["val_mae"])


# ---------------------------------------------------------------- few rows, odd rows


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 10])
def test_few_rows(rows):
    X, y = rng.standard_normal((rows, 3)), np.arange(rows) % 2
    model = classifier(epochs=16).fit(X, y)
    assert model.predict_proba(X).shape == (rows, 2)
    assert ("val_accuracy" in model.history_) == (rows >= 5)
    assert np.isfinite(regressor(epochs=16).fit(X, X[:, 0]).predict(X)).all()


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"needs rows of at least 2 classes, but y contains only one class: 'a'"):
        classifier().fit(WINE[0][:5], ["a"] * 5)


def test_a_class_that_only_one_row_has():
    y = np.array(["common"] * 59 + ["rare"])
    model = classifier(epochs=10).fit(rng.standard_normal((60, 2)), y)
    assert list(model.classes_) == ["common", "rare"]
    assert model.predict_proba(np.zeros((1, 2))).shape == (1, 2)


def test_a_constant_target_is_predicted():
    model = regressor(epochs=10).fit(rng.standard_normal((30, 2)), np.full(30, 7.5))
    np.testing.assert_array_equal(model.predict(np.zeros((2, 2))), [7.5, 7.5])


def test_several_targets():
    X = rng.standard_normal((200, 3))
    y = np.stack([X[:, 0] * 100 + 1000, X[:, 1] * 1e-3], axis=1)
    model = regressor().fit(X, y)
    assert model.predict(X).shape == (200, 2)
    assert model.score(X, y) > 0.9


def test_constant_columns_change_nothing():
    X, y = WINE
    more = np.concatenate([X, np.full((len(X), 1), 3.0)], axis=1)
    model = classifier(epochs=10).fit(more, y)
    moved = more.copy()
    moved[:, -1] = 1e9
    np.testing.assert_array_equal(model.predict_proba(more), model.predict_proba(moved))


def test_columns_of_any_size():
    X, y = WINE
    sizes = 10.0 ** rng.integers(-200, 200, X.shape[1])
    model = classifier(epochs=60).fit(X * sizes, y)
    assert model.score(X * sizes, y) > 0.95


def test_missing_numbers_are_told():
    X, y = rng.standard_normal((300, 2)), rng.integers(0, 2, 300)
    X[y == 1, 1] = np.nan  # that it is missing gives the class away
    model = classifier(epochs=60).fit(X, y)
    assert model.score(X, y) == 1
    assert model.module_[0].features == 3
    assert np.isfinite(model.predict_proba(np.full((2, 2), np.nan))).all()


def test_a_column_that_is_missing_in_all_rows():
    X, y = WINE
    X = np.concatenate([X, np.full((len(X), 1), np.nan)], axis=1)
    assert classifier(epochs=60).fit(X, y).score(X, y) > 0.95


def test_what_is_masked_out_is_missing():
    X, y = WINE
    masked = np.ma.masked_greater(X, 100)
    assert 0 < masked.mask.sum() < masked.size
    expected = classifier(epochs=2).fit(masked.filled(np.nan), y)
    found = classifier(epochs=2).fit(masked, y)
    assert_equal(found, expected)
    np.testing.assert_array_equal(found.predict_proba(masked), expected.predict_proba(masked.filled(np.nan)))
    with pytest.raises(ValueError, match="Input y contains NaN"):
        classifier(epochs=2).fit(X, np.ma.masked_equal(y, 2))


@pytest.mark.parametrize("power", [-450, 480, 900])
def test_targets_of_any_size(power):
    X, y = DIABETES
    small, found = (regressor(epochs=2).fit(X[:60], y[:60] * scale) for scale in (1.0, 2.0**power))
    np.testing.assert_array_equal(found.predict(X[:9]), small.predict(X[:9]) * 2.0**power)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_constant_rows_in_the_full_form(make):
    X, y = np.ones((60, 2)), np.arange(60) % 2
    for rows in (X, np.concatenate([X[:-1], [[5.0, 5.0]]])):
        model = make(preset="tabular_full", epochs=3).fit(rows, y)
        assert np.isfinite(getattr(model, "predict_proba", model.predict)(rows)).all()
    model = make(preset="tabular_full", epochs=3, categorical_features=[0, 1]).fit(X, y)
    assert np.isfinite(getattr(model, "predict_proba", model.predict)(X)).all()


@pytest.mark.parametrize("dtype", ["bfloat16", cr.bfloat16, "int64"])
def test_a_dtype_that_nothing_is_computed_in_is_refused(dtype):
    with pytest.raises(DtypeError, match="TabularClassifier: dtype must be float32 or float64, got (bfloat16|int64)"):
        TabularClassifier(dtype=dtype).fit(*load_wine(return_X_y=True))


@pytest.mark.parametrize("given", [{"X_val": WINE[0]}, {"y_val": WINE[1]}])
def test_rows_to_validate_by_have_targets(given):
    text = "TabularClassifier: X_val and y_val go together. Pass both, or neither to hold out a share of X."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        classifier(epochs=1).fit(*WINE, **given)


@pytest.mark.parametrize("dtype", [object, str])
def test_texts_in_an_array_say_how_columns_become_categories(dtype):
    text = (
        "TabularClassifier: X holds texts that are no numbers, such as 'b' in column 1. Say which columns are categories, "
        "categorical_features=[1], or give a data frame, which says it by its dtypes (in a pipeline: "
        "ColumnTransformer(...).set_output(transform='pandas'))."
    )
    X = np.array([[1.0, "b"], [2.0, "c"]] * 10, dtype)
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        classifier(epochs=1).fit(X, [0, 1] * 10)
    model = classifier(epochs=1, categorical_features=[1]).fit(X, [0, 1] * 10)
    assert model.columns_.parts_[1].levels == ("b", "c")
    numbers = np.array([["1.5"], ["2"]] * 10, dtype)
    assert classifier(epochs=1).fit(numbers, [0, 1] * 10).columns_.layout_.numbers == 1


def test_infinite_values_are_refused():
    X = WINE[0].copy()
    X[3, 2] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        classifier().fit(X, WINE[1])


# ---------------------------------------------------------------- weights


def test_rows_that_weigh_nothing_are_not_there():
    X, y = WINE
    often = (np.arange(len(y)) % 3 > 0).astype(float)
    spoiled = np.where(often[:, None] > 0, X, 1e9)
    assert_equal(classifier(epochs=5).fit(spoiled, y, often), classifier(epochs=5).fit(X, y, often))


def test_weights_of_classes_find_the_rare_one():
    X = rng.standard_normal((1000, 2))
    y = (X[:, 0] + 0.7 * rng.standard_normal(1000) > 2.0).astype(int)
    plain, balanced = (classifier(class_weight=w, epochs=60).fit(X, y) for w in (None, "balanced"))
    assert (balanced.predict(X)[y == 1] == 1).mean() > (plain.predict(X)[y == 1] == 1).mean()
    given = {label: 1000 / (2 * (y == label).sum()) for label in (0, 1)}
    assert_equal(classifier(class_weight=given, epochs=5).fit(X, y), classifier(class_weight="balanced", epochs=5).fit(X, y))  # fmt: skip


# ---------------------------------------------------------------- data frames


def frame(module, rows=200):
    colours = np.array(["red", "green", "blue"], object)[np.arange(rows) % 3]
    colours[::17] = None
    size = np.random.default_rng(1).standard_normal(rows)
    size[::13] = np.nan
    yes = (np.arange(rows) % 2).astype(bool)
    return module.DataFrame({"colour": colours, "size": size, "yes": yes})


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_are_taken_column_by_column(library):
    module = pytest.importorskip(library)
    X = frame(module)
    y = np.array(["no" if colour == "red" else "yes" for colour in X["colour"]])
    model = classifier().fit(X, y)
    assert model.score(X, y) > 0.9
    assert list(model.feature_names_in_) == ["colour", "size", "yes"]
    assert model.columns_.parts_[0].levels == ("blue", "green", "red")
    unseen = module.DataFrame({"colour": ["violet", None], "size": [0.0, 1e300], "yes": [True, False]})
    assert np.isfinite(model.predict_proba(unseen)).all()
    unknown = "no value of the column 'colour' was there in the fit, which had 'blue', 'green', 'red', got "
    for values, shown in ((["violet", "pink"], "'violet'"), ([3, 3], "3")):
        strange = module.DataFrame({"colour": values, "size": [0.0, 1.0], "yes": [True, False]})
        for predict in (model.predict, model.predict_proba):
            with pytest.warns(UserWarning, match=f"^TabularClassifier: {unknown}{shown}. All its values are taken as"):
                predict(strange)


def test_moments_are_numbers():
    pandas = pytest.importorskip("pandas")
    days = pandas.Series(pandas.date_range("2024-01-01", periods=300)).sample(frac=1, random_state=0)
    y = (days > "2024-06-01").to_numpy()
    frames = {
        "pandas": pandas.DataFrame({"day": days}),
        "zone": pandas.DataFrame({"day": days.dt.tz_localize("Europe/Berlin")}),
        "dates": pandas.DataFrame({"day": days.dt.date.astype(object)}),
    }
    for X in frames.values():
        X.iloc[::40] = None
        model = classifier(epochs=60).fit(X, y)
        assert model.columns_.layout_.numbers == 1
        assert model.score(X, y) > 0.95
    known = Columns().fit(frames["zone"])._plain(frames["zone"].iloc[[1]])[0, 0]
    assert known == pytest.approx(days.iloc[1].timestamp() / 86400, abs=0.1)


def test_moments_of_polars_are_numbers():
    polars = pytest.importorskip("polars")
    X = polars.DataFrame({"day": np.arange("2024-01-01", "2024-03-31", dtype="datetime64[D]"), "n": [None, "1"] * 45})
    with pytest.raises(ValueError, match="the column 'n' holds numbers as texts"):
        classifier().fit(polars.DataFrame({"n": [str(i) for i in range(90)]}), [0, 1] * 45)
    assert Columns().fit(X).layout_.numbers == 1


def test_numbers_and_dates_as_texts_are_refused_not_taken_for_names():
    pandas = pytest.importorskip("pandas")
    y = [0, 1] * 20
    texts = pandas.DataFrame({"size": [f"{i}.5" for i in range(40)]})
    with pytest.raises(
        ValueError, match=r"the column 'size' holds numbers as texts, such as '.*'. Convert it \(pandas.to_numeric\)"
    ):
        classifier().fit(texts, y)
    dates = pandas.DataFrame({"day": pandas.date_range("2024-01-01", periods=40).strftime("%Y-%m-%d")})
    with pytest.raises(ValueError, match=r"the column 'day' holds dates as texts, such as '2024-"):
        classifier().fit(dates, y)
    assert (
        classifier(epochs=3).fit(texts.astype("category"), y).columns_.layout_.plain == 32
    )  # said to be names; of the rows to train on
    assert classifier(epochs=3, categorical_features=["size"]).fit(texts, y).columns_.layout_.plain == 32


def test_objects_that_are_numbers_are_numbers():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"n": np.array([1, 2.5, None, 4] * 10, object)})
    assert classifier(epochs=3).fit(X, [0, 1] * 20).columns_.layout_.numbers == 1


def test_decimals_periods_and_times_of_day_are_numbers():
    pandas = pytest.importorskip("pandas")
    months = pandas.Series(pandas.period_range("1970-01", periods=3, freq="M"))
    X = pandas.DataFrame(
        {
            "price": [Decimal("1.5"), None, Decimal(4)], "month": months.where([True, False, True]),
            "time": [datetime.time(6), None, datetime.time(12, 0, 43, 200_000)],
        }
    )  # fmt: skip
    columns = Columns().fit(X)
    assert columns.layout_.numbers == 3
    assert columns._plain(X)[::2, :3].tolist() == [[1.5, 0, 0.25], [4, 59, 0.5005]]
    polars = pytest.importorskip("polars")
    times = polars.DataFrame({"time": X["time"].tolist()})
    assert Columns().fit(times)._plain(times)[::2, 0].tolist() == [0.25, 0.5005]


def test_columns_say_what_became_of_each():
    pandas = pytest.importorskip("pandas")
    said = repr(Columns(one_hot=2).fit(frame(pandas)))
    assert said.splitlines() == [
        "<Columns: 4 inputs", "  'colour': 3 levels, a learned vector each", "  'size': a number, and whether it is missing",
        "  'yes': a number>",
    ]  # fmt: skip
    assert repr(Columns()) == "<Columns, not fitted, categorical='from_dtype'>"


def test_labels_and_values_that_cannot_be_are_named():
    pandas = pytest.importorskip("pandas")
    X = rng.standard_normal((4, 2))
    with pytest.raises(ValueError, match=r"Input y contains NaN: the label of row 2 is missing."):
        classifier().fit(X, np.array(["a", "b", None, "a"], object))
    with pytest.raises(ValueError, match=r"labels must be of one type, got int, str. Make all of them texts."):
        classifier().fit(X, np.array(["a", 1, "a", 1], object))
    with pytest.raises(
        ValueError, match=r"^the column 'list' holds values such as \[1, 2\], which are neither numbers nor levels"
    ):
        classifier().fit(pandas.DataFrame({"list": [[1, 2]] * 4}), [0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"^the column 'z' holds values such as 1j, which are neither numbers nor"):
        classifier().fit(pandas.DataFrame({"z": [1j] * 4}), [0, 1, 0, 1])


def test_types_of_pandas_own_are_read():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(
        {
            "whole": pandas.array([1, None, 3, 4] * 10, dtype="Int64"),
            "kind": pandas.Categorical(["a", "b", None, "b"] * 10),
            "text": pandas.array(["x", "y", "x", None] * 10, dtype="string"),
        }
    )
    model = classifier(epochs=5).fit(X, [0, 1, 0, 1] * 10)
    assert model.module_[0].features == 2 + 1 + 1
    assert model.predict(X).shape == (40,)


def test_levels_are_columns_and_two_levels_share_one():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"three": list("abcabc"), "two": list("xyxyxy"), "one": list("zzzzzz")})
    columns = Columns().fit(X)
    plain = columns._plain(
        pandas.DataFrame({"three": ["b", "d", None], "two": ["x", "y", "w"], "one": ["z", None, "z"]})
    )
    assert plain.tolist() == [[0, 1, 0, 1, 1], [0, 0, 0, -1, 0], [0, 0, 0, 0, 1]]


def test_columns_of_an_array_may_be_categories():
    X = np.array([[0, 5.0], [1, 6.0], [2, 7.0], [np.nan, 8.0]] * 10)
    for given in ([0], [True, False]):
        assert classifier(categorical_features=given, epochs=5).fit(X, [0, 1, 0, 1] * 10).module_[0].features == 4
    texts = np.array([["a", 5.0], ["b", 6.0]] * 10, object)
    assert classifier(categorical_features=[0], epochs=40).fit(texts, [0, 1] * 10).score(texts, [0, 1] * 10) == 1


@pytest.mark.parametrize(
    ("given", "text"),
    [("all", "categorical_features must be 'from_dtype', None or a list, got 'all'."),
     ([13], "categorical_features must be numbers of columns below 13, got 13."),
     ([True], "categorical_features, as a mask, must have 13 entries, got (1,)."),
     (["colour"], "categorical_features names 'colour', which is no column of X")],
)  # fmt: skip
def test_categories_that_cannot_be_are_refused(given, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        classifier(categorical_features=given).fit(*WINE)


def test_texts_that_were_said_to_be_numbers_are_named():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="the column 'size' has values that are no numbers"):
        classifier(categorical_features=None).fit(pandas.DataFrame({"size": ["a", "b"] * 5}), [0, 1] * 5)
    with pytest.raises(ValueError, match="infinity: the column 'size'"):
        classifier().fit(pandas.DataFrame({"size": [1.0, np.inf] * 5}), [0, 1] * 5)


def test_categories_of_many_levels_become_vectors_in_the_full_form():
    pandas = pytest.importorskip("pandas")
    town = np.array([f"town {i}" for i in range(20)], object)[np.arange(400) % 20]
    size = np.random.default_rng(2).standard_normal(400)
    X = pandas.DataFrame({"town": town, "size": size, "kind": list("abcd") * 100})
    y = np.where(np.arange(400) % 20 < 7, "near", "far")
    X.loc[::50, "town"] = None
    model = classifier(preset="tabular_full", hidden=(64, 64), early_end=False).fit(X, y)
    assert model.columns_.layout_.sizes == (21,)
    assert model.score(X, y) > 0.95
    coded = model.columns_.transform(X)[:, -1]
    assert set(coded[::50]) == {0.0}
    assert set(coded) == set(range(21))
    new = pandas.DataFrame({"town": ["elsewhere", None], "size": [0.0, np.nan], "kind": ["a", "z"]})
    assert np.isfinite(model.predict_proba(new)).all()


def test_the_full_form_stays_within_the_range_of_the_targets():
    X = np.random.default_rng(1).standard_normal((200, 1))  # the same whatever other tests have drawn
    model = regressor(preset="tabular_full", epochs=60).fit(X, X[:, 0])
    far = model.predict(np.array([[-50.0], [0.0], [50.0]]))
    assert X.min() <= far.min() <= far.max() <= X.max()
    assert abs(far[1]) < 0.2


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [({"preset": "tabluar"}, UnknownNameError, "unknown preset 'tabluar'"),
     ({"epochs": 0}, SettingError, "preset: epochs must be a whole number, 1 or more, got 0."),
     ({"hidden": (0,)}, SettingError, "preset: hidden must be a whole number, 1 or more, got 0."),
     ({"validation_fraction": 1.0}, ValueError, "validation_fraction must be 0 or more and below 1, got 1.0."),
     ({"monitor": "val_acuracy"}, UnknownNameError, "acuracy")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, error, text):
    with pytest.raises(error, match=re.escape(text)):
        classifier(**settings).fit(*WINE)


def test_one_number_is_one_hidden_layer():
    assert classifier(hidden=8)._recipe() == classifier(hidden=(8,))._recipe()


def test_held_out_rows_must_have_known_labels():
    with pytest.raises(ValueError, match=r"y_val has labels that are not in y: \[9\]"):
        classifier().fit(*WINE, X_val=WINE[0][:2], y_val=[0, 9])


# ---------------------------------------------------------------- as an estimator


def test_a_pickle_predicts_and_is_without_the_rows():
    model = classifier(epochs=10).fit(*WINE)
    kept = pickle.dumps(model)
    assert len(kept) < 200_000
    again = pickle.loads(kept)
    np.testing.assert_array_equal(again.predict_proba(WINE[0]), model.predict_proba(WINE[0]))
    assert again.history_["loss"] == model.history_["loss"]


def test_in_a_search_and_cross_validation():
    search = GridSearchCV(classifier(epochs=16), {"lr": [1e-9, None]}, cv=2).fit(*WINE)
    assert search.best_params_ == {"lr": None}
    assert clone(search.best_estimator_).get_params()["hidden"] == (16, 16)
    assert cross_val_score(regressor(epochs=60), *DIABETES, cv=3).mean() > 0.2


def test_nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier(epochs=3).fit(*WINE).predict(WINE[0])
