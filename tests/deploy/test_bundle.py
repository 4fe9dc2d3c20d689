"""Bundles: plain rows in, labels and probabilities out, as what they were made of gives; the same from a file."""

from __future__ import annotations

import datetime
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import DamagedFileError, DataError, SettingError
from chainrule.training import load_file, save_file

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 3)).astype("f")
NAMES = ["age", "height", "weight"]
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def rows(array: Any = X) -> list[dict[str, float]]:
    """The rows as dicts."""
    return [dict(zip(NAMES, row.tolist(), strict=True)) for row in array]


def trainer(outputs: int = 3, loss: Any = "cross_entropy", y: Any = LABELS, dtype: str = "float32") -> cr.Trainer:
    """Trained a little, with layers that are otherwise in training."""
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, outputs)).to(
        dtype
    )
    made = cr.Trainer(model, loss, optim.Adam(model.parameters(), lr=0.01))
    made.fit(X, y, epochs=3, seed=0, progress=False)
    return made


def again(bundle: Any, path: Path) -> Any:
    """The bundle from its file."""
    bundle.save(path)
    return cr.load_bundle(path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [["low", "middle", "high"], [10, 20, 30], [0.5, 1.5, 2.5], None])
def test_a_classifier_from_a_trainer(classes: Any, dtype: str, tmp_path: Path) -> None:
    made = trainer(dtype=dtype)
    bundle = cr.bundle(made, columns=NAMES, classes=classes)
    numbers, shares = made.predict_classes(X), made.predict_proba(X)
    expected = numbers if classes is None else np.array(classes)[numbers]
    for one in (bundle, again(bundle, tmp_path / "b")):
        for given in (
            X,
            rows(),
            {name: X[:, i] for i, name in enumerate(NAMES)},
            {n: X[:, i].tolist() for i, n in enumerate(NAMES)},
        ):
            assert (one.predict(given) == expected).all()
            np.testing.assert_allclose(one.predict_proba(given), shares, rtol=1e-6)
        row = rows()[7]
        assert one.predict(row) == expected[7]
        assert type(one.predict(row)) is (int if classes is None else type(classes[0]))
        found = one.predict_proba(row)
        assert list(found) == (classes or [0, 1, 2]) and abs(sum(found.values()) - 1) < 1e-6
        assert max(found, key=found.get) == one.predict(row)


def test_the_order_of_columns_and_more_of_them_are_no_matter() -> None:
    bundle = cr.bundle(trainer(), columns=NAMES)
    shuffled = [{"name": "Ada", **dict(reversed(list(row.items())))} for row in rows()]
    assert (bundle.predict(shuffled) == bundle.predict(X)).all()
    assert bundle.differences(shuffled) == ["not used, as training had none of that name: 'name'"]
    assert bundle.differences(rows()) == [] == bundle.differences(X)


def test_pandas_and_polars() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    bundle = cr.bundle(trainer(), columns=NAMES)
    columns = {name: X[:, i] for i, name in enumerate(NAMES)}
    for table in (pandas.DataFrame(columns)[NAMES[::-1]], polars.DataFrame(columns).reverse().reverse()):
        assert (bundle.predict(table) == bundle.predict(X)).all()
    with pytest.raises(DataError, match=r"the column 'weight' is missing\. Rows need 'age', 'height', 'weight'"):
        bundle.predict(pandas.DataFrame(columns).drop(columns="weight"))
    with pytest.raises(
        DataError,
        match=r"the column 'age' must be a number, got 'object of shape|the column 'age' must be a number, got",
    ):
        bundle.predict(pandas.DataFrame({**columns, "age": ["x"] * len(X)}))


