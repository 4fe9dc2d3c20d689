"""Checkpoint, and fit(checkpoint=): a training that ends anywhere goes on to the same bits."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import Callback, Checkpoint, EarlyStopping
from chainrule.errors import BusyError, DamagedFileError, DataError, SettingError, StateDictError
from chainrule.training import Trainer, load_file

rng = np.random.default_rng(0)
X = rng.standard_normal((103, 6)).astype(np.float32)
y = (X[:, 0] + rng.standard_normal(103) > 0).astype(np.int64)
HELD_OUT = X[:40], rng.integers(0, 2, 40)


def make(seed=0, hidden=16):
    cr.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 2))
    return Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.02), ["accuracy"])


def fit(trainer, epochs=30, rows=(X, y), **options):
    options = {"validation_data": HELD_OUT, "progress": False, "batch_size": 16, **options}
    return trainer.fit(*rows, epochs, **options)


def bits(trainer):
    return [handle._node.value.tobytes() for handle in trainer.session.handles()]


def measures(trainer):
    return {name: column for name, column in trainer.history.items() if name != "seconds"}


class Dying(Callback):
    """Raises at a pause, as a crash would."""

    def __init__(self, pause):
        self.left = pause

    def on_pause(self, trainer):
        self.left -= 1
        if not self.left:
            raise RuntimeError("on purpose")


@pytest.fixture
def small_pieces(monkeypatch):
    """Native calls of at most five steps, so that there are pauses in the middle of epochs; a file at each."""
    monkeypatch.setattr("chainrule.training.steps.StepProgram.took", lambda self, *_: setattr(self, "chunk", 5))
    monkeypatch.setattr("chainrule.training.callbacks.checkpoint.SECONDS", 0.0)


@pytest.mark.parametrize("pause", [1, 2, 3, 17])
def test_the_same_call_goes_on_after_a_death_in_the_middle_of_an_epoch(tmp_path, small_pieces, pause):
    whole, stopped, folder = make(), make(), tmp_path / "kept"

    def stopping():
        return EarlyStopping(patience=100, restore_best_weights=True)

    fit(whole, callbacks=[stopping()])
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(stopped, checkpoint=folder, callbacks=[stopping(), Dying(pause)])
    for _ in range(2):
        again = make(seed=5)
        fit(again, checkpoint=folder, callbacks=[stopping()])
        assert bits(again) == bits(whole)
        assert measures(again) == measures(whole)


def test_the_newest_files_stay(tmp_path, small_pieces):
    checkpoint = Checkpoint(tmp_path, keep=3)
    trainer = make()
    fit(trainer, 10, callbacks=[checkpoint])
    names = sorted(os.listdir(tmp_path))
    assert len(names) == 3
    assert names[-1] == f"last-{trainer.history.steps:08d}.safetensors" == checkpoint.latest.name


def test_a_file_after_every_so_many_epochs(tmp_path):
    fit(make(), 10, callbacks=[Checkpoint(tmp_path, every=4, keep=None)])
    assert sorted(os.listdir(tmp_path)) == [f"last-{7 * epoch:08d}.safetensors" for epoch in (4, 8, 10)]


def test_a_damaged_file_is_passed_over(tmp_path, small_pieces):
    whole, stopped = make(), make()
    fit(whole)
    fit(stopped, 12, checkpoint=tmp_path)
    newest = max(tmp_path.iterdir())
    data = bytearray(newest.read_bytes())
    data[-3] ^= 1
    newest.write_bytes(data)
    again = make(seed=5)
    with pytest.warns(UserWarning, match=r"bits have changed .* The training goes on from the checkpoint before it\."):
        fit(again, checkpoint=tmp_path)
    assert bits(again) == bits(whole)
    for path in tmp_path.iterdir():
        path.write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="goes on from the checkpoint before"), pytest.raises(DamagedFileError):
        fit(make(), checkpoint=tmp_path)


def test_rows_that_changed_are_noticed(tmp_path):
    fit(make(), 3, checkpoint=tmp_path)
    changed = X.copy()
    changed[50, 2] += 1e-3
    trainer = make(seed=5)
    before = bits(trainer)
    for options in ({"rows": (changed, y)}, {"validation_data": (changed[40:80], HELD_OUT[1])}):
        with pytest.raises(DataError) as caught:
            fit(trainer, checkpoint=tmp_path, **options)
        assert str(caught.value) == (
            f"fit: checkpoint={str(tmp_path)!r} holds a training on other rows (their hash differs): the data, or how they "
            f"are prepared, have changed since. Go on with the rows that it was begun with, or name a new folder."
        )
    assert bits(trainer) == before
    assert trainer.position is None


def test_other_arguments_are_refused(tmp_path):
    fit(make(), 3, checkpoint=tmp_path)
    trainer = make(seed=5)
    before = bits(trainer)
    with pytest.raises(SettingError) as caught:
        fit(trainer, checkpoint=tmp_path, batch_size=10)
    assert str(caught.value) == (
        f"fit: checkpoint={str(tmp_path)!r} goes on exactly, so batch_size must be as before (16), got 10. "
        f"Use the same data and arguments, or name a new folder."
    )
    with pytest.raises(StateDictError):
        fit(make(hidden=8), checkpoint=tmp_path)
    assert bits(trainer) == before


def test_a_new_training_does_not_write_among_the_files_of_another(tmp_path):
    fit(make(), 3, callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(SettingError, match="holds 2 files of an earlier training"):
        fit(make(), 3, callbacks=[Checkpoint(tmp_path)])


def test_nor_do_the_best_weights(tmp_path):
    fit(make(), 1, callbacks=[Checkpoint(tmp_path, save="best", monitor="loss")])
    text = (
        f"Checkpoint: {str(tmp_path)!r} holds 1 file of an earlier training. Take away those of weights that are no longer wanted "
        f"(best-*.safetensors), or name a new folder."
    )
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        fit(make(), 1, callbacks=[Checkpoint(tmp_path, save="best", monitor="loss")])


def test_the_best_file_holds_the_weights_of_the_best_epoch(tmp_path):
    seen = {}

    def look(trainer, epoch, measured):
        seen[epoch] = {name: value.numpy().copy() for name, value in trainer.model.state_dict().items()}

    one, other = (Checkpoint(tmp_path / name, save="best") for name in ("one", "other"))
    fit(make(), 60, callbacks=[one])
    fit(make(), 60, callbacks=[other, look])
    assert one.best_epoch == other.best_epoch < 60
    found, about = load_file(one.latest)
    assert about == {"epoch": one.best_epoch, "monitor": "val_loss", "value": one.best}
    model = make(seed=9).model
    model.load_state_dict(found)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), seen[one.best_epoch][name])


def test_the_best_file_reads_in_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    load = pytest.importorskip("safetensors.torch").load_file
    checkpoint = Checkpoint(tmp_path, save="best", monitor="val_accuracy")
    trainer = make()
    fit(trainer, 5, callbacks=[checkpoint, EarlyStopping("val_accuracy", patience=9, restore_best_weights=True)])
    theirs = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 2)
    ).eval()
    theirs.load_state_dict(load(checkpoint.latest))
    with torch.no_grad():
        np.testing.assert_allclose(theirs(torch.tensor(X)).numpy(), trainer.predict(X), rtol=1e-4, atol=1e-6)


def test_what_cannot_be_written_is_warned_of_and_the_training_goes_on(tmp_path, monkeypatch):
    whole, hindered = make(), make()
    fit(whole, 5)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match=r"No space left.*The training goes on without this file\."):
        fit(hindered, 5, callbacks=[Checkpoint(tmp_path)])
    assert bits(hindered) == bits(whole)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"save": "worst"}, "Checkpoint: save must be 'last' or 'best', got 'worst'."),
        ({"every": 0}, "Checkpoint: every must be a whole number, 1 or more, got 0."),
        ({"keep": 0}, "Checkpoint: keep must be a whole number, 1 or more, got 0."),
        (
            {"every": 1, "seconds": 2},
            "Checkpoint: the last are saved every so many epochs (every=) or seconds (seconds=), and the best when they come; "
            "got save='last', every=1, seconds=2. Leave one of them out.",
        ),
    ],
)
def test_what_it_cannot_be_given(tmp_path, options, text):
    with pytest.raises(SettingError) as caught:
        Checkpoint(tmp_path, **options)
    assert str(caught.value) == text


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder, why in (
        (tmp_path / "file", "Not a directory"),
        (tmp_path / "file" / "below", "Not a directory"),
        (tmp_path / "link", "a link that leads nowhere"),
    ):
        with pytest.raises(SettingError) as caught:
            fit(make(), 2, checkpoint=folder)
        assert str(caught.value) == (
            f"Checkpoint: {str(folder)!r} must be a folder, or the path where one can be made ({why}). Name another."
        )
    for name in ("", "a\0b", 3):
        with pytest.raises(SettingError, match="Checkpoint: the folder must be the path of one"):
            fit(make(), 2, checkpoint=name)


def test_what_somebody_put_there_does_not_count_among_those_kept(tmp_path, small_pieces):
    trainer = make()
    fit(trainer, 3, checkpoint=tmp_path)
    (tmp_path / "last-99999999.safetensors").write_bytes(b"junk")
    with pytest.warns(UserWarning, match="goes on from the checkpoint before it"):
        fit(trainer, 6, checkpoint=tmp_path)
    steps = trainer.history.steps
    kept = sorted(path.name for path in tmp_path.glob("last-*"))
    assert len(kept) == 3
    assert kept[-2:] == [f"last-{steps:08d}.safetensors", "last-99999999.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="no such locks there")
def test_two_trainings_do_not_write_to_one_folder_at_once(tmp_path):
    class Another(Callback):
        def on_pause(self, trainer):
            with pytest.raises(BusyError, match="another training writes to"):
                fit(make(), 2, checkpoint=tmp_path)

    fit(make(), 3, checkpoint=tmp_path, callbacks=[Another()])
    with pytest.raises(RuntimeError):
        fit(make(), 5, checkpoint=tmp_path, callbacks=[Dying(1)])
    fit(make(), 5, checkpoint=tmp_path)


@pytest.mark.parametrize(("of", "how"), [
    (lambda d: {"checkpoint": d, "callbacks": [Checkpoint(d)]}, "by checkpoint= and by a Checkpoint"),
    (lambda d: {"checkpoint": d, "callbacks": [Checkpoint(d.parent / "x" / ".." / d.name)]}, "by checkpoint= and by a Checkpoint"),
    (lambda d: {"callbacks": [Checkpoint(d), Checkpoint(d)]}, "by two Checkpoints"),
    (lambda d: {"callbacks": [Checkpoint(d)] * 2}, "by two Checkpoints"),
])  # fmt: skip
def test_one_folder_twice_in_a_training_is_refused(tmp_path, of, how):
    (tmp_path / "x").mkdir()
    with pytest.raises(SettingError) as error:
        fit(make(), 2, **of(tmp_path / "d"))
    assert str(error.value) == (
        f"fit: {str(tmp_path / 'd')!r} must be given once for the last checkpoints of a training, got it {how} in callbacks=. "
        f"Leave one of them out, or name another folder."
    )
    assert not (tmp_path / "d").exists()


def test_the_last_and_the_best_may_share_a_folder(tmp_path):
    best = Checkpoint(tmp_path, save="best", monitor="loss")
    fit(make(), 2, checkpoint=tmp_path, callbacks=[best])
    assert {path.name.split("-")[0] for path in tmp_path.glob("*.safetensors")} == {"last", "best"}


TERMINATED = """
import sys
import numpy as np
import chainrule as cr
from chainrule import nn

