"""Successive halving: ever fewer trainings go on for ever more epochs, each with the bits of one of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.callbacks import EarlyStopping
from chainrule.errors import SettingError, UnknownNameError
from chainrule.training import Trainer

rng = np.random.default_rng(1)
X = rng.normal(size=(70, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)
RATES = [0.001, 0.1, 0.0001, 0.03, 0.01, 0.3, 0.0003]
WORKERS = [{"threads": 1}, {"threads": 2}, {"processes": 2}]


def build(lr=0.01, seed=0):
    cr.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = optim.Adam(model.parameters(), lr=lr)
    return Trainer(model, "cross_entropy", optimizer, scheduler=optim.lr_scheduler.StepLR(optimizer, 4, 0.5))


def bits(trainer):
    return b"".join(t.detach().numpy().tobytes() for t in trainer.session.named().values())


def sweep(**options):
    return cr.sweep(
        build, {"lr": RATES}, X, y, **{"epochs": 9, "batch_size": 32, "validation_split": 0.3, "halving": 3, **options}
    )


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kept", [False, True])
def test_those_that_go_on_have_the_bits_of_trainings_of_their_own(workers, kept, tmp_path):
    found = sweep(**workers, **({"folder": tmp_path / "runs"} if kept else {}))
    whole = cr.sweep(build, {"lr": RATES}, X, y, epochs=9, batch_size=32, validation_split=0.3)
    left = list(range(7))
    expected = dict.fromkeys(left, 1)
    for epochs, count in ((3, 3), (9, 1)):
        before = 1 if epochs == 3 else 3
        left = sorted(sorted(left, key=lambda i: whole.histories[i]["val_loss"][before - 1])[:count])
        expected.update(dict.fromkeys(left, epochs))
    assert [h.epochs for h in found.histories] == [expected[i] for i in range(7)]
    assert found.finalists == left and found.best() == left[0]
    assert bits(found[left[0]]) == bits(whole[left[0]])
    for history, all_of_it in zip(found.histories, whole.histories, strict=True):
        assert history["val_loss"] == all_of_it["val_loss"][: history.epochs]
        assert history["lr"] == all_of_it["lr"][: history.epochs]


@pytest.mark.parametrize(("workers", "kept"), [({"threads": 1}, False), ({"threads": 2}, True)])
def test_trainings_on_rows_of_their_own_go_on_with_them(workers, kept, tmp_path):
    """A seed in the configuration splits the rows anew, and weights may be of one training."""
    configs = [
        {"lr": lr, "seed": seed, "sample_weight": np.full(70, 1.0 + seed)} for lr in (0.003, 0.03) for seed in range(4)
    ]
    options = {"epochs": 9, "batch_size": 32, "validation_split": 0.3}
    folder = {"folder": tmp_path / "runs"} if kept else {}
    found = cr.sweep(build, configs, X, y, **options, halving=cr.Halving(2, min_epochs=2), **workers, **folder)
    assert found.errors == {} and [h.epochs for h in found.histories].count(9) == 2
    for number in found.finalists:
        alone = build(configs[number]["lr"], configs[number]["seed"])
        alone.fit(X, y, seed=configs[number]["seed"], sample_weight=configs[number]["sample_weight"], **options)
        assert bits(alone) == bits(found[number])


def test_rounds_and_sizes():
    halving = cr.Halving(2, min_epochs=4)
    assert halving.rounds(30) == [7, 15, 30] and halving.rounds(3) == [3] and halving.rounds(8) == [4, 8]
    assert halving.sizes(5, 4) == [5, 3, 2, 1]


def test_a_training_that_ended_early_stays_ended():
    stopping = EarlyStopping(patience=1, min_delta=10, restore_best_weights=True)
    found = sweep(callbacks=[stopping], threads=2)
    assert found.histories[found.best()].epochs == 2


def test_a_folder_goes_on_after_death_with_the_same_bits(tmp_path):
    code = f"""
import os, signal
from tests.training.test_halving import sweep
def progress(done, of):
    if done == 9:
        os.kill(os.getpid(), signal.SIGKILL)