@pytest.mark.parametrize(("outputs", "loss"), [(1, "mse"), (2, "huber")])
def test_a_regressor(outputs: int, loss: str, tmp_path: Path) -> None:
    y = X[:, :outputs] * 3 + 1
    made = trainer(outputs, loss, y)
    bundle = again(cr.bundle(made, columns=NAMES), tmp_path / "b")
    expected = made.predict(X)
    assert bundle.predict(X).shape == ((200,) if outputs == 1 else (200, 2))
    np.testing.assert_allclose(bundle.predict(rows()).reshape(200, outputs), expected, rtol=1e-6)
    one = bundle.predict(rows()[0])
    assert type(one) is float if outputs == 1 else one.shape == (2,)
    with pytest.raises(SettingError, match="bundle.predict_proba: the outputs are values, which have no probabilities"):
        bundle.predict_proba(X)


def test_yes_or_no_and_several_of_them(tmp_path: Path) -> None:
    y = (X[:, :1] > 0).astype("f")
    made = trainer(1, "binary_cross_entropy_with_logits", y)
    bundle = again(cr.bundle(made, columns=NAMES, classes=[False, True]), tmp_path / "b")
    assert (bundle.predict(X) == made.predict_classes(X).astype(bool)).all()
    np.testing.assert_allclose(bundle.predict_proba(X)[:, 1], made.predict_proba(X)[:, 0], rtol=1e-6)
    assert list(bundle.predict_proba(rows()[0])) == [False, True]
    z = made.predict(X * 100)[:, 0].astype(np.float64)
    assert z.max() > 25  # where yes is 1 in float32
    np.testing.assert_allclose(bundle.predict_proba(X * 100)[:, 0], 1 / (1 + np.exp(z)), rtol=1e-5, atol=1e-44)
    several = trainer(2, "binary_cross_entropy_with_logits", (X[:, :2] > 0).astype("f"))
    bundle = again(cr.bundle(several), tmp_path / "b")
    assert (bundle.predict(X) == several.predict_classes(X)).all() and bundle.predict_proba(X).shape == (200, 2)


def test_it_follows_the_training_of_its_model_and_a_file_does_not(tmp_path: Path) -> None:
    made = trainer()
    bundle = cr.bundle(made)
    kept = again(bundle, tmp_path / "b")
    before = bundle.predict_proba(X)
    made.fit(X, LABELS, epochs=5, seed=0, progress=False)
    assert np.abs(bundle.predict_proba(X) - before).max() > 0.01
    np.testing.assert_array_equal(kept.predict_proba(X), before)
    assert made.model.training


