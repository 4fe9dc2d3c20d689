"""The command line, as a person uses it: run folders, JSON, errors that are one message."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner

import chainrule as cr
from chainrule.cli import commands
from chainrule.errors import (
    ChainruleError,
    DamagedFileError,
    DataError,
    NonFiniteError,
    SettingError,
    ShapeError,
    UnknownNameError,
)
from chainrule.training import load_file, progress, save_file
from chainrule.training.configuration import read_config

QUICK = ["--epochs", "3", "--hidden", "32", "--batch-size", "64"]


def call(*arguments):
    result = CliRunner().invoke(commands, [str(a) for a in arguments])
    if isinstance(result.exception, (ChainruleError, OSError)):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder, which nobody changes, and what the training said."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = call("train", "digits", *QUICK, "--out", folder, "--json")
    return folder, json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def run(trained, tmp_path):
    """A run folder of the test's own."""
    return shutil.copytree(trained[0], tmp_path / "run"), trained[1]


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


def test_a_short_last_batch_is_left_out_and_stays_so(tmp_path):
    result = call("train", "digits", *QUICK, "--drop-last", "--out", tmp_path / "run", "--json")
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["steps"] == 3 * 22
    again = call("train", "--config", tmp_path / "run" / "config.json", "--out", tmp_path / "again", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["train_loss"] == report["train_loss"]
    assert len(cr.load_run(tmp_path / "run")) == 66
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config.pop("drop_last") is True
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))  # a run of before there was the option
    assert read_config(tmp_path / "run" / "config.json")["drop_last"] is False


def test_evaluate_finds_what_train_reported(run):
    folder, report = run
    measured = json.loads(call("evaluate", folder, "--json").stdout)
    assert measured["accuracy"] == pytest.approx(report["test_accuracy"])
    assert measured["loss"] == pytest.approx(report["test_loss"])


