"""chainrule export: a run as one file, which predicts what the run does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import chainrule as cr
from chainrule.cli import commands
from chainrule.errors import DamagedFileError, SettingError
from chainrule.files.reading import MissingFileError

pl = pytest.importorskip("polars")


def run(*arguments: Any) -> str:
    """What a command prints on standard output."""
    result = CliRunner().invoke(commands, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table in a folder, with a run for each of two targets."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    size = rng.uniform(10, 90, 200)
    frame = pl.DataFrame(
        {
            "size": size, "colour": rng.choice(["red", "green"], 200), "price": size * 2 + rng.normal(size=200),
            "cheap": np.where(size < 40, True, False),
        }
    )  # fmt: skip
    frame.write_csv(folder / "shop.csv", separator=";")
    for target, other in (("price", "cheap"), ("cheap", "price")):
        options = ["--epochs", "3", "--no-record", "--drop", other]
        run("train", folder / "shop.csv", "--target", target, "--out", folder / target, *options)
    return folder


@pytest.mark.parametrize("target", ["price", "cheap"])
def test_a_bundle_of_a_run_on_a_table_predicts_what_the_run_does(shop: Path, target: str) -> None:
    file, rows = shop / f"{target}.bundle", shop / "shop.csv"
    said = run("export", shop / target, "--out", file)
    assert "a bundle" in said and "cr.load_bundle(" in said
    expected = run("predict", shop / target, rows, "--keep", "colour")
    assert run("predict", file, rows, "--keep", "colour") == expected
    table = pl.read_csv(io.StringIO(expected))
    row = {"size": 30.0, "colour": "red"}
    bundle = cr.load_bundle(file)
    assert type(bundle.predict(row)) is (float if target == "price" else bool)
    inputs = pl.read_csv(rows, separator=";").drop("price", "cheap").to_dicts()
    found = bundle.predict(inputs)
    assert (np.asarray(table[target]) == found).all() if target == "cheap" else np.allclose(table["price"], found)
    again = shop / "again.bundle"
    run("export", file, "--out", again)
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("preset", ["tabular", "tabular_full"])
def test_a_bundle_of_a_run_by_a_preset(shop: Path, preset: str) -> None:
    folder, rows = shop / preset, shop / "shop.csv"
    options = ["--preset", preset, "--epochs", "2", "--no-record", "--drop", "price"]
    run("train", rows, "--target", "cheap", "--out", folder, *options)
    run("export", folder, "--out", shop / f"{preset}.bundle")
    assert run("predict", shop / f"{preset}.bundle", rows) == run("predict", folder, rows)


@pytest.mark.filterwarnings("ignore:TablePipeline.transform. colour")
def test_a_run_on_a_table_as_onnx(shop: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    said = " ".join(run("export", shop / "cheap", "--out", shop / "cheap.onnx").split())
    assert (
        "Inputs are the columns 'size', 'colour', (batch, 1) each" in said
        and "Outputs: 'label', 'probabilities'" in said
    )
    session = runtime.InferenceSession(str(shop / "cheap.onnx"))
    assert session.get_modelmeta().custom_metadata_map == {"meaning": "logits", "classes": "[false, true]"}
    bundle, rows = cr.bundle(shop / "cheap"), {"size": [30.0, None, 80.5], "colour": ["red", "violet", None]}
    raw = {"size": np.array([[30.0], [np.nan], [80.5]]), "colour": np.array([["red"], ["violet"], [""]], object)}
    label, probabilities = session.run(None, raw)
    with pytest.warns(UserWarning, match="colour: 1 rows have levels that training had not: 'violet'"):
        labels = bundle.predict(rows)
    with pytest.warns(UserWarning, match="colour: 1 rows have levels that training had not: 'violet'"):
        expected = bundle.predict_proba(rows)
    assert label.dtype == bool and (label == labels).all()
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


def test_digits(tmp_path: Path) -> None:
    X, y = cr.data.load("digits").test
    run("train", "digits", "--epochs", "2", "--no-record", "--out", tmp_path / "run")
    run("export", tmp_path / "run", "--out", tmp_path / "bundle")
    np.save(tmp_path / "rows.npy", X)
    expected = run("predict", tmp_path / "run", tmp_path / "rows.npy")
    assert run("predict", tmp_path / "bundle", tmp_path / "rows.npy") == expected
    bundle = cr.load_bundle(tmp_path / "bundle")
    assert "\n".join(map(str, bundle.predict(X).tolist())) + "\n" == expected
    assert np.mean(bundle.predict(X) == y) > 0.8


def test_what_is_no_run_and_no_bundle(tmp_path: Path) -> None:
    from chainrule.errors import DamagedFileError

    (tmp_path / "x").write_text("nothing")
    for source, what in (
        ("missing", "there is no such run folder"),
        ("x", "not a complete safetensors file"),
        ("", "config.json: not a readable configuration: there is no such file"),
    ):
        with pytest.raises(DamagedFileError, match=what):
            run("export", tmp_path / source, "--out", tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_a_file_is_no_run_folder(tmp_path):
    for name, able in (
        ("x.bundle", "A bundle can only predict: chainrule predict {} ROWS."), ("x.onnx", "An ONNX file is run by onnxruntime."),
    ):  # fmt: skip
        path = tmp_path / name
        path.write_bytes(b"\x08\x08\x12\x09chainrule")
        for command in (
            ["evaluate", path, "rows.csv"],
            ["diagnose", path],
            ["check", path],
            ["explain", path, "w"],
            ["view", path],
        ):
            with pytest.raises(SettingError) as error:
                run(*command)
            assert str(error.value) == (
                f"{command[0]}: RUN must be a folder that `chainrule train` wrote, got the file {path}. {able.format(path)}"
            )


def test_a_file_for_onnxruntime_is_called_that(tmp_path):
    path = tmp_path / "x.ONNX"
    path.write_bytes(b"\x08\x08\x12\x09chainrule")
    for use, what in ((lambda: run("predict", path, "f.csv"), "a bundle"), (lambda: cr.load_model(path), "a model")):
        with pytest.raises(DamagedFileError) as error:
            use()
        assert str(error.value) == (
            f"{path}: this is an ONNX file, which onnxruntime runs (onnxruntime.InferenceSession), and there is not {what} in it. "
            f"Write one under a name that does not end in .onnx: chainrule export, or save."
        )
    with pytest.raises(MissingFileError):
        cr.load_bundle(tmp_path / "none.onnx")