def test_a_model_of_ones_own_class(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            return self.line(x)

    made = cr.Trainer(Net(), F.cross_entropy, "adam")
    cr.bundle(made, columns=NAMES).save(tmp_path / "b")
    with pytest.raises(
        SettingError, match=r"load_bundle: the Net in .* Build the model and pass it: cr.load_bundle\(path, model\)"
    ):
        cr.load_bundle(tmp_path / "b")
    found = cr.load_bundle(tmp_path / "b", Net())
    assert (found.predict(rows()) == made.predict_classes(X)).all()


def test_a_bundle_is_a_model_file_too(tmp_path: Path) -> None:
    made = trainer()
    cr.bundle(made).save(tmp_path / "b")
    model = cr.load_model(tmp_path / "b")
    assert (model.eval()(cr.tensor(X)).detach().numpy().argmax(1) == made.predict_classes(X)).all()
    cr.save_model(model, tmp_path / "m")
    with pytest.raises(DamagedFileError, match="this file has a model alone, which cr.load_model reads"):
        cr.load_bundle(tmp_path / "m")


def test_threads_predict_with_one_bundle(tmp_path: Path) -> None:
    """From its first call on, when programs are still traced."""
    made = trainer()
    cr.bundle(made, columns=NAMES).save(tmp_path / "b")
    bundle, expected = cr.load_bundle(tmp_path / "b"), made.predict_proba(X)
    assert not any(module.training for module in bundle.model.modules())
    with ThreadPoolExecutor(8) as pool:
        sizes = [1 + i % 7 for i in range(200)]
        found = list(pool.map(lambda n: bundle.predict_proba(X[:n]), sizes))
    for size, one in zip(sizes, found, strict=True):
        np.testing.assert_allclose(one, expected[:size], rtol=1e-5)


# -- estimators --------------------------------------------------------------------------------------------


def our_sklearn() -> Any:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return pytest.importorskip("chainrule.sklearn")


def estimators() -> list[Any]:
    sklearn = our_sklearn()
    kwargs = {"hidden_layer_sizes": (8, 5), "max_iter": 5, "random_state": 0}
    return [
        sklearn.MLPClassifier(activation="gelu", normalization="batch", dropout=0.1, **kwargs),
        sklearn.MLPClassifier(activation="logistic", normalization="layer", **kwargs),
        sklearn.MLPClassifier(activation="identity", dtype="float32", **kwargs),
        sklearn.MLPRegressor(activation="leaky_relu", **kwargs), sklearn.MLPRegressor(loss="poisson", activation="softsign", **kwargs),
        sklearn.NetworkClassifier(lambda n, k: nn.Sequential(nn.Linear(n, 4), nn.Tanh(), nn.Linear(4, k)), epochs=2, random_state=0),
        sklearn.NetworkRegressor(lambda n, k: nn.Linear(n, k), epochs=2, random_state=0),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("binary", [False, True])
def test_estimators_and_pipelines_of_scalers(number: int, binary: bool, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

    table = pandas.DataFrame({name: X[:, i] * 10 + i for i, name in enumerate(NAMES)})
    estimator = estimators()[number]
    y: Any = np.exp(X[:, 0])
    if hasattr(estimator, "predict_proba"):
        y = np.array(["low", "middle", "high"])[np.minimum(LABELS, 1 if binary else 2)]
    for made in (
        estimator,
        make_pipeline(
            StandardScaler(), MinMaxScaler((-1, 2)), RobustScaler(), "passthrough", MaxAbsScaler(), estimator
        ),
    ):
        made.fit(table, y)
        bundle = again(cr.bundle(made), tmp_path / "b")
        given = [dict(zip(NAMES, row, strict=True)) for row in table.to_numpy().tolist()]
        for one in (given, table, table.to_numpy()):
            found = bundle.predict(one)
            if y.dtype.kind == "f":
                np.testing.assert_allclose(found, made.predict(table), rtol=1e-4, atol=1e-5)
            else:
                assert (found == made.predict(table)).all()
                np.testing.assert_allclose(bundle.predict_proba(one), made.predict_proba(table), rtol=1e-4, atol=1e-6)


def people(count: int = 600) -> dict[str, list[Any]]:
    """Columns of all kinds, with values missing in each."""
    own = np.random.default_rng(3)
    ages = own.uniform(18, 80, count)
    when = [datetime.date(2030, 1, 1) + datetime.timedelta(int(d)) for d in own.integers(0, 900, count)]
    cities = own.choice(["Bern", "Basel", "Genf", "Chur"], count)
    return {
        "age": [None if i % 9 == 0 else float(a) for i, a in enumerate(ages)],
        "city": [None if i % 11 == 0 else str(c) for i, c in enumerate(cities)],
        "since": [None if i % 13 == 0 else day for i, day in enumerate(when)],
        "member": own.choice([True, False], count).tolist(), "visits": own.integers(0, 9, count).tolist(),
        "code": [f"c{i % 12}" for i in range(count)],
    }  # fmt: skip


def frames(columns: dict[str, list[Any]], library: str) -> Any:
    if library == "polars":
        return pytest.importorskip("polars", reason="polars is not installed").DataFrame(columns)
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    return pandas.DataFrame({**columns, "since": pandas.to_datetime(columns["since"])})


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("preset", ["tabular", "tabular_full"])
@pytest.mark.parametrize("kind", ["classes", "values", "several values"])
def test_tabular_estimators_predict_the_same_bits(library: str, preset: str, kind: str, tmp_path: Path) -> None:
    sklearn = our_sklearn()
    columns = people()
    y: Any = np.array([a or 50.0 for a in columns["age"]])
    settings = {"preset": preset, "hidden": (8, 8), "epochs": 2, "random_state": 0}
    made = sklearn.TabularClassifier(**settings) if kind == "classes" else sklearn.TabularRegressor(**settings)
    y = np.where(y < 40, "young", "old") if kind == "classes" else np.stack([y, -y], 1) if "several" in kind else y
    frame = frames(columns, library)
    made.fit(frame, y)
    bundle = again(cr.bundle(made), tmp_path / "b")
    expected = made.predict(frame)
    given = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for rows in (given, columns, frame, [list(row.values()) for row in given], {**columns, "more": columns["age"]}):
        found = bundle.predict(rows)
        assert found.dtype.kind == "O" if kind == "classes" else found.dtype == np.float64
        assert (found == expected).all()
    if kind == "classes":
        assert bundle.predict_proba(given).tobytes() == made.predict_proba(frame).tobytes()
        assert list(bundle.predict_proba(given[0])) == ["old", "young"]
    else:
        assert bundle.predict(given).tobytes() == expected.tobytes()
    assert np.all(bundle.predict(given[5]) == made.predict(frames({k: v[5:6] for k, v in columns.items()}, library))[0])
    unknown = {**given[1], "city": "Lugano", "age": None, "more": 1}
    assert np.all(bundle.predict(unknown) == made.predict(frames({k: [unknown[k]] for k in columns}, library))[0])
    assert bundle.differences(unknown) == [
        "not used, as training had none of that name: 'more'",
        "the column 'city': 1 rows have levels that training had not: 'Lugano'",
    ]


def test_a_moment_of_a_time_zone_is_that_of_utc() -> None:
    sklearn, columns = our_sklearn(), people()
    made = sklearn.TabularRegressor(hidden=(4,), epochs=1, random_state=0)
    bundle = cr.bundle(made.fit(frames(columns, "pandas"), columns["visits"]))
    noon = datetime.datetime(2031, 5, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    row = {"age": 31.0, "city": "Bern", "since": noon, "member": True, "visits": 3, "code": "c1"}
    assert bundle.predict(row) == bundle.predict({**row, "since": datetime.datetime(2031, 5, 1, 10)})


def test_a_tabular_estimator_of_an_array(tmp_path: Path) -> None:
    sklearn = our_sklearn()
    holes = X.copy()
    holes[::7, 1] = np.nan
    made = sklearn.TabularRegressor(hidden=(8,), epochs=2, random_state=0, dtype="float64").fit(holes, X[:, 0])
    bundle = again(cr.bundle(made), tmp_path / "b")
    for rows in (holes, holes.tolist(), holes.astype(object)):
        assert bundle.predict(rows).tobytes() == made.predict(holes).tobytes()
    with pytest.raises(
        DataError, match="knows no names of columns, as its estimator was fitted on an array, got rows with"
    ):
        bundle.predict({"a": 1.0, "b": 1.0, "c": 1.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("city"), "the column 'city' is missing. Rows need 'age', 'city', 'since', 'member', 'visits', 'code'; None"),
        (lambda row: row.update(age="old"), "the column 'age' has values that are no numbers"),
        (lambda row: row.update(age=float("inf")), "Input X contains infinity: the column 'age'. Leave those rows out"),
        (lambda row: row.update(city=["Bern"]), "a column must be a list of values, got 31.0. Pass all columns as lists."),
        (lambda row: row.update({name: [value] * (1 + (name == "age")) for name, value in row.items()}), "the columns must have one length, got [1, 2]"),
    ],
)  # fmt: skip
def test_rows_that_a_tabular_estimator_cannot_take(change: Any, message: str) -> None:
    sklearn = our_sklearn()
    columns = people()
    made = sklearn.TabularClassifier(hidden=(4,), epochs=1, random_state=0)
    bundle = cr.bundle(made.fit(frames(columns, "pandas"), columns["member"]))
    row = {"age": 31.0, "city": "Bern", "since": None, "member": True, "visits": 3, "code": "c1"}
    assert type(bundle.predict(row)) is bool
    change(row)
    with pytest.raises(DataError, match=re.escape(message)):
        bundle.predict(row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["parts"][1].update(levels=["a", "a"]), "parts\\[1\\]: levels must be levels, each once"),
        (lambda c: c["parts"][1].update(levels=["a", ["b"]]), "levels must be a list of texts, numbers and booleans"),
        (lambda c: c["parts"][0].update(median=float("nan")), "parts\\[0\\]: median must be a finite number"),
        (lambda c: c["parts"].pop(), "rows: names must be one for each column"),
        (lambda c: c["medians"].pop(), "columns: medians must be .* numbers"),
        (lambda c: c["factors"].append(1.0), "columns: factors must be .* numbers"),
        (lambda c: c.update(parts=[]), "parts must be a list of columns, one at least"),
        (lambda c: c.update(one_hot=-1), "one_hot must be a whole number from 0 on"),
    ],
)  # fmt: skip
def test_a_file_whose_columns_describe_none_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    sklearn = our_sklearn()
    columns = people()
    made = sklearn.TabularRegressor(preset="tabular_full", hidden=(4,), epochs=1, random_state=0)
    cr.bundle(made.fit(frames(columns, "pandas"), columns["visits"])).save(tmp_path / "b")
    tensors, meta = load_file(tmp_path / "b")
    save_file(tensors, tmp_path / "c", {**meta, "bundle": {**meta["bundle"], "range": [[2.0], [1.0]]}})
    with pytest.raises(DamagedFileError, match="range must be two lists of 1 numbers, the lower ones first"):
        cr.load_bundle(tmp_path / "c")
    change(meta["bundle"]["rows"]["columns"])
    save_file(tensors, tmp_path / "b", meta)
    with pytest.raises(DamagedFileError, match=message):
        cr.load_bundle(tmp_path / "b")


def test_levels_that_no_file_holds_and_scalers_in_front_are_named() -> None:
    sklearn = our_sklearn()
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = sklearn.TabularRegressor(hidden=(4,), epochs=1, random_state=0, categorical_features=[1])
    odd = np.array([[1.0, (1, 2)], [2.0, (3, 4)], [3.0, None]] * 10, object)
    with pytest.raises(
        SettingError, match=r"bundle: the column number 1 has the level \(1, 2\), and a file holds texts"
    ):
        cr.bundle(made.fit(odd, np.arange(30.0))).save("nowhere")
    pipe = make_pipeline(StandardScaler(), sklearn.TabularRegressor(hidden=(4,), epochs=1)).fit(X, X[:, 0])
    with pytest.raises(
        SettingError, match="the step StandardScaler stands in front of an estimator that scales its columns"
    ):
        cr.bundle(pipe)


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_steps_that_no_bundle_holds_are_named() -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    made = make_pipeline(PolynomialFeatures(), estimators()[0]).fit(X, LABELS)
    with pytest.raises(
        SettingError, match="bundle: the step PolynomialFeatures is no scaler that a bundle can hold. It can hold Stand"
    ):
        cr.bundle(made)
    with pytest.raises(SettingError, match="the step LogisticRegression is no estimator of chainrule.sklearn"):
        cr.bundle(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, LABELS))