def made():
    cr.manual_seed(0)
    return cr.Trainer(nn.Linear(4, 2), "cross_entropy", "adam")

X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)
fit = dict(batch_size=16, progress=False)
if __name__ == "__main__":
    made().fit(X, y, epochs=10**7, callbacks=lambda t, e, m: print(e, flush=True), checkpoint=sys.argv[1], **fit)
    print("went on")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM there that a process can hear")
def test_sigterm_writes_the_training_and_ends_the_process(tmp_path, monkeypatch):
    (tmp_path / "terminated.py").write_text(TERMINATED)
    folder = tmp_path / "kept"
    command = [sys.executable, str(tmp_path / "terminated.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert next(line for line in process.stdout if line == "20\n")
        process.send_signal(signal.SIGTERM)
        said, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM and errors == "" and "went on" not in said
    written = max(int(path.stem.split("-")[1]) for path in folder.glob("last-*.safetensors"))
    assert written >= 20 * 4  # steps, long before the ten seconds after which a file is due
    monkeypatch.syspath_prepend(tmp_path)
    import terminated as same

    epochs = -(-written // 4) + 5
    whole, again = same.made(), same.made()
    whole.fit(same.X, same.y, epochs=epochs, **same.fit)
    again.fit(same.X, same.y, epochs=epochs, checkpoint=folder, **same.fit)
    assert cr.equal(whole.model.weight, again.model.weight)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