def test_a_run_is_repeated_to_the_bit(run, tmp_path):
    folder, _ = run
    call("train", "--config", folder / "config.json", "--out", tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    first, again = ((place / "model.safetensors").read_bytes() for place in (folder, tmp_path / "again"))
    assert first == again


def test_without_json_it_says_what_a_person_wants_to_know(tmp_path):
    out = call("train", "digits", *QUICK, "--out", tmp_path / "run").stdout
    assert "Linear" in out
    assert "epoch 3/3" in out
    assert re.search(r"loss \d\.\d{4} -> \d\.\d{4}; test accuracy \d\d\.\d\d% in", out)


def test_the_closing_lines_say_what_was_measured_where_it_lies_and_what_to_do_next(tmp_path):
    folder = tmp_path / "run"
    out = call("train", "digits", *QUICK, "--report", "--out", folder).stdout
    said = " ".join(out[out.rindex("loss 2.") :].split())
    assert re.fullmatch(
        rf"loss .* written to {re.escape(str(folder))} \(this loss is measured without label smoothing, dropout and noise; the "
        rf"losses of the epochs above are with it\) the page: {re.escape(str(folder / 'report.html'))}, made in \d+\.\d\d s "
        rf"next: .*",
        said,
    )
    assert out.endswith(f"\nnext: chainrule view {folder}\n      chainrule diagnose {folder}\n")
    assert (folder / "report.html").exists()


def test_the_last_loss_is_the_epochs_where_nothing_is_added(tmp_path):
    plain = ["--dropout", "0", "--noise", "0", "--label-smoothing", "0", "--lr", "0"]
    out = call("train", "digits", *QUICK, *plain, "--out", tmp_path / "run").stdout
    assert "measured without" not in out
    assert re.search(r"epoch 3/3  loss (\d\.\d{4})", out)[1] == re.search(r"loss \d\.\d{4} -> (\d\.\d{4})", out)[1]


def test_the_time_of_the_page_is_told_apart(tmp_path):
    small = ["--epochs", "1", "--hidden", "2"]
    report = json.loads(call("train", "digits", *small, "--report", "--json", "--out", tmp_path / "run").stdout)
    assert report["report"] == str(tmp_path / "run" / "report.html")
    assert report["report_seconds"] > 0
    assert report["seconds"] > 0


# -- a training that is stopped ----------------------------------------------------------------------


LONG = ["digits", "--hidden", "16", "--epochs", "200"]  # so many that no signal comes too late


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The training of `LONG` that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    call("train", *LONG, "--out", folder)
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("end", ["SIGKILL", "SIGINT"])
def test_a_stopped_training_goes_on_to_the_same_bits(end, whole, tmp_path):
    folder = tmp_path / "stopped"
    command = [sys.executable, "-m", "chainrule", "train", *LONG, "--out", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line.split()[1].startswith("20/") for line in process.stdout if line.startswith("epoch"))
        process.send_signal(getattr(signal, end))
        said = process.communicate(timeout=60)[0]
    if end == "SIGINT":
        assert f"and `chainrule train --resume {folder}` goes on from there" in said
        assert f"\nnext: chainrule train --resume {folder}\n" in said
    else:
        assert not (folder / "model.safetensors").exists()
        (folder / "rows.npy").touch()
        unfinished = [
            ("evaluate", folder),
            ("diagnose", folder),
            ("check", folder),
            ("predict", folder, folder / "rows.npy"),
        ]
        for command in unfinished:
            with pytest.raises(
                DamagedFileError, match=rf"did not end: .* chainrule train --resume {re.escape(str(folder))}\.$"
            ):
                call(*command)
        (folder / "rows.npy").unlink()
    report = json.loads(call("train", "--resume", folder, "--json").stdout.splitlines()[-1])
    assert (report["epochs"], report["interrupted"]) == (200, False)
    for name in ("model.safetensors", "config.json", "record/steps.bin"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_that_is_done_is_not_changed_by_going_on(run):
    folder, report = run
    before = (folder / "model.safetensors").read_bytes()
    again = json.loads(call("train", "--resume", folder, "--json").stdout.splitlines()[-1])
    assert (folder / "model.safetensors").read_bytes() == before
    assert again["test_loss"] == report["test_loss"]


def test_going_on_takes_the_last_checkpoint_that_can_be_read(run):
    folder, report = run
    last = max((folder / "record" / "checkpoints").iterdir())
    last.write_bytes(last.read_bytes()[:-7])
    again = json.loads(call("train", "--resume", folder, "--json").stdout.splitlines()[-1])
    assert again["test_loss"] == report["test_loss"]


def test_the_version_is_that_of_the_package_installed_or_not():
    assert call("--version").stdout == f"commands, version {cr.__version__}\n"


def test_what_cannot_go_on_says_why(run, tmp_path):
    with pytest.raises(
        SettingError, match=r"--resume goes on with the run as it was begun, so --epochs cannot be given"
    ):
        call("train", "--resume", run[0], "--epochs", "5")
    with pytest.raises(SettingError) as caught:
        call("train", "--config", run[0] / "config.json", *QUICK[:4], "--target", "x", "--out", tmp_path / "other")
    assert str(caught.value) == (
        "train: --config repeats the run as it was, to the bit, so --target, --epochs, --hidden cannot be given with it. "
        "Leave them out, or leave --config out and name the data with all options."
    )
    assert not (tmp_path / "other").exists()
    folder = tmp_path / "plain"
    call("train", "digits", *QUICK, "--no-record", "--out", folder)
    with pytest.raises(
        SettingError, match=r"there is no record in it \(it was made with --no-record\), so it cannot go on"
    ):
        call("train", "--resume", folder)
    with pytest.raises(DamagedFileError, match="there is no such run folder"):
        call("train", "--resume", tmp_path / "nothing")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_reader_that_goes_away_loses_nothing(tmp_path):
    command = [sys.executable, "-m", "chainrule", "train", "digits", "--hidden", "16", "--epochs", "60"]
    folder = tmp_path / "run"
    with subprocess.Popen(
        [*command, "--out", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert said == ""
    assert json.loads((folder / "history.json").read_text())["epochs"] == 60


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_output_that_is_not_utf_8_is_written_to(encoding, tmp_path):
    command = [sys.executable, "-m", "chainrule", "train", "digits", *QUICK, "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"epoch 3/3" in done.stdout


@pytest.mark.parametrize("width", [100, 80, 60])
def test_the_progress_line_shows_bar_and_epoch_at_any_width(width, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bar = progress.report(stream)
    bar.start(120, 0, 45)
    for epoch in range(7):
        bar.epoch(epoch, {"loss": 0.5, "accuracy": 0.25, "val_loss": 0.75, "val_accuracy": 0.125, "seconds": 0.5})
    bar.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).replace("\r", "\n").strip().splitlines()[-1]
    assert "7/120 epochs" in shown
    assert "━" in shown
    assert "loss 0.5000" in shown
    assert len(shown) <= width


def test_info():
    found = json.loads(call("info", "--json").stdout)
    assert {"cpu", "vector_bytes", "threads", "cache", "numpy", "chainrule"} <= set(found)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (["digit"], UnknownNameError, "unknown dataset 'digit'. Did you mean 'digits'? Known: digits."),
        (["digits", "--optimizer", "adm"], UnknownNameError, "unknown optimizer 'adm'. Did you mean 'adam'"),
        (["digits", "--activation", "rleu"], UnknownNameError, "unknown activation 'rleu'. Did you mean 'relu'"),
        *(
            (
                ["digits", "--hidden", bad],
                SettingError,
                f"--hidden must be whole numbers of 1 or more such as 128,64, got {bad!r}.",
            )
            for bad in ("a,b", "0", "-5", "10,,5", "1.5")
        ),
        (["digits", "--lr", "-1"], SettingError, "Adam: lr must be a number 0 or more, got -1.0."),
        (["digits", "--lr", "nan"], SettingError, "Adam: lr must be a number 0 or more, got nan."),
        (["digits", "--lr", "inf"], SettingError, "Adam: lr must be a number 0 or more, got inf."),
        (
            ["digits", "--dropout", "nan"],
            SettingError,
            "Dropout: p, the share of elements to drop, must be a number in [0, 1], got nan.",
        ),
        (
            [],
            SettingError,
            "train: name a data set (digits), a file with a table, or a run to repeat with --config RUN/config.json.",
        ),
    ],
)
def test_bad_arguments(arguments, kind, text, tmp_path):
    with pytest.raises(kind) as caught:
        call("train", *arguments, "--out", tmp_path / "run")
    assert str(caught.value).startswith(text)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--epochs", "0", "0 is not in the range x>=1."),
        ("--epochs", "x", "'x' is not a valid integer range."),
        ("--batch-size", "0", "0 is not in the range x>=1."),
        ("--lr", "fast", "'fast' is not a valid float."),
        ("--seed", "-1", "-1 is not in the range 0<=x<=18446744073709551615."),
        ("--seed", "1.5", "'1.5' is not a valid integer range."),
        ("--dropout", "2", "2.0 is not in the range 0<=x<=1."),
        ("--label-smoothing", "-0.1", "-0.1 is not in the range 0<=x<=1."),
        ("--schedule", "step", "'step' is not one of 'cosine', 'waves', 'constant'."),
    ],
)
def test_values_that_an_option_does_not_take(option, value, text):
    result = call("train", "digits", option, value)
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: Invalid value for '{option}': {text}\n")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError) as caught:
        call("train", "digits", *QUICK, "--out", tmp_path / "file" / "run")
    assert str(caught.value) == (
        f"--out {tmp_path / 'file' / 'run'}: cannot be written (Not a directory). Name another folder."
    )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("epochs", "x", "epochs must be a whole number from 1 on, got 'x'. Correct it, or train again."),
        ("batch_size", -1, "batch_size must be a whole number from 1 on, got -1. Correct it, or train again."),
        (
            "schedule",
            "step",
            "schedule must be 'cosine' or 'waves' or 'constant', got 'step'. Correct it, or train again.",
        ),
        ("lr", [1], "lr must be a finite number, got [1]. Correct it, or train again."),
    ],
)
def test_a_configuration_is_held_to_the_options_types(run, name, value, text, tmp_path):
    config = json.loads((run[0] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(DamagedFileError) as caught:
        call("train", "--config", tmp_path / "config.json", "--out", tmp_path / "again")
    assert str(caught.value) == f"{tmp_path / 'config.json'}: {text}"


def test_a_training_that_stops_at_nan_leaves_the_last_good_weights(tmp_path):
    with pytest.raises(NonFiniteError) as caught:
        call("train", "digits", *QUICK, "--optimizer", "sgd", "--lr", "1e30", "--out", tmp_path / "run")
    assert str(caught.value).endswith(
        f"The model keeps the weights from before this step. They are in {tmp_path / 'run'}."
    )
    weights = cr.load(tmp_path / "run" / "model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
    with pytest.raises(
        NonFiniteError, match="the model gives nan for a row of zeros: all weights are finite, the largest"
    ):
        call("evaluate", tmp_path / "run", "--json")  # so large that no class follows from them


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_usable_model(number, tmp_path):
    command = [sys.executable, "-m", "chainrule", "train", "digits", "--hidden", "16", "--epochs", "100000", "--json"]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any(line.split()[1].startswith("2/") for line in process.stderr if line.startswith("epoch"))
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    report = json.loads(out.splitlines()[-1])
    assert report["interrupted"] is True
    measured = json.loads(call("evaluate", tmp_path / "run", "--json").stdout)
    assert measured["accuracy"] == pytest.approx(report["test_accuracy"])


def test_a_run_is_never_overwritten(run):
    folder, _ = run
    with pytest.raises(SettingError) as caught:
        call("train", "digits", *QUICK, "--out", folder)
    assert str(caught.value) == f"--out {folder}: the folder is not empty. Name another one, or remove it."


def test_damaged_runs(run, tmp_path):
    folder, _ = run
    text = f"{folder.parent / 'nothing'}: there is no such run folder. There are: {folder}."
    with pytest.raises(DamagedFileError, match=f"^{re.escape(text)}$"):
        call("evaluate", folder.parent / "nothing")
    with pytest.raises(DamagedFileError, match=r"there is no such run folder\. `chainrule train` makes one\.$"):
        call("evaluate", folder / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DamagedFileError, match="not a readable configuration"):
        call("evaluate", tmp_path / "empty")
    (tmp_path / "rows.npy").write_bytes(b"not an array")
    with pytest.raises(DamagedFileError, match=r"rows\.npy: not a readable \.npy file"):
        call("predict", folder, tmp_path / "rows.npy")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:200])
    with pytest.raises(DamagedFileError, match="not a complete safetensors file"):
        call("evaluate", folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(DamagedFileError, match=r"did not end: it still runs, or it was killed\. Bring it to its end: "):
        call("evaluate", folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(DamagedFileError, match="the configuration lacks activation, batch_size, dataset"):
        call("evaluate", folder)


def test_how_a_table_is_read_is_said_of_tables_alone(run, tmp_path):
    text = "predict: --skip-rows says how a table is read, and this run was not trained on one. Leave it out."
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        call("predict", run[0], tmp_path / "rows.npy", "--skip-rows", 1)
    text = "evaluate: --decimal says how a file of rows is read, and none was given. Name one, or leave it out."
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        call("evaluate", run[0], "--decimal", ",")


ODD = {
    "empty": b"",
    "text": b"1,2,3\n",
    "only the magic": b"\x93NUMPY",
    "cut in the header": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'",
    "a zip": b"PK\x03\x04" + b"\0" * 30,
    "too large": b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 64), }".ljust(117) + b"\n",
    "negative": b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 64), }".ljust(117) + b"\n",
    "objects": b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (3, 64), }".ljust(117) + b"\n",
}  # fmt: skip


