"""``chainrule train FILE --target COLUMN --preset tabular``: the recipe on the command line."""

import json

import numpy as np
import pytest

from chainrule.errors import DamagedFileError, SettingError

pytest.importorskip("polars")

import polars as pl
from tests.cli.test_tables import call, made

import chainrule as cr
from chainrule.cli.runs import fitting, rebuild, repeated
from chainrule.training import load_file
from chainrule.training.configuration import read_config
from chainrule.training.realmlp import FadingAdamW

QUICK = ["--epochs", "30", "--hidden", "16,16"]


@pytest.fixture
def file(tmp_path):
    made().write_csv(tmp_path / "shop.csv")
    return tmp_path / "shop.csv"


def trained(file, target, folder, *more):
    preset = () if "--preset" in more else ("--preset", "tabular")
    return call("train", file, "--target", target, *preset, *QUICK, "--out", folder, *more)


@pytest.mark.parametrize(("target", "lr", "activation"), [("bought", 0.04, "selu"), ("paid", 0.07, "mish")])
def test_it_takes_the_recipe_of_the_task(file, tmp_path, target, lr, activation):
    said = trained(file, target, tmp_path / "r", "--drop", {"bought": "paid", "paid": "bought"}[target], "--json")
    assert "training on 128 rows; 32 choose the best epoch; 40 are held out to measure" in " ".join(said.stderr.split())
    found = read_config(tmp_path / "r" / "config.json")
    assert (found["lr"], found["activation"], found["schedule"], found["drop_last"]) == (lr, activation, "waves", True)
    assert (found["epochs"], found["hidden"], found["batch_size"]) == (30, "16,16", 256)
    measured = json.loads(said.stdout.splitlines()[-1])
    assert measured["test"]["r2" if target == "paid" else "accuracy"] > 0.7


def test_rows_that_choose_are_neither_trained_on_nor_tested_with(file, tmp_path):
    trained(file, "bought", tmp_path / "r", "--drop", "paid")
    trainer, data = rebuild(read_config(tmp_path / "r" / "config.json"), tmp_path / "r")
    parts = [data.train, data.validation, data.test]
    assert [len(part.y) for part in parts] == [128, 32, 40]
    rows = np.concatenate([part.X for part in parts])
    everything = data.pipeline.encoded(data.table)
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], everything[np.lexsort(everything.T)])
    assert trainer.optimizer.param_groups[0]["initial_lr"] == pytest.approx(0.24)


def test_the_best_epochs_weights_are_written(file, tmp_path):
    trained(file, "bought", tmp_path / "r", "--drop", "paid")
    config = read_config(tmp_path / "r" / "config.json")
    trainer, data = rebuild(config, tmp_path / "r")
    options = fitting(config, data)
    stopping = options["callbacks"][0]
    trainer.fit(*data.train, **options, progress=False)
    seen = trainer.history["val_accuracy"]
    assert seen[stopping.best_epoch - 1] == max(seen)
    kept = load_file(tmp_path / "r" / "model.safetensors")[0]
    for name, value in trainer.model.state_dict().items():
        np.testing.assert_array_equal(kept[name].numpy(), value.numpy())


def test_a_run_is_repeated_resumed_and_used(file, tmp_path):
    trained(file, "bought", tmp_path / "r", "--drop", "paid")
    call("train", "--config", tmp_path / "r" / "config.json", "--out", tmp_path / "again")
    one, two = (load_file(tmp_path / name / "model.safetensors")[0] for name in ("r", "again"))
    assert all((one[name].numpy() == two[name].numpy()).all() for name in one)
    (tmp_path / "again" / "model.safetensors").unlink()
    call("train", "--resume", tmp_path / "again")
    two = load_file(tmp_path / "again" / "model.safetensors")[0]
    assert all((one[name].numpy() == two[name].numpy()).all() for name in one)
    assert repeated(tmp_path / "r")[1]
    predicted = call("predict", tmp_path / "r", file).stdout.splitlines()
    assert len(predicted) == 201
    assert "accuracy" in call("evaluate", tmp_path / "r", file).stdout