# -- tables ------------------------------------------------------------------------------------------------


def shop(polars: Any) -> Any:
    """A table of all kinds of columns."""
    size = rng.uniform(10, 90, 300)
    return cr.data.Table(
        {
            "size": [None if i % 20 == 0 else round(v, 2) for i, v in enumerate(size)],
            "colour": rng.choice(["red", "green", "blue"], 300).tolist(),
            "day": [str(np.datetime64("2030-01-01") + int(d)) for d in rng.integers(0, 700, 300)],
            "open": rng.choice([True, False], 300).tolist(), "price": (size * 2 + rng.normal(size=300)).tolist(),
            "sold": np.where(size > 50, "yes", "no").tolist(),
        }
    )  # fmt: skip


@pytest.mark.parametrize("target", ["price", "sold"])
def test_a_trainer_on_a_table(target: str, tmp_path: Path) -> None:
    table = shop(pytest.importorskip("polars"))
    pipeline = cr.data.TablePipeline(target).fit(table.drop(["sold" if target == "price" else "price"]))
    encoded, y = pipeline.encoded(table), pipeline.target(table)
    model = nn.Sequential(nn.Linear(encoded.shape[1], 16), nn.ReLU(), nn.Linear(16, pipeline.n_outputs_))
    made = cr.Trainer(model, F.mse_loss if target == "price" else F.cross_entropy, "adam")
    made.fit(encoded, y, epochs=3, seed=0, progress=False)
    bundle = again(cr.bundle(made, pipeline=pipeline), tmp_path / "b")
    given = [{k: v for k, v in row.items() if k not in ("price", "sold")} for row in table.frame.to_dicts()]
    expected = pipeline.inverse(made.predict(encoded) if target == "price" else made.predict_classes(encoded))
    for one in (given, table, table.frame, table.frame.to_dict(as_series=False)):
        found = bundle.predict(one)
        assert found.shape == expected.shape and (found == expected).all()
    for i in (0, 1, 20, 77):  # one by one, a missing value among them
        one = bundle.predict(given[i])
        assert type(one) is (float if target == "price" else str)
        assert one == pytest.approx(expected[i], rel=1e-6) if target == "price" else one == expected[i]
    if target == "sold":
        assert list(bundle.predict_proba(given[0])) == ["no", "yes"]
    assert bundle.differences({**given[1], "colour": "violet", "new": 1}) == [
        "not used, as training had none of that name: 'new'",
        "colour: 1 rows have levels that training had not: 'violet'",
    ]
    with pytest.warns(UserWarning, match="the column 'day' is not there, so all values are taken as missing"):
        bundle.predict({k: v for k, v in given[1].items() if k != "day"})
    with pytest.raises(DataError, match="has none of the columns that the network was trained on"):
        bundle.predict({"other": 1})