@pytest.mark.parametrize("content", ODD)
def test_odd_files_of_rows(run, content, tmp_path):
    (tmp_path / "rows.npy").write_bytes(ODD[content])
    with pytest.raises(DamagedFileError, match=r"rows\.npy: not a readable \.npy file .*Write it with numpy\.save\.$"):
        call("predict", run[0], tmp_path / "rows.npy")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("rows.csv", "numpy.save('rows.npy', numpy.loadtxt('rows.csv', delimiter=','))."),
        ("rows.npz", "numpy.save('rows.npy', numpy.load('rows.npz')['NAME OF THE ARRAY'])."),
    ],
)
def test_other_kinds_of_files_of_rows(run, name, remedy, tmp_path):
    (tmp_path / name).write_bytes(b"1,2,3\n")
    with pytest.raises(DamagedFileError, match=re.escape(f"Make one of it: {remedy}") + "$"):
        call("predict", run[0], tmp_path / name)


@pytest.mark.parametrize("columns", [80, 60, 300])
def test_texts_fit_the_terminal(run, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    commands = (["diagnose"], ["explain"], ["check"], ["info"])
    for command in commands if columns != 80 else commands[1:]:  # a diagnosis takes a second
        arguments = [] if command == ["info"] else [run[0], "1.weight[3, 20]"][: 2 if command == ["explain"] else 1]
        lines = call(*command, *arguments).stdout.splitlines()
        if command == ["explain"]:  # the rows of its tables stay whole
            lines = [line for line in lines if "  " not in line.strip()]
        assert max(len(line) for line in lines if "/" not in line) <= min(columns, 110)


def test_the_threads_say_how_they_are_set():
    said = " ".join(call("info").stdout.split())
    assert "(to change it: CHAINRULE_NUM_THREADS or cr.set_num_threads; OMP_NUM_THREADS is not read)" in said
    assert isinstance(json.loads(call("info", "--json").stdout)["threads"], int)


def test_a_training_that_goes_on_says_from_where(run):
    out = " ".join(call("train", "--resume", run[0]).stdout.split())
    assert (
        "going on after epoch 3, step 0 of 23: the latest checkpoint. What was shown of later ones was not saved" in out
    )


def test_large_losses_have_an_exponent():
    assert [progress.as_text(value) for value in (0.5, 999999.0, 1299128416839808581632.0, float("inf"))] == [
        "0.5000", "999999.0000", "1.2991e+21", "inf",
    ]  # fmt: skip


def test_a_folder_and_no_file_of_rows(run, tmp_path):
    with pytest.raises(DamagedFileError, match="there is no such file|No such file"):
        call("predict", run[0], tmp_path / "none.npy")
    assert call("predict", run[0], tmp_path).exit_code == 2


def test_rows_to_predict_are_converted_and_checked(run, tmp_path):
    def predicted(rows):
        np.save(tmp_path / "rows.npy", rows)
        return call("predict", run[0], tmp_path / "rows.npy").stdout.split()

    rows = cr.data.load("digits").test.X[:20].round()
    expected = predicted(rows)
    assert len(expected) == 20 and set(expected) <= set("0123456789")
    for dtype in (np.int64, np.uint8, np.float64, bool):
        assert predicted(rows.astype(dtype)) == expected
    huge = rows.astype(np.float64)
    huge[3, 7] = -1e300
    with pytest.raises(DataError, match=r"rows\.npy must fit float32, .* got -1e\+300 at row 3, column 7\. Scale"):
        predicted(huge)
    huge[3, 7] = np.nan
    with pytest.raises(
        DataError, match=r"rows\.npy must be finite, got 1 NaN .* first at row 3, column 7\. Drop these rows"
    ):
        predicted(huge)
    for odd, remedy in {
        (64,): "This is one row: save array[None] with numpy.save.",
        (20, 8, 8): "Save array.reshape(-1, 64) with numpy.save.",
        (20, 10): "Save rows with these columns.",
    }.items():
        text = f"rows.npy: each row must have 64 columns, as those of digits, got an array of shape {odd}. {remedy}"
        with pytest.raises(ShapeError, match=re.escape(text) + "$"):
            predicted(np.resize(rows, odd))
    with pytest.raises(DataError, match=r"rows\.npy must have at least one row, got shape \(0, 64\)\. Check"):
        predicted(rows[:0])


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
    assert {v["section"] for v in found["verdicts"]} == {"rules", "functions"}
    result = call("check", run[0], "--rows", "8")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].endswith(" 0 fail, 0 open")
    assert "the compiled step against NumPy" in result.stdout


