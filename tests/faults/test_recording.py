"""Every call to the system that a recorded training makes fails once, or ends the process.

The training's own result is the one without a record; what the record then holds is true, and it can be gone on with.
"""

from __future__ import annotations

import errno
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.errors import DamagedFileError, ReplayError, UnwritableFileError
from chainrule.training import record as recording
from tests.faults.injection import Faults, ended, injected

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="faults are put into the calls of POSIX"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

X = np.random.default_rng(0).normal(size=(40, 4)).astype("f")
Y = (X[:, 0] > 0).astype(int)
EPOCHS, STEPS = 4, 5


def trainer() -> cr.Trainer:
    cr.manual_seed(0)
    model = cr.nn.Sequential(cr.nn.Linear(4, 6), cr.nn.Dropout(0.2), cr.nn.Linear(6, 2))
    adam = cr.optim.Adam(model.parameters(), lr=0.05)
    return cr.Trainer(model, F.cross_entropy, adam, scheduler=cr.optim.lr_scheduler.StepLR(adam, 1, 0.7))


def fit(made: cr.Trainer, epochs: int = EPOCHS, **more: Any) -> cr.Trainer:
    made.fit(X, Y, epochs=epochs, batch_size=8, progress=False, **more)
    return made


def result(made: cr.Trainer) -> tuple[bytes, list[float]]:
    weights = b"".join(p.detach().numpy().tobytes() for p in made.model.parameters())
    return weights, made.history["loss"]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A checkpoint after every native call, and few of them kept, so that some go."""
    monkeypatch.setattr(recording, "EVERY", -1e9)
    monkeypatch.setattr(recording, "SHARE", 1e9)
    monkeypatch.setattr(recording, "MOST", 3)
    before = cr.get_num_threads()
    cr.set_num_threads(1)
    yield
    cr.set_num_threads(before)


@pytest.fixture
def expected(often: None) -> tuple[bytes, list[float], np.ndarray[Any, Any]]:
    made = fit(trainer(), record=True)
    assert result(fit(trainer())) == result(made)
    return (*result(made), made.run.losses)


def look(folder: Path, losses: np.ndarray[Any, Any]) -> int:
    """How many steps the record in a folder holds; all of them true, and any of them can be brought back."""
    run = cr.load_run(folder, trainer(), X, Y)
    known = run.replay.log["known"]
    np.testing.assert_array_equal(run.losses[known], losses[run.first_step :][: len(run)][known])
    if len(run):
        assert run.at(len(run) - 1).proved
    return len(run)


ALL = pytest.param(1, marks=pytest.mark.hunt)  # each call; a thirteenth of them where there is less time


@pytest.mark.parametrize("every", [ALL, 13])
@pytest.mark.parametrize(
    ("how", "code"),
    [("fails", errno.ENOSPC), ("fails", errno.EIO), ("fails afterwards", errno.EIO), ("short", errno.ENOSPC)],
)
def test_a_failing_disk_ends_the_record_and_not_the_training(
    tmp_path: Path, expected: tuple[bytes, list[float], np.ndarray[Any, Any]], how: str, code: int, every: int
) -> None:
    *result_expected, losses = expected
    made, counted = trainer(), {"not begun": 0, "ended early": 0, "whole": 0}
    begun = made.session.now()
    for number in range(0, 2000, every):
        folder = tmp_path / f"{number}"
        made.session.go_to(begun)
        faults = Faults(number, how, code)
        with warnings.catch_warnings(record=True) as caught, injected(faults):
            warnings.simplefilter("always")
            try:
                fit(made, record=folder)
                began = True
            except (UnwritableFileError, DamagedFileError):
                began = False
        if began:
            assert list(result(made)) == result_expected
            early = any("can no longer be written" in str(warning.message) for warning in caught)
            counted["ended early" if early else "whole"] += 1
            steps = look(folder, losses)
            assert steps == len(losses) or early
        else:
            counted["not begun"] += 1
            assert made.history.epochs == 0  # as it was, so that it can begin elsewhere
        if not faults.happened:
            break
        shutil.rmtree(folder, ignore_errors=True)
    else:
        raise AssertionError("it never ends")
    print(how, errno.errorcode[code], counted)
    assert counted["ended early"] > 40 / every
    assert not list((folder / "record" / "checkpoints").glob(".*"))


@pytest.mark.parametrize("every", [ALL, 29])  # what died goes on in a new training, which takes longer
@pytest.mark.parametrize("how", ["dies", "dies afterwards"])
def test_a_killed_training_goes_on_from_its_record_to_the_same_bits(
    tmp_path: Path, expected: tuple[bytes, list[float], np.ndarray[Any, Any]], how: str, every: int
) -> None:
    *result_expected, losses = expected
    warm = fit(trainer(), record=True)  # compiled and imported, so that a child does little
    begun = trainer()
    begun.session.programs = {}
    counted = {"nothing yet": 0, "gone on with": 0}
    del warm
    for number in range(0, 2000, every):
        folder = tmp_path / f"{number}"
        child = trainer()
        status = ended(lambda child=child, folder=folder: fit(child, record=folder), Faults(number, how))
        assert status in (0, -9)
        again = trainer()
        try:
            look(folder, losses)
            last = recording.Record(folder).checkpoints()[-1]
            again.load(recording.Record(folder).checkpoint(last))
            fit(again, record=folder, resume=True)
            counted["gone on with"] += 1
        except (DamagedFileError, ReplayError, IndexError):  # killed before its first checkpoint
            assert not list((folder / "record" / "checkpoints").glob("0*"))
            shutil.rmtree(folder, ignore_errors=True)
            fit(again, record=folder)
            counted["nothing yet"] += 1
        assert list(result(again)) == result_expected
        assert look(folder, losses) == len(losses)
        left = [path.name for path in (folder / "record").rglob(".*")]
        assert left == []
        shutil.rmtree(folder)
        if status == 0:
            break
    else:
        raise AssertionError("it never ends")
    print(how, counted)
    assert counted["nothing yet"] and counted["gone on with"] > 100 / every