def test_one_row_and_columns_are_told_apart() -> None:
    from chainrule.deploy.rows import is_one

    polars = pytest.importorskip("polars")
    for one in (
        {"a": 1, "b": "x"},
        {"a": np.str_("x"), "b": np.float32(1)},
        {"a": np.array(1.0)},
        {"a": None},
        {"a": np.datetime64(1, "D")},
    ):
        assert is_one(one)
    for several in (
        {"a": np.str_("x"), "b": [1]},
        {"a": (1,)},
        {"a": np.ones(1)},
        {"a": 1, "b": polars.Series([1])},
        [{"a": 1}],
        X,
    ):
        assert not is_one(several)


# -- what cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"age": 1.0, "height": 2.0}, "the column 'weight' is missing. Rows need 'age', 'height', 'weight'."),
        ({"age": 1.0, "height": "2.0", "weight": 3}, "the column 'height' must be a number, got '2.0'. Convert it."),
        ({"age": 1.0, "height": None, "weight": 3}, "the column 'height' must be a number, got None. Convert it."),
        ([{"age": 1, "height": 2, "weight": 3}, [1, 2, 3]], "all rows must be dicts, as the first is, got [1, 2, 3]. Pass them alike."),
        ([1.0, 2.0, 3.0], "rows must be an array of shape (N, 3), or have the columns 'age', 'height', 'weight', got shape (3,). One row"),
        ({"age": [1, 2], "height": [1], "weight": [1, 2]}, "the columns must have one length, got [1, 2]. Cut them alike."),
        ({"age": 1.0, "height": float("nan"), "weight": 3}, "NaN"),
        ([], "bundle.predict: rows must have at least one row"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be(given: Any, message: str) -> None:
    bundle = cr.bundle(trainer(), columns=NAMES)
    bundle.predict(rows())
    with pytest.raises(DataError, match=re.escape(message)):
        bundle.predict(given)


def test_a_bundle_without_names_takes_arrays() -> None:
    bundle = cr.bundle(trainer())
    assert bundle.predict(X).shape == (200,)
    with pytest.raises(DataError, match=r"this bundle knows no names of columns, got rows with names.*columns=\[...\]"):
        bundle.predict(rows())


def test_a_trainer_that_was_fitted_on_a_frame_knows_its_columns(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=NAMES)
    made = trainer()
    made.fit(frame, LABELS, epochs=1, progress=False)
    bundle = again(cr.bundle(made), tmp_path / "b")
    expected = made.predict_classes(X)
    assert (bundle.predict(frame[NAMES[::-1]]) == expected).all()
    assert bundle.predict(frame.iloc[7]) == expected[7] and list(bundle.predict_proba(frame.iloc[7])) == [0, 1, 2]
    assert bundle.differences(frame[["weight", "age"]]) == ["missing, and needed: 'height'"]
    assert bundle.differences({"age": 3.0, "size": 1}) == [
        "missing, and needed: 'height', 'weight'",
        "not used, as training had none of that name: 'size'",
    ]


def test_a_search_gives_the_best_that_it_has_found() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    sklearn = pytest.importorskip("chainrule.sklearn")
    from sklearn.model_selection import GridSearchCV

    small = sklearn.NetworkClassifier(nn.Linear(3, 3), epochs=2, random_state=0)
    search = GridSearchCV(small, {"lr": [0.01, 0.1]}, cv=2).fit(X, LABELS)
    assert (cr.bundle(search).predict(X) == search.predict(X)).all()


def test_what_cannot_be_bundled() -> None:
    made = trainer()
    with pytest.raises(SettingError, match=r"bundle: source must be a Trainer, .* got Linear"):
        cr.bundle(nn.Linear(2, 2))
    with pytest.raises(SettingError, match="columns must be names, each once"):
        cr.bundle(made, columns=["a", "a", "b"])
    with pytest.raises(
        SettingError, match=r"classes must be two labels or more, each once, of one type .* got \('a', 1\)"
    ):
        cr.bundle(made, classes=["a", 1])
    with pytest.raises(SettingError, match="the outputs are values and have no classes"):
        cr.bundle(trainer(1, "mse", X[:, :1]), classes=["a", "b"])
    own = cr.Trainer(nn.Linear(3, 3), lambda a, b: (a - b).abs().mean(), "adam")
    with pytest.raises(SettingError, match="bundle needs to know what the outputs mean"):
        cr.bundle(own)
    with pytest.raises(SettingError, match="pipeline, columns and classes are for a Trainer"):
        cr.bundle("runs/1", classes=["a", "b"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.update(meaning="odds"), "meaning must be one of logits"),
        (lambda b: b.update(classes=["a"]), "classes must be two labels or more"),
        (lambda b: b.update(classes=["a", 1]), "classes must be two labels or more"),
        (lambda b: b.update(center=[1.0]), "center must be as many numbers as scale has"),
        (lambda b: b["rows"].update(kind="pickle"), "kind must be 'columns', 'mixed' or 'table', got 'pickle'"),
        (lambda b: b["rows"].update(names=["a", "a"]), "names must be names, each once"),
        (lambda b: b["rows"].update(shift=[1, 2]), "shift must be as many numbers as scale has"),
        (lambda b: b.update(rows=3), "rows: it must be an object with named fields"),
    ],
)  # fmt: skip
def test_a_file_that_describes_no_bundle_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    cr.bundle(trainer(), columns=NAMES).save(tmp_path / "b")
    tensors, meta = load_file(tmp_path / "b")
    change(meta["bundle"])
    save_file(tensors, tmp_path / "b", meta)
    with pytest.raises(DamagedFileError, match=message):
        cr.load_bundle(tmp_path / "b")