sweep(folder={str(tmp_path / "runs")!r}, progress=progress, threads=1)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "src"}
    )
    assert ended.returncode == -signal.SIGKILL
    again, whole = sweep(folder=tmp_path / "runs"), sweep()
    assert [h.epochs for h in again.histories] == [h.epochs for h in whole.histories]
    assert [bits(t) for t in again] == [bits(t) for t in whole]


def test_nan_is_the_worst():
    histories = {}
    for number, value in enumerate([0.5, float("nan"), 0.7, 0.6]):
        histories[number] = cr.training.History()
        histories[number].add({"val_loss": value})
    assert cr.Halving().best(histories, 3) == [0, 2, 3]
    assert cr.Halving(mode="max").best(histories, 2) == [2, 3]


def test_ctrl_c_ends_the_round_and_the_sweep():
    def progress(done, of):
        assert of == 11
        if done == 3:
            raise KeyboardInterrupt

    found = sweep(threads=1, progress=progress)
    assert found.interrupted and [h.epochs for h in found.histories if h is not None] == [1, 1, 1, 1]


def test_one_that_fails_is_out():
    found = cr.sweep(
        build, {"lr": [0.01, 1e30, 0.1, 0.02]}, X, y, epochs=4, batch_size=32, halving=cr.Halving(2, monitor="loss")
    )
    assert list(found.errors) == [1] and 1 not in found.finalists and len(found.finalists) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"halving": "3"}, "sweep: halving must be a Halving, or its factor, got '3'. Pass cr.Halving(3)."),
        ({"halving": 1}, "Halving: factor must be a whole number, 2 or more, got 1."),
        ({"epochs": 0}, "sweep: epochs must be a whole number, 1 or more, got 0."),
        (
            {"checkpoint": "there"},
            "sweep: checkpoint is of one training. Keep those of a sweep in a folder: folder=...",
        ),
        ({"resume": True}, "sweep: resume is of one training. Keep those of a sweep in a folder: folder=..."),
    ],
)
def test_arguments_that_cannot_be(options, text):
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        sweep(**options)


def test_epochs_are_those_of_the_last_round():
    for configs, options in (({"lr": [0.1], "epochs": [3]}, {"epochs": 3}), ({"lr": [0.1]}, {})):
        with pytest.raises(SettingError, match="halving= says how many epochs each training gets"):
            cr.sweep(build, configs, X, y, halving=2, **options)


def test_what_is_watched_must_be_measured():
    with pytest.raises(UnknownNameError, match="unknown measure 'val_loss'"):
        sweep(validation_split=None)


def test_a_folder_of_other_arguments_or_rows_is_refused(tmp_path):
    sweep(folder=tmp_path / "runs")
    for other in ({"epochs": 27}, {"halving": 2}, {"batch_size": 16}):
        with pytest.raises(SettingError, match="is of other configurations, arguments of fit or rows"):
            sweep(folder=tmp_path / "runs", **other)
    with pytest.raises(SettingError, match="is of other configurations, arguments of fit or rows"):
        cr.sweep(
            build,
            {"lr": RATES},
            X + 1,
            y,
            epochs=9,
            batch_size=32,
            validation_split=0.3,
            halving=3,
            folder=tmp_path / "runs",
        )


def test_the_table_shows_the_best_first():
    found = sweep(threads=1)
    with pytest.raises(IndexError, match="^sweep: there are 7 trainings, numbers 0 to 6, got 7.$"):
        found[7]
    lines = found.show("val_loss").splitlines()
    assert lines[0].split() == ["training", "lr", "epochs", "loss", "val_loss", "seconds"]
    assert found.table()[0]["lr"] == RATES[0]  # the configuration's, not what a schedule made of it
    assert lines[2].split()[0] == str(found.best()) and len(lines) == 2 + len(found.finalists)


def test_pictures_and_frames(tmp_path):
    pytest.importorskip("matplotlib")
    pandas = pytest.importorskip("pandas")
    found = sweep(threads=1)
    figure = found.plot(path=tmp_path / "sweep.png")
    lines = figure.axes[0].lines
    assert len(lines) == 7 and (tmp_path / "sweep.png").stat().st_size > 1000
    front = max(lines, key=lambda line: line.get_zorder())
    assert front.get_label() == f"best: {found.best()}" and len(front.get_xdata()) == 9
    frame = found.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and frame.loc[found.best(), "lr"] == RATES[found.best()]