def test_levels_are_scaled_as_numbers(file, tmp_path):
    trained(file, "bought", tmp_path / "r", "--drop", "paid")
    encoder = next(c for c in json.loads((tmp_path / "r" / "pipeline.json").read_text())["columns"] if c["name"] == "colour")["encoder"]  # fmt: skip
    rare = 2 / np.sqrt(1 + 4 / 9)  # a column that is 0 in three quarters of the rows: 1 becomes 2, clipped
    assert set(np.round(encoder["on"], 6)) <= {round(rare, 6), round(1 / np.sqrt(1 + 1 / 9), 6)}
    assert set(encoder["off"]) == {0.0}


def test_the_full_form_has_waves_for_numbers_and_vectors_for_many_levels(tmp_path):
    table, file = made(), tmp_path / "shop.csv"
    towns = [f"town {row % 11}" if row % 7 else None for row in range(len(table))]
    table.with_columns(pl.Series("town", towns)).write_csv(file)
    said = trained(file, "bought", tmp_path / "r", "--drop", "paid", "--preset", "tabular_full", "--json")
    assert json.loads(said.stdout.splitlines()[-1])["test"]["accuracy"] > 0.7
    trainer, data = rebuild(read_config(tmp_path / "r" / "config.json"), tmp_path / "r")
    first, inputs = trainer.model[0], trainer.model[1]
    names = data.pipeline.get_feature_names_out()
    assert (inputs.numbers, inputs.plain, inputs.sizes) == (2, len(names) - 2 - 12, (13,))
    assert [names[i] for i in first.kept[:2]] == ["x", "day"]
    assert isinstance(trainer.optimizer, FadingAdamW)
    rows = first(cr.tensor(data.train.X)).numpy()
    whole = data.table.rows(data.rows[0])
    levels = [f"town {i}" for i in sorted(range(11), key=str)]
    of_rows = [levels.index(town) + 1 if town else 12 for town in whole["town"].to_list()]
    assert rows[:, -1].tolist() == of_rows
    call("train", "--config", tmp_path / "r" / "config.json", "--out", tmp_path / "again")
    one, two = (load_file(tmp_path / name / "model.safetensors")[0] for name in ("r", "again"))
    assert all((one[name].numpy() == two[name].numpy()).all() for name in one)
    new = table.with_columns(pl.Series("town", ["elsewhere"] * len(table)))
    new.write_csv(tmp_path / "new.csv")
    assert len(call("predict", tmp_path / "r", tmp_path / "new.csv").stdout.splitlines()) == 201


def test_what_the_recipe_sets_itself_is_refused(file, tmp_path):
    with pytest.raises(
        SettingError,
        match=r"--preset tabular has an optimizer, a schedule and a scaling of its own. Leave out --optimizer.",
    ):
        trained(file, "bought", tmp_path / "r", "--optimizer", "sgd")
    with pytest.raises(SettingError, match="--preset is about a table, and 'digits' is no file"):
        call("train", "digits", "--preset", "tabular")


def test_waves_are_a_schedule_of_any_run(tmp_path):
    call("train", "digits", "--schedule", "waves", "--epochs", "2", "--hidden", "8", "--out", tmp_path / "r")
    rates = json.loads((tmp_path / "r" / "history.json").read_text())
    assert "lr" in str(rates)
    trainer, _ = rebuild(read_config(tmp_path / "r" / "config.json"))
    assert trainer.session.schedules.by_step[0].total_iters == 2 * 45


def test_a_damaged_configuration_is_named(file, tmp_path):
    trained(file, "bought", tmp_path / "r", "--drop", "paid")
    path = tmp_path / "r" / "config.json"
    path.write_text(path.read_text().replace('"preset": "tabular"', '"preset": "best"'))
    with pytest.raises(
        DamagedFileError, match="preset must be tabular or tabular_log_loss or tabular_full, got 'best'"
    ):
        call("evaluate", tmp_path / "r")
    pipeline = tmp_path / "r" / "pipeline.json"
    path.write_text(path.read_text().replace('"preset": "best"', '"preset": "tabular"'))
    pipeline.write_text(pipeline.read_text().replace('"off": [', '"off": [7.0, '))
    with pytest.raises(DamagedFileError, match="off must be none, or 3 numbers"):
        call("predict", tmp_path / "r", file)
