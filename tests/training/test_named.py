"""Columns with names: a training remembers them, and later data is taken by them, whatever its order."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.data import as_source
from chainrule.errors import DamagedFileError, DataError
from chainrule.training import Trainer

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

rng = np.random.default_rng(0)
NAMES = ["a", "b", "c"]
VALUES = rng.standard_normal((200, 3)).astype(np.float32)
TARGET = VALUES @ np.float32([[1], [-2], [3]]) + 1
COLUMNS = {**dict(zip(NAMES, VALUES.T, strict=True)), "y": TARGET[:, 0]}
OTHER_ORDER = ["y", "c", "a", "b"]


def frame(order: list[str] | None = None) -> Any:
    return pd.DataFrame({name: COLUMNS[name] for name in order or COLUMNS})


def parquet(folder: Path, data: Any) -> Path:
    import pyarrow.parquet

    folder.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pandas(data), folder / "part.parquet", row_group_size=50)
    return folder


def csv(folder: Path, data: Any) -> Path:
    folder.mkdir(exist_ok=True)
    data.to_csv(folder / "part.csv", index=False)
    return folder


GIVEN: dict[str, Callable[[Any, Path], Any]] = {
    "pandas": lambda data, folder: data,
    "polars": lambda data, folder: pl.from_pandas(data),
    "a lazy frame": lambda data, folder: pl.from_pandas(data).lazy(),
    "Arrow": lambda data, folder: pa.Table.from_pandas(data),
    "Parquet": lambda data, folder: parquet(folder / f"parquet of {'-'.join(data)}", data),
    "CSV": lambda data, folder: csv(folder / f"csv of {'-'.join(data)}", data),
}


def make() -> Trainer:
    cr.manual_seed(0)
    model = nn.Linear(3, 1)
    return Trainer(model, "mse", optim.Adam(model.parameters(), lr=0.1))


@pytest.fixture(scope="module")
def learned() -> Trainer:
    """A training on columns by name."""
    trainer = make()
    trainer.fit(frame(), ["y"], epochs=60, progress=False)
    return trainer


@pytest.mark.parametrize("kind", GIVEN)
def test_later_data_is_taken_by_name(kind: str, learned: Trainer, tmp_path: Path) -> None:
    expected = learned.evaluate(VALUES, TARGET)["loss"]
    assert expected < 0.01
    given = GIVEN[kind](frame(OTHER_ORDER), tmp_path)
    assert learned.evaluate(given, ["y"])["loss"] == pytest.approx(expected, rel=1e-4)
    without = GIVEN[kind](frame(OTHER_ORDER[1:]), tmp_path)
    for data in (given, without):  # the target may be there, and is left alone
        np.testing.assert_allclose(learned.predict(data), learned.predict(VALUES), rtol=1e-6)


@pytest.mark.parametrize("kind", GIVEN)
def test_rows_to_validate_on_are_taken_by_name(kind: str, tmp_path: Path) -> None:
    held_out = GIVEN[kind](frame(OTHER_ORDER), tmp_path)
    trainer = make()
    trainer.fit(GIVEN[kind](frame(), tmp_path), ["y"], epochs=2, progress=False, validation_data=(held_out, ["y"]))
    assert trainer.history["val_loss"][-1] == pytest.approx(trainer.evaluate(VALUES, TARGET)["loss"], rel=1e-4)


@pytest.mark.parametrize("kind", GIVEN)
def test_other_names_are_refused(kind: str, learned: Trainer, tmp_path: Path) -> None:
    given = GIVEN[kind](frame().rename(columns={"b": "bb"}), tmp_path)
    said = (
        "{} must have the columns that the model was trained on, 'a', 'b', 'c', got data without 'b' (and 'bb'{}, which the "
        "training had not). Columns are taken by their names: rename those that are called otherwise. (A NumPy array is taken by "
        "position.)"
    )
    texts = {
        who: said.format(who, more)
        for who, more in {"evaluate: X": "", "predict: X": ", 'y'", "fit: validation X": ""}.items()
    }
    with pytest.raises(DataError, match=f"^{re.escape(texts['evaluate: X'])}$"):
        learned.evaluate(given, ["y"])
    with pytest.raises(DataError, match=f"^{re.escape(texts['predict: X'])}$"):
        learned.predict(given)
    with pytest.raises(DataError, match=f"^{re.escape(texts['fit: validation X'])}$"):
        copy.deepcopy(learned).fit(frame(), ["y"], epochs=1, progress=False, validation_data=(given, ["y"]))


def test_a_column_more_or_less(learned: Trainer) -> None:
    data = frame().assign(d=1.0)
    np.testing.assert_allclose(learned.predict(data), learned.predict(VALUES), rtol=1e-6)
    with pytest.raises(DataError, match=r"got data without 'c'\. Columns"):
        learned.predict(frame(["a", "b"]))


FRAMES: dict[str, Callable[[Any], Any]] = {
    "pandas": lambda data: data, "polars": pl.from_pandas, "Arrow": pa.Table.from_pandas,
}  # fmt: skip


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_beside_an_array_of_targets(kind: str) -> None:
    trainer, of = make(), FRAMES[kind]
    trainer.fit(
        of(frame(NAMES)), TARGET, epochs=60, progress=False, validation_data=(of(frame(["c", "b", "a"])), TARGET)
    )
    expected = trainer.evaluate(VALUES, TARGET)["loss"]
    assert trainer.history["val_loss"][-1] == pytest.approx(expected, rel=1e-5)
    assert trainer.evaluate(of(frame(["b", "c", "a"])), TARGET)["loss"] == expected
    np.testing.assert_array_equal(trainer.predict(of(frame(["b", "c", "a"]))), trainer.predict(VALUES))
    assert trainer.evaluate(of(frame(OTHER_ORDER)), ["y"])["loss"] == pytest.approx(expected, rel=1e-5)
    for name, call in {
        "evaluate": lambda data: trainer.evaluate(data, TARGET),
        "predict": trainer.predict,
    }.items():
        with pytest.raises(
            DataError,
            match=f"^{name}: X must have the columns .* got data without 'c' \\(and 'y', which the training had not\\)",
        ):
            call(of(frame(["a", "b", "y"])))


def test_several_inputs_and_targets_by_name() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(2, 2), nn.Linear(1, 2)

        def forward(self, left: cr.Tensor, right: cr.Tensor) -> cr.Tensor:
            return self.one(left) + self.two(right)

    model = Both()
    trainer = Trainer(model, "mse", optim.Adam(model.parameters(), lr=0.1))
    y = frame(["y"]).assign(z=-VALUES[:, 0])
    trainer.fit((frame(["a", "b"]), frame(["c"])), y, epochs=5, progress=False)
    expected = trainer.evaluate((VALUES[:, :2], VALUES[:, 2:]), y.to_numpy())
    assert trainer.evaluate((frame(["b", "a"]), frame(["c"])), y[["z", "y"]]) == expected
    assert trainer.evaluate({"left": VALUES[:, :2], "right": frame(["c"])}, y) == expected
    with pytest.raises(DataError, match=r"^predict: X\[0\] must have the columns .* 'a', 'b', got data without 'b'\."):
        trainer.predict((frame(["a"]), frame(["c"])))


def test_several_targets_by_name_in_another_order() -> None:
    data = frame().assign(z=-VALUES[:, 0])
    model = nn.Linear(3, 2)
    trainer = Trainer(model, "mse", optim.Adam(model.parameters(), lr=0.1))
    trainer.fit(data, ["y", "z"], epochs=60, progress=False)
    assert trainer.evaluate(data, ["z", "y"]) == trainer.evaluate(data, ["y", "z"])


def test_a_source_that_was_made_with_another_order_is_refused(learned: Trainer) -> None:
    source = as_source(frame(OTHER_ORDER), target=["y"])
    said = (
        "evaluate: X must have its columns in the order in which the model was trained on them, and this source has another. Make "
        "it with as_source(..., features=['a', 'b', 'c'])."
    )
    with pytest.raises(DataError, match=f"^{re.escape(said)}$"):
        learned.evaluate(source)
    right = as_source(frame(OTHER_ORDER), target=["y"], features=NAMES)
    assert learned.evaluate(right)["loss"] == pytest.approx(learned.evaluate(VALUES, TARGET)["loss"], rel=1e-5)
    assert learned.predict(right).shape == (200, 1)


def test_a_training_that_goes_on_takes_columns_by_name(tmp_path: Path) -> None:
    straight, stopped = make(), make()
    straight.fit(frame(), ["y"], epochs=4, progress=False)
    stopped.fit(frame(), ["y"], epochs=2, progress=False)
    stopped.save(tmp_path / "half.safetensors")
    other = make()
    other.load(tmp_path / "half.safetensors")
    np.testing.assert_array_equal(other.predict(frame(OTHER_ORDER)), stopped.predict(VALUES))
    with pytest.raises(DataError, match=r"^fit: X must have the columns"):
        other.fit(frame().rename(columns={"a": "b", "b": "x"}), ["y"], epochs=4, progress=False, resume=True)
    other.fit(frame(OTHER_ORDER), ["y"], epochs=4, progress=False, resume=True)
    for one, two in zip(straight.model.parameters(), other.model.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach().numpy(), two.detach().numpy())


def test_checkpoints_go_on_by_name(tmp_path: Path) -> None:
    straight, stopped, other = make(), make(), make()
    straight.fit(frame(), ["y"], epochs=4, progress=False)
    stopped.fit(frame(), ["y"], epochs=2, progress=False, checkpoint=tmp_path)
    with pytest.raises(DataError, match=r"^fit: X must have the columns .* 'a', 'b', 'c', got data without 'a'"):
        other.fit(frame().rename(columns={"a": "x"}), ["y"], epochs=4, progress=False, checkpoint=tmp_path)
    other.fit(frame(OTHER_ORDER), ["y"], epochs=4, progress=False, checkpoint=tmp_path)
    for one, two in zip(straight.model.parameters(), other.model.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach().numpy(), two.detach().numpy())


def test_a_training_that_begins_has_columns_of_its_own(learned: Trainer) -> None:
    trainer = copy.deepcopy(learned)
    trainer.fit(
        frame(OTHER_ORDER), ["y"], epochs=1, progress=False
    )  # the same columns: as the weights have learned them
    assert trainer.evaluate(VALUES, TARGET)["loss"] < 1
    others = frame().rename(columns={"a": "p", "b": "q", "c": "r"})
    trainer.fit(others, ["y"], epochs=1, progress=False)
    assert trainer.predict(others).shape == (200, 1)
    with pytest.raises(
        DataError, match="trained on, 'p', 'q', 'r', got data without 'p', 'q', 'r' .and 'a', 'b', 'c', 'y', which"
    ):
        trainer.predict(frame())
    trainer.fit(VALUES, TARGET, epochs=1, progress=False)
    assert trainer.predict(frame(NAMES)).shape == (200, 1)  # nothing is known of columns any more


def test_columns_without_names_are_taken_by_position(learned: Trainer) -> None:
    np.testing.assert_array_equal(learned.predict(pd.DataFrame(VALUES)), learned.predict(VALUES))
    np.testing.assert_array_equal(learned.predict(VALUES.tolist()), learned.predict(VALUES))


def test_a_callback_measures_by_name() -> None:
    found: list[float] = []
    trainer = make()
    trainer.fit(
        frame(), ["y"], epochs=1, progress=False,
        callbacks=lambda trainer, epoch, measured: found.append(trainer.evaluate(frame(OTHER_ORDER), ["y"])["loss"]),
    )  # fmt: skip
    assert found == [pytest.approx(trainer.evaluate(VALUES, TARGET)["loss"], rel=1e-5)]


def test_names_in_a_file_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chainrule.training.named import Named

    trainer = make()
    trainer.fit(frame(), ["y"], epochs=1, progress=False)
    monkeypatch.setattr(Named, "as_dict", lambda self: {"parts": {"X": [1, 2]}, "windows": True})
    trainer.save(tmp_path / "odd.safetensors")
    with pytest.raises(DamagedFileError, match=r"columns.*parts.*X"):
        trainer.load(tmp_path / "odd.safetensors")


def test_a_name_twice_is_refused_where_columns_are_taken_by_name(learned: Trainer) -> None:
    twice = frame()[["b", "b", "a"]]
    said = (
        "{} must have a name of its own for each column, as columns are taken by their names here, got 'b' more than once. Rename "
        "one, or leave it out. (A NumPy array is taken by position.)"
    )
    beside = make()
    beside.fit(frame(NAMES), pd.DataFrame(TARGET, columns=["y"]), epochs=1, progress=False)
    for trainer in (learned, beside):
        with pytest.raises(DataError, match=f"^{re.escape(said.format('predict: X'))}$"):
            trainer.predict(twice)
        with pytest.raises(DataError, match=f"^{re.escape(said.format('evaluate: X'))}$"):
            trainer.evaluate(twice, TARGET)
    with pytest.raises(DataError, match="evaluate: y must have a name of its own"):
        beside.evaluate(frame(NAMES), frame()[["y", "y"]])
    fresh = make()  # names that say nothing are none: by position, at first and afterwards
    fresh.fit(twice, TARGET, epochs=1, progress=False)
    np.testing.assert_array_equal(fresh.predict(twice), fresh.predict(twice.to_numpy()))


def test_named_parts_keep_the_form_that_they_had() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(2, 1), nn.Linear(1, 1)

        def forward(self, x: Any, z: Any) -> Any:
            return self.left(x) + self.right(z)

    def fitted(parts: Any) -> Trainer:
        trainer = cr.Trainer(Two(), "mse", "adam")
        trainer.fit(parts, TARGET, epochs=1, progress=False)
        return trainer

    left, right = frame(["b", "a"]), frame(["c"])
    by_key, by_place = fitted({"x": frame(["a", "b"]), "z": right}), fitted((frame(["a", "b"]), right))
    np.testing.assert_array_equal(
        by_key.predict({"z": right, "x": left}), by_key.predict({"x": VALUES[:, :2], "z": VALUES[:, 2:]})
    )
    with pytest.raises(
        DataError,
        match=re.escape(
            "predict: X[0] must come in a dict, as the model was trained on it, since columns are taken by their names: it had "
            "X['x'], X['z'], and this is X[0]."
        ),
    ):
        by_key.predict((left, right))
    with pytest.raises(DataError, match=re.escape("X['x'] must come in a tuple, as")):
        by_place.predict({"x": left, "z": right})
    by_key.predict((VALUES[:, :2], VALUES[:, 2:]))  # arrays have no names


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_what_is_wrong_in_a_frame_is_named_by_its_column(library):
    frames = pytest.importorskip(library)
    data = {"age": [1.0, 2.0, 3.0], "height": [1.0, 2.0, float("nan")]}
    trainer = cr.Trainer(nn.Linear(2, 1), "mse", "sgd", lr=0.1)
    with pytest.raises(DataError) as told:
        trainer.fit(frames.DataFrame(data), np.ones((3, 1)), epochs=1, progress=False)
    assert str(told.value) == (
        "fit: X must be finite, got 1 NaN and 0 infinite values in shape (3, 2), the first at row 2, column 'height'. Drop these "
        "rows, or fill them (numpy.nan_to_num)."
    )
    with pytest.raises(DataError) as told:
        trainer.fit(frames.DataFrame({**data, "height": ["a", "b", "c"]}), np.ones((3, 1)), epochs=1, progress=False)
    assert str(told.value) == (
        "fit: X must hold numbers, got 'a' (str) at row 0, column 'height'. Convert it to float32 or int64 first (categories: one "
        "integer each)."
    )
