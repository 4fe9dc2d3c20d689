"""A record says which step each row is of, whose it is, and what is missing, whatever was done to its folder."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.errors import BusyError, DamagedFileError, ReplayError, SettingError
from chainrule.explain.runs import Run

X = np.random.default_rng(0).normal(size=(50, 4)).astype("f")
Y = (X[:, 0] > 0).astype(int)


def trainer(lr: float = 0.05) -> cr.Trainer:
    cr.manual_seed(0)
    model = cr.nn.Sequential(cr.nn.Linear(4, 8), cr.nn.Dropout(0.2), cr.nn.Linear(8, 2))
    return cr.Trainer(model, F.cross_entropy, cr.optim.Adam(model.parameters(), lr=lr))


def fit(made: cr.Trainer, epochs: int, **more: Any) -> cr.Trainer:
    made.fit(X, Y, **{"epochs": epochs, "batch_size": 10, "progress": False, "seed": 1, **more})
    return made


def load(folder: Path) -> Run:
    return cr.load_run(folder, trainer(), X, Y)


def bits(values: dict[str, np.ndarray[Any, Any]]) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in values.items()}


@pytest.fixture
def whole(tmp_path: Path) -> Run:
    """A training of 6 epochs of 5 steps, recorded from beginning to end."""
    return fit(trainer(), 6, record=tmp_path / "whole").run


# -- gaps -------------------------------------------------------------------------------------------------


def test_rows_of_a_record_with_a_gap_carry_their_true_numbers(tmp_path: Path, whole: Run) -> None:
    made = fit(trainer(), 2, record=tmp_path / "run")
    fit(made, 4, resume=True)
    fit(made, 6, resume=True, record=tmp_path / "run")
    for run in (made.run, load(tmp_path / "run")):
        assert run.missing == [(10, 20)]
        assert len(run) == 30
        expected = whole.losses.copy()
        expected[10:20] = np.nan
        np.testing.assert_array_equal(run.losses, expected)
        assert "30 steps from step 0 on, 10 of them missing, loss" in repr(run)
        for step in (3, 9, 20, 29):
            assert run.at(step).proved
            assert bits(run.at(step).after) == bits(whole.at(step).after)
        text = (
            f"{tmp_path / 'run'}: the steps 10 to 19 are missing in the record: they were trained without it, or a failure "
            f"of the disk took them. Ask for a step before or after them."
        )
        for step in (10, 15, 19, -12):
            with pytest.raises(ReplayError, match=f"^{re.escape(text)}$"):
                run.at(step)
        found = run.first(lambda moment: moment.step >= 12)
        assert found is not None and found.step == 20
        with pytest.raises(ReplayError, match="are missing in the record"):
            run.what_if(8, steps=5, lr=0.1)


def test_a_page_of_a_record_with_a_gap(tmp_path: Path) -> None:
    made = fit(trainer(), 2, record=tmp_path / "run")
    fit(made, 4, resume=True)
    fit(made, 6, resume=True, record=tmp_path / "run")
    assert "<html" in made.report().html


def test_through_a_gap_nothing_is_replayed(tmp_path: Path) -> None:
    made = fit(trainer(), 2, record=tmp_path / "run")
    fit(made, 4, resume=True)
    fit(made, 6, resume=True, record=tmp_path / "run")
    record = made.run.record
    for step in record.checkpoints():
        if step > 10:
            record.checkpoint(step).unlink()
    with pytest.raises(ReplayError, match="the steps 10 to 19 are missing in the record"):
        load(tmp_path / "run").at(25)


def test_rows_that_a_power_failure_took_are_missing_and_no_others_stand_in_their_place(
    tmp_path: Path, whole: Run
) -> None:
    made = fit(trainer(), 4, record=tmp_path / "run")
    made.save(tmp_path / "saved")
    path = tmp_path / "run" / "record" / "steps.bin"
    path.write_bytes(path.read_bytes()[: 40 * 13 + 7])  # shorter than the last checkpoint, and a row cut in two
    again = trainer()
    again.load(tmp_path / "saved")
    run = fit(again, 6, resume=True, record=tmp_path / "run").run
    assert run.missing == [(13, 20)]
    known = np.r_[0:13, 20:30]
    np.testing.assert_array_equal(run.losses[known], whole.losses[known])
    assert bits(run.at(29).after) == bits(whole.at(29).after)


def test_rows_beyond_the_step_that_a_resume_goes_on_from_are_recorded_anew(tmp_path: Path, whole: Run) -> None:
    half = fit(trainer(), 2)
    half.save(tmp_path / "saved")
    fit(trainer(), 4, record=tmp_path / "run")
    again = trainer()
    again.load(tmp_path / "saved")
    run = fit(again, 6, resume=True, record=tmp_path / "run").run
    assert run.missing == []
    np.testing.assert_array_equal(run.losses, whole.losses)


def test_a_resume_from_before_the_first_recorded_step(tmp_path: Path, whole: Run) -> None:
    made = fit(trainer(), 2)
    made.save(tmp_path / "saved")
    fit(made, 4, resume=True)
    fit(made, 6, resume=True, record=tmp_path / "run")
    assert made.run.first_step == 20
    again = trainer()
    again.load(tmp_path / "saved")
    run = fit(again, 6, resume=True, record=tmp_path / "run").run
    assert (run.first_step, run.missing) == (10, [])
    np.testing.assert_array_equal(run.losses, whole.losses[10:])


@pytest.mark.parametrize("tail", [b"\0" * 400, b"\0" * 17, b"x" * 39])
def test_what_a_disk_leaves_behind_the_last_row_counts_for_nothing(whole: Run, tail: bytes) -> None:
    path = whole.record.root / "steps.bin"
    path.write_bytes(path.read_bytes() + tail)
    found = load(whole.record.folder)
    np.testing.assert_array_equal(found.losses, whole.losses)


def test_half_a_last_line_of_settings_counts_for_nothing(whole: Run) -> None:
    path = whole.record.root / "settings.jsonl"
    settings = whole.record.settings()
    for tail in (b'{"step": 12, "gro', b"\0" * 100, b'{"step": 12}', b"\xff"):
        path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n" + tail)
        assert load(whole.record.folder).record.settings() == settings


# -- whose it is ------------------------------------------------------------------------------------------


def test_a_record_that_another_training_began_is_not_gone_on_with(tmp_path: Path) -> None:
    fit(trainer(), 2, record=tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run" / "record").iterdir() if path.is_file()}
    other = fit(trainer(lr=0.01), 2)
    text = f"fit: record='{tmp_path / 'run'}' holds the record of another training already. Name a new folder."
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        fit(other, 4, resume=True, record=tmp_path / "run")
    assert before == {
        path.name: path.read_bytes() for path in (tmp_path / "run" / "record").iterdir() if path.is_file()
    }
    assert other.history.epochs == 2
    assert fit(other, 4, resume=True, record=tmp_path / "new").run.first_step == 10


def test_other_rows_are_not_gone_on_with(tmp_path: Path) -> None:
    made = fit(trainer(), 2, record=tmp_path / "run")
    made.save(tmp_path / "t")
    made.load(tmp_path / "t")
    made.session.contents = None  # as after a file of an older version: only the record knows the rows
    with pytest.raises(SettingError, match=r"is of other rows \(their hash differs\)"):
        made.fit(X + 1, Y, epochs=4, batch_size=10, seed=1, progress=False, resume=True, record=tmp_path / "run")


def test_a_training_is_known_again_in_another_process_as_it_were(tmp_path: Path, whole: Run) -> None:
    made = fit(trainer(), 2, record=tmp_path / "run")
    made.save(tmp_path / "saved")
    again = trainer()
    again.load(tmp_path / "saved")
    run = fit(again, 6, resume=True, record=tmp_path / "run").run
    np.testing.assert_array_equal(run.losses, whole.losses)
    assert json.loads((tmp_path / "run" / "record" / "record.json").read_text())["training"] == again.session.identity


def test_trainings_that_began_alike_are_one(tmp_path: Path) -> None:
    one, two = fit(trainer(), 1), fit(trainer(), 2)
    assert one.session.identity == two.session.identity
    others = [fit(trainer(lr=0.02), 1), fit(trainer(), 1, seed=2), fit(trainer(), 1, shuffle=False)]
    assert len({t.session.identity for t in [one, *others]}) == 4
    assert fit(one, 1).session.identity != two.session.identity  # begun with the weights that it had then


def test_a_folder_in_which_a_record_could_not_begin_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "run" / "record" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "record" / "steps.bin").write_bytes(b"left over" * 100)
    assert fit(trainer(), 1, record=tmp_path / "run").run.at(4).proved


# -- damage -----------------------------------------------------------------------------------------------


def rewrite(path: Path, **changed: Any) -> None:
    found = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not ...}))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"first": -1}, "first must be a whole number from 0 on, got -1."),
        ({"first": 1}, "steps.bin: row 0 says that it is of step 0, which it cannot be."),
        ({"groups": 0}, "groups must be a whole number from 1 to 10000, got 0."),
        ({"groups": 10**9}, "groups must be a whole number from 1 to 10000, got 1000000000."),
        ({"rows": "many"}, "rows must be a whole number from 1 on, got 'many'."),
        ({"rows": 10**15}, "rows must be 50, as many as the data have, got 1000000000000000."),
        ({"batch_size": 51}, "batch_size must be a whole number from 1 to 50, got 51."),
        ({"batch_size": True}, "batch_size must be a whole number from 1 to 50, got True."),
        ({"seed": 2**64}, "seed must be a whole number from 0 to"),
        ({"shuffle": 1}, "shuffle must be true or false, got 1."),
        ({"data": None}, "data must be a text, got None."),
        ({"training": ...}, "training is missing."),
        ({"format": ["x" * 1000]}, "the record has the format ['xxxx"),
    ],
)
def test_a_head_that_holds_what_cannot_be(whole: Run, changed: dict[str, Any], text: str) -> None:
    rewrite(whole.record.root / "record.json", **changed)
    with pytest.raises(DamagedFileError, match=re.escape(text)):
        load(whole.record.folder).at(0)


@pytest.mark.parametrize("step", [-5, 3, 10**12, 2**63 - 1, -(2**63)])
def test_rows_of_steps_that_cannot_be(whole: Run, step: int) -> None:
    path = whole.record.root / "steps.bin"
    rows = np.frombuffer(path.read_bytes(), whole.record.row_type).copy()
    rows["step"][-1] = step
    path.write_bytes(rows.tobytes())
    with pytest.raises(DamagedFileError, match=r"which it cannot be|steps are missing"):
        load(whole.record.folder)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ({"groups": []}, "groups must be a list of 1, got []"),
        ({"groups": [{"lr": "fast"}]}, "groups: lr must be a finite number, got 'fast'"),
        ({"groups": 7}, "groups must be a list of the settings of each group, got 7"),
        ({"groups": [{"lr": 0.1, "betas": "two"}]}, "groups[0]: betas must be like (0.9, 0.999), got 'two'"),
        ({"modules": {"model.1": {"p": []}}}, "modules: model.1: p must be like 0.2, got []"),
        ({"trained": {"model.0.weight": "yes"}}, "trained: model.0.weight must be true or false, got 'yes'"),
        ({"max_norm": -1}, "max_norm must be a number above 0, or null, got -1"),
        ({"else": 1}, "nothing is known of ['else']"),
        ({"step": "first"}, "step must be a whole number from 0 on, got 'first'"),
        ({"step": None}, "step must be a whole number"),
    ],
)
def test_settings_that_cannot_be(whole: Run, line: dict[str, Any], text: str) -> None:
    path = whole.record.root / "settings.jsonl"
    found = {**json.loads(path.read_text().splitlines()[0]), **line}
    path.write_text(json.dumps(found) + "\n")
    made = trainer()
    with pytest.raises(DamagedFileError, match=re.escape(text)):
        cr.load_run(whole.record.folder, made, X, Y).at(3)
    assert all(p.grad is None for p in made.model.parameters())


@pytest.mark.parametrize("name", ["²", "9" * 5000, "-0000001", "x"])
def test_files_among_the_checkpoints_that_are_none(whole: Run, name: str) -> None:
    try:
        (whole.record.root / "checkpoints" / f"{name}.safetensors").touch()
    except OSError:
        pytest.skip("no file can have this name")
    assert load(whole.record.folder).at(3).proved


@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")
@pytest.mark.parametrize("name", ["record.json", "settings.jsonl", "steps.bin", "checkpoints/00000000.safetensors"])
def test_a_pipe_in_the_place_of_a_file_does_not_hang(whole: Run, name: str) -> None:
    shutil.rmtree(whole.record.root / "checkpoints")
    (whole.record.root / "checkpoints").mkdir()
    path = whole.record.root / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises((DamagedFileError, ReplayError), match="it is a pipe"):
        load(whole.record.folder).at(3)


# -- two at once ------------------------------------------------------------------------------------------


def test_a_second_fit_of_a_trainer_that_is_fitting_is_one_clear_error() -> None:
    made, caught = trainer(), []
    begun, go_on = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        begun.set()
        assert go_on.wait(30)

    first = threading.Thread(target=lambda: fit(made, 2, callbacks=[wait]), name="first")
    first.start()
    assert begun.wait(30)
    for action, who in ((lambda: fit(made, 6), "fit"), (lambda: made.load("nothing"), "load")):
        with pytest.raises(BusyError) as error:
            action()
        caught.append(str(error.value))
        assert caught[-1] == (
            f"{who}: this trainer is in the middle of fit in thread 'first'. Wait for its end, or give each thread a trainer "
            f"and a model of its own."
        )
    go_on.set()
    first.join()
    assert made.history.epochs == 2
    assert fit(made, 3).history.epochs == 3  # and free again


def test_a_fit_within_a_fit_too() -> None:
    made = trainer()
    with pytest.raises(BusyError, match=r"^fit: this trainer is in the middle of fit in thread 'MainThread'\."):
        fit(made, 2, callbacks=[lambda *_: fit(made, 1)])
    assert fit(made, 2).history.epochs == 2


def test_a_copy_of_a_trainer_that_is_fitting_is_free() -> None:
    made = trainer()
    seen: list[bool] = []

    def look(trainer: cr.Trainer, *_: Any) -> None:
        with pytest.raises(BusyError), trainer.session.held("another", nested=False):
            pass
        other = copy.copy(trainer.session)
        with other.held("a copy", nested=False):
            seen.append(True)

    fit(made, 1, callbacks=[look])
    assert seen == [True]


def test_looking_back_within_a_callback_is_allowed(tmp_path: Path) -> None:
    made, seen = trainer(), []
    fit(made, 2, record=tmp_path / "run", callbacks=[lambda t, *_: seen.append(t.run.at(2).proved)])
    assert seen == [True, True]
    np.testing.assert_array_equal(fit(trainer(), 2, record=True).run.losses, made.run.losses)


@pytest.mark.parametrize(
    ("name", "though"),
    [("steps.bin", "there are checkpoints of later steps"), ("settings.jsonl", "steps are recorded")],
)
def test_a_file_that_is_gone_is_named(tmp_path: Path, name: str, though: str) -> None:
    fit(trainer(), 2, record=tmp_path)
    load(tmp_path)
    (tmp_path / "record" / name).unlink()
    text = f"{tmp_path / 'record' / name}: there is no such file, though {though}. Copy the run again, or train again."
    with pytest.raises(DamagedFileError, match=f"^{re.escape(text)}$"):
        load(tmp_path)
