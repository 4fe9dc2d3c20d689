"""The command line, as a person uses it: run folders, JSON, errors that are one message."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner

from chainrule.cli import commands
from chainrule.errors import ChainruleError, DamagedFileError, SettingError, UnknownNameError
from chainrule.training import load_file, save_file

QUICK = ["--epochs", "3", "--hidden", "32", "--batch-size", "64"]


def call(*arguments):
    result = CliRunner().invoke(commands, [str(a) for a in arguments])
    if isinstance(result.exception, (ChainruleError, OSError)):
        raise result.exception
    return result


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    result = call("train", "digits", *QUICK, "--out", folder, "--json")
    return folder, json.loads(result.stdout.splitlines()[-1])


def test_train_reports_and_writes_everything(run):
    folder, report = run
    assert {"train_loss", "test_loss", "test_accuracy", "seconds", "epochs", "steps"} <= set(report)
    assert (report["epochs"], report["steps"]) == (3, 3 * 23)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "curves.svg", "history.json", "model.safetensors", "record",
    ]  # fmt: skip
    history = json.loads((folder / "history.json").read_text())
    assert history["loss"][-1] < history["loss"][0]
    assert len(history["val_accuracy"]) == 3
    picture = ET.fromstring((folder / "curves.svg").read_text())
    assert len(picture.findall("{*}polyline")) == 4


def test_evaluate_finds_what_train_reported(run):
    folder, report = run
    measured = json.loads(call("evaluate", folder, "--json").stdout)
    assert measured["accuracy"] == pytest.approx(report["test_accuracy"])
    assert measured["loss"] == pytest.approx(report["test_loss"])


def test_a_run_is_repeated_to_the_bit(run, tmp_path):
    folder, _ = run
    call("train", "--config", folder / "config.json", "--out", tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    first, again = (load_file(place / "model.safetensors")[0] for place in (folder, tmp_path / "again"))
    assert {name: t.numpy().tobytes() for name, t in first.items()} == {
        name: t.numpy().tobytes() for name, t in again.items()
    }


def test_without_json_it_says_what_a_person_wants_to_know(tmp_path):
    out = call("train", "digits", *QUICK, "--out", tmp_path / "run").stdout
    assert "Linear" in out
    assert "epoch 3/3" in out
    assert re.search(r"loss \d\.\d{4} -> \d\.\d{4}; test accuracy \d\d\.\d\d% in", out)


def test_info():
    found = json.loads(call("info", "--json").stdout)
    assert {"cpu", "vector_bytes", "threads", "cache", "numpy", "chainrule"} <= set(found)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (["digit"], UnknownNameError, "unknown dataset 'digit'. Did you mean 'digits'? Known: digits."),
        (["digits", "--optimizer", "adm"], UnknownNameError, "unknown optimizer 'adm'. Did you mean 'adam'"),
        (["digits", "--activation", "rleu"], UnknownNameError, "unknown activation 'rleu'. Did you mean 'relu'"),
        (["digits", "--hidden", "a,b"], SettingError, "--hidden must be whole numbers such as 128,64, got 'a,b'."),
        ([], SettingError, "train: name a data set (digits), or a run to repeat with --config RUN/config.json."),
    ],
)
def test_bad_arguments(arguments, kind, text, tmp_path):
    with pytest.raises(kind) as caught:
        call("train", *arguments, "--out", tmp_path / "run")
    assert str(caught.value).startswith(text)


def test_a_run_is_never_overwritten(run):
    folder, _ = run
    with pytest.raises(SettingError) as caught:
        call("train", "digits", *QUICK, "--out", folder)
    assert str(caught.value) == f"--out {folder}: the folder is not empty. Name another one, or remove it."


def test_damaged_runs(run, tmp_path):
    folder, _ = run
    with pytest.raises(DamagedFileError, match="not a readable configuration"):
        call("evaluate", tmp_path / "nothing")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:200])
    with pytest.raises(DamagedFileError, match="not a complete safetensors file"):
        call("evaluate", folder)


def test_the_program_gives_one_message_and_exit_code_2():
    done = subprocess.run(
        [sys.executable, "-m", "chainrule", "train", "digit"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "chainrule: unknown dataset 'digit'. Did you mean 'digits'? Known: digits.\n"
    assert done.stdout == ""


def test_check_verifies_all_rules_and_the_network_of_a_run(run):
    found = json.loads(call("check", "--json").stdout)
    assert found["ok"]
    assert {v["section"] for v in found["verdicts"]} == {"rules"}
    result = call("check", run[0], "--rows", "8")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].endswith(" 0 fail, 0 open")
    assert "the compiled step against NumPy" in result.stdout


def test_diagnose_says_what_is_wrong_with_a_run(tmp_path):
    folder = tmp_path / "run"
    call("train", "digits", *QUICK, "--lr", "1e-6", "--dropout", "0", "--schedule", "constant", "--out", folder)
    text = call("diagnose", folder).stdout
    assert text.startswith("1 finding, the likeliest first. The run ends at loss 2.")
    assert "1. The learning rate is too low." in text
    found = json.loads(call("diagnose", folder, "--json").stdout)
    assert found["exact"]
    assert [finding["name"] for finding in found["findings"]] == ["learning_rate_too_low"]


def test_diagnose_tells_when_a_run_cannot_be_repeated(run):
    folder, _ = run
    tensors, _ = load_file(folder / "model.safetensors")
    save_file({name: t.numpy() * 2 for name, t in tensors.items()}, folder / "model.safetensors")
    assert call("diagnose", folder).stderr == (
        f"chainrule: repeating {folder} did not give the weights in its model.safetensors: it was made by another "
        f"version, on another kind of CPU, or changed since. The diagnosis is of the repeated run.\n"
    )


def test_diagnose_of_a_damaged_run(run, tmp_path):
    folder, _ = run
    with pytest.raises(DamagedFileError, match="not a readable configuration"):
        call("diagnose", tmp_path / "nothing")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(DamagedFileError, match="not a complete safetensors file"):
        call("diagnose", folder)