def test_explain_derives_a_weight_and_its_move(run):
    folder, _ = run
    text = call("explain", folder, "1.weight[3, 20]", "--step", "40").stdout
    assert text.startswith("dL/d 1.weight[3, 20] = ")
    assert "(step 40, float32)" in text
    assert "the stored bits" in " ".join(text.split())
    assert "\n1.weight[3, 20] at step 40: " in text
    assert "The 64 rows of the batch" in text
    found = json.loads(call("explain", folder, "1.weight", "--json").stdout)
    assert found["derivation"]["adds_up"]
    assert found["derivation"]["where"] == "step 68"  # the last
    assert found["ledger"]["name"] == found["derivation"]["name"]
    assert len(found["ledger"]["samples"]) == 5


def test_explain_tells_where_the_gradient_went(run):
    folder, _ = run
    text = call("explain", folder, "1.weight", "--step", "40", "--flow").stdout
    assert "the gradient of 1.weight: 2^" in text
    assert "total if its derivative were one" in text
    found = json.loads(call("explain", folder, "1.weight", "--step", "40", "--flow", "--json").stdout)["flow"]
    assert sum(step["gain"] for step in found["steps"]) == found["total"]
    assert any(step["op"] == "relu" and step["if_one"] > found["total"] for step in found["steps"])


def test_explain_without_a_record(tmp_path):
    folder = tmp_path / "run"
    call("train", "digits", *QUICK, "--out", folder, "--no-record")
    text = (
        f"{folder}: this folder holds no record of a training. Name a run folder that `chainrule train` or "
        f"fit(..., record=folder) wrote."
    )
    with pytest.raises(DamagedFileError, match=f"^{re.escape(text)}$"):
        call("explain", folder, "1.weight[0, 0]")


def test_explain_of_a_step_and_a_weight_that_are_not_there(run):
    folder, _ = run
    text = (
        f"{folder}: the record has the steps 0 to 68 (and 69, which would follow), got 70. "
        f"Name one of them; negative ones count from the end."
    )
    with pytest.raises(ChainruleError, match=f"^{re.escape(text)}$"):
        call("explain", folder, "1.weight[0, 0]", "--step", "70")
    with pytest.raises(UnknownNameError, match="^unknown weight '1.wheight'. Did you mean '1.weight'"):
        call("explain", folder, "1.wheight[0, 0]")


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
    with pytest.raises(DamagedFileError, match="there is no such run folder"):
        call("diagnose", tmp_path / "nothing")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(DamagedFileError, match="not a complete safetensors file"):
        call("diagnose", folder)