def test_one_row_of_numbers_costs_little_more_than_the_network() -> None:
    """As a ratio in one run: the machine may be busy. (1.9 where this was written.)"""
    made, row = trainer(), rows()[0]
    bundle, array = cr.bundle(made, columns=NAMES), X[:1].copy()

    def seconds(call: Any) -> float:
        found = []
        for _ in range(7):
            began = time.process_time()
            for _ in range(300):
                call()
            found.append(time.process_time() - began)
        return min(found)

    made.predict(array), bundle.predict(row)
    assert seconds(lambda: bundle.predict(row)) < 4 * seconds(lambda: made.predict(array))


def test_a_trainer_that_knows_its_columns_hands_their_names_on(tmp_path: Path) -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frame = pd.DataFrame(X, columns=NAMES)
    for given in ((frame, LABELS), (frame.assign(y=LABELS), "y")):
        made = cr.Trainer(nn.Linear(3, 3), "cross_entropy", "adam")
        made.fit(*given, epochs=1, progress=False)
        bundle = again(cr.bundle(made), tmp_path / "b")
        expected = bundle.predict_proba(X)
        for other in (frame[NAMES[::-1]], frame.assign(more=1.0), pl.from_pandas(frame[NAMES[::-1]])):
            np.testing.assert_array_equal(bundle.predict_proba(other), expected)
        np.testing.assert_array_equal(bundle.predict_proba(pl.from_pandas(frame).lazy()), expected)
        assert list(bundle.predict_proba(rows()[0]).values()) == expected[0].tolist()
        with pytest.raises(
            SettingError,
            match=re.escape(
                "bundle: columns must be those that the trainer was fitted on, 'age', 'height', 'weight', in their order, got "
                "'weight', 'height', 'age'. Leave columns out: the trainer knows them."
            ),
        ):
            cr.bundle(made, columns=NAMES[::-1])
        cr.bundle(made, columns=NAMES)
        with pytest.raises(DataError, match="rows must have a name of its own for each column, .* got 'age' more than"):
            bundle.predict(frame[[*NAMES, "age"]])


