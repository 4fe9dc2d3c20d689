"""Bundles as ONNX files that take raw columns: onnxruntime's answers are our own, on missing values and unseen levels, too."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import SettingError

pytest.importorskip("onnx", reason="onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

DAY = datetime.date(1970, 1, 1)


def given(columns: dict[str, list[Any]], session: Any) -> dict[str, Any]:
    """Raw columns as the inputs of a graph: texts, or numbers, moments being days."""

    def of(entry: Any) -> Any:
        values = columns[entry.name]
        if "string" in entry.type:
            return np.array([["" if v is None else str(v)] for v in values], object)
        days = [(v - DAY).days if isinstance(v, datetime.date) else v for v in values]
        return np.array([[np.nan if v is None else float(v)] for v in days])

    return {entry.name: of(entry) for entry in session.get_inputs()}


def agrees(bundle: Any, columns: dict[str, list[Any]], path: Path) -> Any:
    """onnxruntime's answers are the bundle's; the session that gave them."""
    cr.onnx.export_bundle(bundle, path)
    session = runtime.InferenceSession(str(path))
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, given(columns, session)), strict=True))
    expected = bundle.predict(columns)
    if "values" in found:
        assert found["values"].shape == expected.shape
        unit = np.array(bundle.scale or 1.0)  # of the network's own float32 outputs
        assert (np.abs(found["values"] - expected) <= 1e-5 * (np.abs(expected) + unit)).all()
        return session
    np.testing.assert_array_equal(found["label"].astype(expected.dtype), expected)
    np.testing.assert_allclose(found["probabilities"], bundle.predict_proba(columns), rtol=1e-5, atol=1e-6)
    return session


def people(count: int, seed: int, new: bool = False) -> dict[str, list[Any]]:
    """Columns of all kinds, values missing in some; levels that training had not, if they are to be `new`."""
    own = np.random.default_rng(seed)
    cities = ["Bern", "Basel", "Genf", "Chur", "Zug"] + ["Lugano", "Ägeri"] * new
    return {
        "age": [None if i % 9 == 0 else float(a) for i, a in enumerate(own.uniform(18, 80, count))],
        "income": [float(v) for v in own.lognormal(10, 3, count)],
        "city": [None if i % 11 == 0 else str(c) for i, c in enumerate(own.choice(cities, count))],
        "day": [None if i % 13 == 0 else DAY + datetime.timedelta(21000 + int(d)) for i, d in enumerate(own.integers(0, 900, count))],
        "code": [f"c{i}" for i in own.integers(0, 12 + 5 * new, count)], "sex": own.choice(["f", "m"], count).tolist(),
        "visits": own.integers(0, 9, count).tolist(),
        "member": own.choice(["True", "FALSE", "1", "off"] if new else ["yes", "no"], count).tolist(),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*levels that training had not")
@pytest.mark.parametrize("scaling", ["robust", "robust_all", "robust_few", "standard", "none"])
@pytest.mark.parametrize("target", ["label", "price"])
def test_a_network_on_a_table(scaling: str, target: str, tmp_path: Path) -> None:
    pytest.importorskip("polars", reason="polars is not installed")
    columns, own = people(300, 0), np.random.default_rng(1)
    y = own.choice(["yes", "no", "so"], 300).tolist() if target == "label" else own.normal(1e4, 30, 300).tolist()
    table = cr.data.Table({**columns, target: y})
    pipeline = cr.data.TablePipeline(target, scaling=scaling, min_frequency=24, kinds={"visits": "categorical"}).fit(
        table
    )
    model = nn.Sequential(
        nn.Linear(len(pipeline.get_feature_names_out()), 8), nn.Tanh(), nn.Linear(8, pipeline.n_outputs_)
    )
    loss = "cross_entropy" if target == "label" else "mse"
    bundle = cr.bundle(cr.Trainer(model, loss, "adam"), pipeline=pipeline)
    session = agrees(bundle, columns, tmp_path / "m.onnx")
    agrees(bundle, people(200, 2, new=True), tmp_path / "m.onnx")
    agrees(bundle, {name: values[:1] for name, values in columns.items()}, tmp_path / "m.onnx")
    # the input is called as the column, and the output gives way
    assert [o.name for o in session.get_outputs()] == (["label", "probabilities"] if target == "label" else ["values"])
    words = {**people(4, 2), "city": ["NA", "?", "nan", ""]}
    agrees(bundle, words, tmp_path / "m.onnx")


@pytest.mark.parametrize("preset", ["tabular", "tabular_full"])
@pytest.mark.parametrize("kind", ["classes", "two classes", "values", "several values"])
def test_tabular_estimators(preset: str, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    sklearn = pytest.importorskip("chainrule.sklearn")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    columns, settings = people(300, 0), {"preset": preset, "hidden": (8, 8), "epochs": 3, "random_state": 0}
    frame = pandas.DataFrame({**columns, "day": pandas.to_datetime(columns["day"])})
    frame["visits"] = frame["visits"].astype("category")
    y: Any = np.array(columns["income"])
    if "classes" in kind:
        made = sklearn.TabularClassifier(**settings)
        y = np.where(y < 1e4, 3, 7) + 2 * (kind == "classes") * (y > 1e5)
    else:
        made = sklearn.TabularRegressor(**settings)
        y = np.stack([y, -np.sqrt(y)], 1) if "several" in kind else y
    bundle = cr.bundle(made.fit(frame, y))
    agrees(bundle, columns, tmp_path / "m.onnx")
    agrees(bundle, people(200, 2, new=True), tmp_path / "m.onnx")


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("number", range(4))
def test_scalers_and_other_estimators(number: int, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    sklearn = pytest.importorskip("chainrule.sklearn")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    X = np.random.default_rng(0).normal(size=(120, 3)) * [1, 1e4, 1e-4] + 5
    y = [np.where(X[:, 0] > 5, "a", "b"), X[:, 0] > 5, np.exp(X[:, 0] - 5), np.searchsorted([4.5, 5.5], X[:, 0])][
        number
    ]
    kwargs = {"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 0}
    made = [
        sklearn.MLPClassifier(**kwargs), sklearn.MLPClassifier(normalization="layer", **kwargs),
        sklearn.MLPRegressor(loss="poisson", **kwargs),
        sklearn.NetworkClassifier(lambda n, k: nn.Sequential(nn.Linear(n, 4), nn.Tanh(), nn.Linear(4, k)), epochs=2, random_state=0),
    ][number]  # fmt: skip
    frame = pandas.DataFrame(X, columns=list("abc"))
    for steps in ((), (StandardScaler(), MinMaxScaler((-1, 2)))):
        if number == 2 and not steps:
            continue  # such numbers are too large for the exponential
        pipe = make_pipeline(*steps, made).fit(frame, y)
        agrees(cr.bundle(pipe), {name: X[:, i].tolist() for i, name in enumerate("abc")}, tmp_path / "m.onnx")


def test_columns_without_names_are_one_input(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(50, 4))
    trainer = cr.Trainer(nn.Linear(4, 2), "binary_cross_entropy_with_logits", "adam")
    session = session_of(cr.bundle(trainer), tmp_path)
    label, probabilities = session.run(None, {"rows": X})
    assert (label == trainer.predict_classes(X.astype("f"))).all() and label.shape == (50, 2)
    np.testing.assert_allclose(probabilities, trainer.predict_proba(X.astype("f")), rtol=1e-5)


def test_no_has_its_digits_where_yes_is_nearly_1(tmp_path: Path) -> None:
    model = nn.Linear(4, 1)
    nn.init.ones_(model.weight)
    bundle = cr.bundle(cr.Trainer(model, "binary_cross_entropy_with_logits", "adam"))
    X = np.linspace(-15, 15, 40).reshape(10, 4)
    expected = bundle.predict_proba(X)
    assert (expected.min(axis=0) < 1e-9).all()
    np.testing.assert_allclose(session_of(bundle, tmp_path).run(None, {"rows": X})[1], expected, rtol=1e-5)


def session_of(bundle: Any, tmp_path: Path) -> Any:
    cr.onnx.export_bundle(bundle, tmp_path / "m.onnx")
    return runtime.InferenceSession(str(tmp_path / "m.onnx"))


def test_outputs_give_way_to_columns_of_their_name(tmp_path: Path) -> None:
    trainer = cr.Trainer(nn.Linear(2, 1), "mse", "adam")
    session = session_of(cr.bundle(trainer, columns=["values", "b"]), tmp_path)
    assert [o.name for o in session.get_outputs()] == ["values_"]


def test_what_cannot_be_said_is_named(tmp_path: Path) -> None:
    trainer = cr.Trainer(nn.Linear(2, 1), "mse", "adam")
    for name in ("model.weight", "/rows", ""):
        with pytest.raises(SettingError, match=f"a column cannot be called '{name}', as the graph has that name"):
            cr.onnx.export_bundle(cr.bundle(trainer, columns=["a", name]))
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    sklearn = pytest.importorskip("chainrule.sklearn")
    for levels, message in (
        (["x", 1], "levels of several types, \\[1, 'x'\\]"),
        (["x", ""], "an empty text for a level"),
    ):
        rows = np.array([[float(i), levels[i % 2]] for i in range(30)], object)
        made = sklearn.TabularRegressor(hidden=(4,), epochs=1, random_state=0, categorical_features=[1])
        with pytest.raises(SettingError, match=f"export_bundle: the column number 1 has {message}"):
            cr.onnx.export_bundle(made.fit(rows, np.arange(30.0)), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