def test_names_and_labels_that_do_not_fit_the_model() -> None:
    with pytest.raises(
        cr.errors.ShapeError, match=r"^bundle: of the columns 'a', 'b', a row of shape \(1, 2\) does not"
    ):
        cr.bundle(trainer(), columns=["a", "b"])
    said = "classes must be a label for each of the 3 classes that the model tells apart, got 2, ('no', 'yes')."
    with pytest.raises(SettingError, match=re.escape(said)):
        cr.bundle(trainer(), columns=NAMES, classes=["no", "yes"])
    bundle = cr.bundle(trainer(), classes=["no", "yes"])  # of arrays, whose width nobody says
    for call in (bundle.predict, bundle.predict_proba):
        with pytest.raises(SettingError, match=re.escape(said)):
            call(X)
    yes = cr.Trainer(nn.Linear(3, 1), "binary_cross_entropy_with_logits", "adam")
    assert cr.bundle(yes, columns=NAMES, classes=["no", "yes"]).predict(rows()[:1])[0] in ("no", "yes")
    with pytest.raises(SettingError, match="of the 2 classes that the model tells apart, got 3"):
        cr.bundle(yes, columns=NAMES, classes=["no", "yes", "perhaps"])
    with pytest.raises(DataError, match="must hold numbers that float64 holds, got an integer beyond 1.8e308"):
        cr.bundle(yes, columns=NAMES).predict({"age": 10**400, "height": 1.0, "weight": 1.0})


def test_one_row_alone_says_how_it_goes() -> None:
    trainer = cr.Trainer(nn.Linear(2, 2), "cross_entropy", "sgd", lr=0.1)
    bundle = cr.bundle(trainer, columns=["left", "right"])
    with pytest.raises(DataError) as told:
        bundle.predict([1.0, 2.0])
    assert str(told.value) == (
        "bundle.predict: rows must be an array of shape (N, 2), or have the columns 'left', 'right', got shape (2,). One row alone is "
        "[row]."
    )
