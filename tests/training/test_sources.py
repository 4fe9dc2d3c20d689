"""Trainings on sources: the rows of a window take the place of the one before, and nothing else differs."""

from __future__ import annotations

import copy
import pickle
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import EarlyStopping
from chainrule.data import as_source
from chainrule.errors import DataError, SettingError, ShapeError
from chainrule.training import Callback, Trainer, given
from chainrule.utils.data import DataLoader, Dataset, TensorDataset

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(0)
X = rng.standard_normal((1030, 6)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
W = rng.uniform(0.5, 2, 1030).astype(np.float32)
SMALL = 8000  # bytes of a window: 240 rows in batches of 16


def make(loss: Any = F.cross_entropy, metrics: Any = ("accuracy", "f1_macro"), lr: float = 0.01) -> Trainer:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    return Trainer(model, loss, optim.Adam(model.parameters(), lr=lr), list(metrics))


def fit(trainer: Trainer, *data: Any, epochs: int = 3, **options: Any) -> Trainer:
    trainer.fit(*data, epochs=epochs, **{"batch_size": 16, "progress": False, **options})
    return trainer


def bits(trainer: Trainer) -> bytes:
    return b"".join(handle._node.value.tobytes() for handle in trainer.session.handles())


def measured(trainer: Trainer) -> dict[str, list[float]]:
    return {name: column for name, column in trainer.history.items() if name != "seconds"}


def mapped(folder: Path, *arrays: Array) -> tuple[Array, ...]:
    for number, array in enumerate(arrays):
        np.save(folder / f"{number}.npy", array)
    return tuple(np.load(folder / f"{number}.npy", mmap_mode="r") for number in range(len(arrays)))


def windows(folder: Path, *arrays: Array) -> Any:
    return as_source(mapped(folder, *(arrays or (X, Y))), buffer=SMALL)


def parquet(folder: Path, group: int = 70) -> Path:
    pa, files = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({**{f"x{i}": X[:, i] for i in range(6)}, "y": Y})
    for number in range(2):
        files.write_table(table.slice(number * 515, 515), folder / f"{number}.parquet", row_group_size=group)
    return folder


def in_batches(size: int = 16) -> Iterator[tuple[Array, Array]]:
    for start in range(0, len(X), size):
        yield X[start : start + size], Y[start : start + size]


# ---------------------------------------------------------------- the steps of a window


def test_the_steps_are_those_written_out_over_the_windows(tmp_path: Path) -> None:
    trainer, written = make(), make()
    trainer.model[2].p = written.model[2].p = 0.0
    source = windows(tmp_path)
    assert len(list(source.windows(batch_size=16))) == 5
    fit(trainer, source, seed=4)
    losses = []
    for epoch in range(3):
        total = 0.0
        for window in source.windows(cr.data.Cursor(epoch), seed=4, batch_size=16):
            for (x, y), _ in window.batches():
                written.optimizer.zero_grad()
                loss = F.cross_entropy(written.model(cr.tensor(x)), cr.tensor(y))
                loss.backward()
                written.optimizer.step()
                total += loss.item() * len(x)
        losses.append(total / len(X))
    np.testing.assert_allclose(trainer.history["loss"], losses, rtol=1e-5)
    for ours, theirs in zip(trainer.model.parameters(), written.model.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_rows_in_order_give_the_bits_of_arrays(tmp_path: Path) -> None:
    options: dict[str, Any] = {"shuffle": False, "validation_data": (X[:100], Y[:100])}
    whole = fit(make(), X, Y, **options)
    for source in (windows(tmp_path), lambda: in_batches(), lambda: in_batches(50)):
        found = fit(make(), source, **options)
        assert bits(found) == bits(whole)
        assert measured(found) == measured(whole)


def test_a_source_of_one_window_is_arrays(tmp_path: Path) -> None:
    folder = parquet(tmp_path)
    whole = fit(make(), X, Y, record=True)
    found = fit(make(), folder, "y", record=True)
    assert bits(found) == bits(whole)
    assert measured(found) == measured(whole)
    assert found.run.at(5).proved
    assert fit(make(), str(folder), "y", epochs=1, validation_split=0.2).history.steps == 52


def test_epochs_without_their_last_batch(tmp_path: Path) -> None:
    for rows in (1030, 960, 963):  # the last: a window of its own for the batch that is left out
        source = windows(tmp_path, X[:rows], Y[:rows])
        found = fit(make(), source, shuffle=False, drop_last=True)
        assert bits(found) == bits(fit(make(), X[:rows], Y[:rows], shuffle=False, drop_last=True))


def test_two_orders_of_two_seeds(tmp_path: Path) -> None:
    source = windows(tmp_path)
    assert bits(fit(make(), source, seed=1)) == bits(fit(make(), source, seed=1)) != bits(fit(make(), source, seed=2))


def test_weights_come_with_the_rows(tmp_path: Path) -> None:
    whole = fit(make(), X, Y, sample_weight=W, shuffle=False)
    found = fit(make(), windows(tmp_path, X, Y, W), shuffle=False)
    assert bits(found) == bits(whole)
    assert measured(found) == measured(whole)
    none = W.copy()
    none[:500] = 0  # two windows long
    assert bits(fit(make(), windows(tmp_path, X, Y, none), shuffle=False)) == bits(
        fit(make(), X, Y, sample_weight=none, shuffle=False)
    )


def test_several_inputs_and_no_target() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, left: Any, right: Any) -> Any:
            return self.a(left) + self.b(right)

    def trainer(loss: Any) -> Trainer:
        cr.manual_seed(1)
        return Trainer(Sum(), loss, "sgd", lr=0.1)

    both = {"left": X[:, :3], "right": X[:, 3:]}

    def batches(*rest: Array) -> Callable[[], Iterator[Any]]:
        def give() -> Iterator[Any]:
            for start in range(0, 1030, 16):
                part = slice(start, start + 16)
                x = {name: array[part] for name, array in both.items()}
                yield (x, *(array[part] for array in rest)) if rest else x

        return give

    whole = fit(trainer(F.cross_entropy), both, Y, shuffle=False)
    assert bits(fit(trainer(F.cross_entropy), batches(Y))) == bits(whole)

    def size(output: Any) -> Any:
        return (output**2).mean()

    alone = fit(trainer(size), both, shuffle=False)
    assert bits(fit(trainer(size), batches())) == bits(alone)


# ---------------------------------------------------------------- what gives rows


class Rows(Dataset):
    """PyTorch's kind of dataset."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> Any:
        return X[row], Y[row]


def loaders() -> dict[str, Callable[[], Any]]:
    tensors = TensorDataset(cr.tensor(X), cr.tensor(Y))
    theirs = torch.utils.data
    return {
        "ours": lambda: DataLoader(tensors, 16),
        "ours with workers": lambda: DataLoader(Rows(), 16, num_workers=2),
        "PyTorch's": lambda: theirs.DataLoader(theirs.TensorDataset(torch.tensor(X), torch.tensor(Y)), 16),
        "iterated over": lambda: theirs.DataLoader(Endless(103), 10),
    }


class Endless(torch.utils.data.IterableDataset):
    """PyTorch's kind of dataset that does not say how long it is."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter((torch.tensor(x), torch.tensor(y)) for x, y in zip(X[: 10 * self.batches], Y, strict=False))


@pytest.mark.parametrize("name", ["ours", "ours with workers", "PyTorch's", "iterated over"])
def test_loaders(name: str) -> None:
    size = 10 if name == "iterated over" else 16
    whole = fit(make(), X, Y, shuffle=False, batch_size=size)
    found = make()
    found.fit(loaders()[name](), epochs=3, progress=False)  # the batches are the loader's
    assert bits(found) == bits(whole)


def test_a_loader_that_shuffles_by_seed_and_epoch() -> None:
    def loader() -> Any:
        return DataLoader(TensorDataset(cr.tensor(X), cr.tensor(Y)), 16, shuffle=True)

    first, second, third = (fit(make(), loader(), seed=seed, batch_size=None) for seed in (1, 1, 2))
    assert bits(first) == bits(second) != bits(third)
    losses = first.history["loss"]
    assert len(set(losses)) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_pytorchs_that_shuffles_and_disturbs_goes_on_to_the_same_bits(workers: int) -> None:
    class Noisy(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(X)

        def __getitem__(self, row: int) -> Any:
            return torch.tensor(X[row]) + 0.1 * torch.randn(6), int(Y[row])

    def loader() -> Any:
        return as_source(torch.utils.data.DataLoader(Noisy(), 24, shuffle=True, num_workers=workers), buffer=SMALL)

    before = torch.random.get_rng_state()
    whole = fit(make(), loader(), seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    part = fit(make(), loader(), seed=5, callbacks=Stopping(4))
    assert part.position is not None
    assert part.position.step
    assert bits(fit(part, loader(), seed=5, resume=True)) == bits(whole)
    assert bits(fit(make(), loader(), seed=6)) != bits(whole)


def test_a_dataset_is_asked_for_its_rows_in_every_epoch() -> None:
    asked = []

    class Counted(Rows):
        def __getitem__(self, row: int) -> Any:
            asked.append(row)
            return super().__getitem__(row)

    found = fit(make(), Counted(), epochs=2)
    assert bits(found) == bits(fit(make(), X, Y, epochs=2))
    assert len(asked) > 2 * len(X)


def test_frames_and_tables_by_the_name_of_a_column() -> None:
    pa, pd, pl = (pytest.importorskip(name) for name in ("pyarrow", "pandas", "polars"))
    columns = {**{f"x{i}": X[:, i] for i in range(6)}, "y": Y}
    whole = fit(make(), X, Y)
    for data in (pa.table(columns), pd.DataFrame(columns), pl.DataFrame(columns)):
        assert bits(fit(make(), data, "y")) == bits(whole)
        assert fit(make(), data, "y").evaluate(data, "y") == whole.evaluate(X, Y)
    two = make(F.mse_loss, [])
    fit(two, pl.DataFrame({"a": X[:, 0], "b": X[:, 1], **{f"x{i}": X[:, i] for i in range(6)}}), ["a", "b"])
    assert bits(two) == bits(fit(make(F.mse_loss, []), X, X[:, :2]))


def hugging_face(rows: Any) -> tuple[Any, Any]:
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets are not installed")
    made = datasets.Dataset.from_dict(rows)
    return made, made.to_iterable_dataset()


def arrow_files(folder: Path) -> Any:
    return pytest.importorskip("pyarrow.dataset").dataset(parquet(folder))


def lazy(columns: Any) -> Any:
    return pytest.importorskip("polars").DataFrame(columns).lazy()


COLUMNS = {**{f"x{i}": X[:, i] for i in range(6)}, "y": Y}
OTHERS: dict[str, Callable[[Path], Any]] = {
    "Hugging Face's": lambda _: hugging_face(COLUMNS)[0],
    "a dataset of pyarrow's": arrow_files,
    "a lazy frame": lambda _: lazy(COLUMNS),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_libraries_data(name: str, tmp_path: Path) -> None:
    data = OTHERS[name](tmp_path)
    assert bits(fit(make(), data, "y")) == bits(fit(make(), X, Y))

    def windows() -> Any:
        return as_source(OTHERS[name](tmp_path), target="y", buffer=SMALL)

    assert len(list(windows().windows(batch_size=16))) == 5
    assert bits(fit(make(), windows(), shuffle=False)) == bits(fit(make(), X, Y, shuffle=False))
    whole, part = fit(make(), windows()), fit(make(), windows(), callbacks=Stopping(3))
    assert bits(fit(part, windows(), resume=True)) == bits(whole)
    assert windows().fingerprint() == windows().fingerprint()


def test_other_libraries_streams() -> None:
    pa = pytest.importorskip("pyarrow")
    whole = fit(make(), X, Y, shuffle=False)
    reader = pa.table(COLUMNS).to_reader(max_chunksize=100)
    assert bits(fit(make(), reader, "y", steps_per_epoch=64, epochs=1)) == bits(
        fit(make(), X[:1024], Y[:1024], shuffle=False, epochs=1)
    )
    assert bits(fit(make(), hugging_face(COLUMNS)[1], "y")) == bits(whole)


def test_a_stream_of_unknown_length_is_counted() -> None:
    asked = []

    def batches(epoch: int) -> Iterator[Any]:
        asked.append(epoch)
        return in_batches()

    found = fit(make(), batches)
    assert found.position is not None
    assert (found.position.rows, found.history.steps) == (1030, 3 * 65)
    assert asked == [0, 0, 0, 1, 2]  # a look, a count, three epochs


def test_epochs_of_so_many_steps() -> None:
    def endless() -> Iterator[Any]:
        while True:
            yield from ((X[start : start + 16], Y[start : start + 16]) for start in range(0, 960, 16))

    once = fit(make(), endless(), epochs=4, steps_per_epoch=30, batch_size=None)
    whole = fit(make(), X[:960], Y[:960], epochs=2, shuffle=False)
    assert once.history.steps == 120
    np.testing.assert_array_equal(once.predict(X), whole.predict(X))
    again = fit(make(), lambda: endless(), epochs=2, steps_per_epoch=30)
    np.testing.assert_array_equal(again.predict(X), fit(make(), X[:480], Y[:480], epochs=2, shuffle=False).predict(X))


# ---------------------------------------------------------------- measuring and predicting


def test_evaluation_and_prediction_by_windows(tmp_path: Path) -> None:
    trainer = fit(make(metrics=("accuracy", "roc_auc", "f1_macro")), X, Y)
    expected = trainer.evaluate(X, Y)
    for source in (windows(tmp_path), lambda: in_batches(), in_batches()):
        found = trainer.evaluate(source)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-6)
    for source in (windows(tmp_path), lambda: in_batches(), in_batches()):
        np.testing.assert_array_equal(trainer.predict(source), trainer.predict(X))
    np.testing.assert_array_equal(trainer.predict_classes(windows(tmp_path)), trainer.predict_classes(X))
    np.testing.assert_array_equal(trainer.predict(windows(tmp_path, X)), trainer.predict(X))
    weighed = trainer.evaluate(windows(tmp_path, X, Y, W))
    assert weighed["loss"] == pytest.approx(trainer.evaluate(X, Y, sample_weight=W)["loss"], rel=1e-6)


def test_columns_are_known_by_name_from_the_training_on(tmp_path: Path) -> None:
    pa, pd = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    files = pytest.importorskip("pyarrow.parquet")
    trainer = fit(make(), parquet(tmp_path), "y", validation_data=tmp_path)
    assert trainer.session.columns is not None
    assert trainer.session.columns.parts == {"X": tuple(f"x{i}" for i in range(6)), "y": ("y",)}
    whole = fit(make(), X, Y)
    other = {
        "y": Y,
        "more": Y,
        **{f"x{i}": X[:, i] for i in reversed(range(6))},
    }  # in another order, and with more of them
    files.write_table(pa.table(other), tmp_path / "other.parquet")
    del other["y"]
    files.write_table(pa.table(other), tmp_path / "without.parquet")
    trainer.save(tmp_path / "saved")
    loaded = make()
    loaded.load(tmp_path / "saved")
    for known in (trainer, loaded):
        for data in (tmp_path / "other.parquet", tmp_path / "without.parquet", pd.DataFrame(other), pa.table(other)):
            np.testing.assert_array_equal(known.predict(data), whole.predict(X))
        assert known.evaluate(tmp_path / "other.parquet", "y") == whole.evaluate(X, Y)
        np.testing.assert_array_equal(known.predict(X), whole.predict(X))
    held = fit(make(), tmp_path / "0.parquet", "y", validation_data=(tmp_path / "other.parquet", "y"))
    assert held.history["val_loss"] == fit(make(), X[:515], Y[:515], validation_data=(X, Y)).history["val_loss"]
    with pytest.raises(
        DataError, match=r"^predict: X must have the columns .* got data without 'x0', 'x2', 'x3', 'x4', 'x5'\."
    ):
        trainer.predict(pd.DataFrame({"x1": X[:, 1]}))
    windows_of = as_source(tmp_path / "0.parquet", target=[], features=["x1", "x0"], buffer=SMALL)
    np.testing.assert_array_equal(windows_of.head(3), X[:3, 1::-1])
    assert fit(trainer, X, Y).session.columns is None


def test_a_source_to_validate_on(tmp_path: Path) -> None:
    held = windows(tmp_path)
    stopping = EarlyStopping("val_loss", patience=2)
    found = fit(make(metrics=("accuracy", "roc_auc")), X[:300], Y[:300], validation_data=held, callbacks=stopping)
    arrays = fit(make(metrics=("accuracy", "roc_auc")), X[:300], Y[:300], validation_data=(X, Y))
    assert bits(found) == bits(arrays)
    for name in ("val_loss", "val_accuracy", "val_roc_auc"):
        np.testing.assert_allclose(found.history[name], arrays.history[name], rtol=1e-6)
    both = fit(make(), windows(tmp_path), validation_data=lambda: in_batches())
    assert both.history["val_loss"] == pytest.approx(
        fit(make(), windows(tmp_path), validation_data=(X, Y)).history["val_loss"], rel=1e-6
    )


# ---------------------------------------------------------------- stops


class Stopping(Callback):
    """Ctrl-C at the n-th pause."""

    def __init__(self, pause: int) -> None:
        self.left = pause

    def on_steps(self, trainer: Trainer, step: int, loss: float) -> None:
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)


def kinds(folder: Path) -> dict[str, Callable[[], Any]]:
    return {
        "mapped": lambda: windows(folder),
        "function": lambda: as_source(lambda: in_batches(50), buffer=SMALL),
        "loader": lambda: as_source(
            DataLoader(TensorDataset(cr.tensor(X), cr.tensor(Y)), 24, shuffle=True), buffer=SMALL
        ),
    }


@pytest.mark.parametrize("name", ["mapped", "function", "loader"])
@pytest.mark.parametrize("pause", [1, 2, 4, 7])
def test_a_stopped_training_goes_on_to_the_same_bits(name: str, pause: int, tmp_path: Path) -> None:
    source = kinds(tmp_path)[name]
    whole = fit(make(), source())
    stopped = fit(make(), source(), callbacks=Stopping(pause))
    assert stopped.history.interrupted
    stopped.save(tmp_path / "stopped")
    resumed = make()
    resumed.load(tmp_path / "stopped")
    for trainer in (fit(resumed, source(), resume=True), fit(stopped, source(), resume=True)):
        assert bits(trainer) == bits(whole)
        assert measured(trainer) == measured(whole)


def test_an_iterator_goes_on_in_its_process_and_from_the_start_in_another(tmp_path: Path) -> None:
    whole = fit(make(), in_batches(), steps_per_epoch=20)
    batches = in_batches()
    part = fit(make(), batches, steps_per_epoch=20, epochs=2)
    part.save(tmp_path / "saved")
    other = make()
    other.load(tmp_path / "saved")
    text = "this generator has given batches already, so that those which the training goes on with cannot be told"
    with pytest.raises(DataError, match=text):
        fit(other, batches, steps_per_epoch=20, resume=True)
    assert bits(fit(other, in_batches(), steps_per_epoch=20, resume=True)) == bits(whole)
    assert bits(fit(part, batches, steps_per_epoch=20, resume=True)) == bits(whole)


def test_changed_rows_are_not_gone_on_with(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    fit(make(), windows(tmp_path), epochs=1, checkpoint=kept)
    changed = X.copy()
    changed[700, 3] += 1
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"holds a training on other rows \(their hash differs\)"):
        fit(make(), windows(tmp_path / "other", changed, Y), checkpoint=kept)
    again = fit(make(), windows(tmp_path), checkpoint=kept)
    assert bits(again) == bits(fit(make(), windows(tmp_path)))
    with pytest.raises(SettingError, match="the rows must be those of the earlier fit"):
        fit(again, windows(tmp_path / "other", changed, Y), epochs=4, resume=True)


def test_files_that_change_while_they_are_read_end_it_where_it_stands(tmp_path: Path) -> None:
    folder = parquet(tmp_path)

    class Rewriting(Callback):
        def on_epoch_end(self, trainer: Trainer, epoch: int, measured: Any) -> None:
            file = folder / "1.parquet"
            file.write_bytes(file.read_bytes())

    trainer = make()
    source = as_source(folder, target="y", buffer=SMALL)
    with pytest.raises(DataError, match=r"1\.parquet changed while it was read"):
        fit(trainer, source, callbacks=Rewriting())
    assert trainer.position is not None
    assert trainer.position.epoch == 1
    assert bits(fit(trainer, as_source(folder, target="y", buffer=SMALL), resume=True)) == bits(
        fit(make(), as_source(folder, target="y", buffer=SMALL))
    )


def test_windows_of_many_sizes_are_not_all_kept() -> None:
    trainer = make()
    for size in range(20, 34):
        fit(trainer, as_source(lambda: in_batches(50), buffer=400 * size), epochs=1, batch_size=size)
    assert len([name for name in trainer.session.programs if " of " in name]) <= 6


def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    fit(make(), windows(tmp_path))
    fit(make(), windows(tmp_path), callbacks=Stopping(2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("chainrule-window")]


def test_a_worker_that_dies_is_told() -> None:
    class Deadly(Rows):
        def __getitem__(self, row: int) -> Any:
            if row == 700:
                signal.raise_signal(signal.SIGKILL)
            return super().__getitem__(row)

    trainer = make()
    with pytest.raises(cr.errors.WorkerError, match=r"SIGKILL|killed"):
        fit(trainer, as_source(DataLoader(Deadly(), 16, num_workers=2), buffer=SMALL), batch_size=None)
    assert trainer.position is not None
    assert 0 < trainer.position.step < 44


def test_what_is_wrong_in_a_later_window_is_told_and_the_steps_before_it_stand(tmp_path: Path) -> None:
    holed = X.copy()
    holed[601, 3] = np.nan
    trainer = make()
    with pytest.raises(
        DataError,
        match=r"^fit: X must be finite, got 1 NaN .* at row 121, column 3.*Row 121 of this window is row 601 of the data",
    ):
        fit(trainer, windows(tmp_path, holed, Y), shuffle=False)
    assert trainer.position is not None
    assert trainer.position.step == 30
    labels = Y.copy()
    labels[-1] = 7
    text = (
        r"must hold labels 0 to 1, because the model has 2 outputs, got 7 .*Rows are counted from the first of window"
    )
    with pytest.raises(DataError, match=text):
        fit(make(), windows(tmp_path, X, labels))


@pytest.mark.parametrize("data", [X, lambda: iter([X[:500], X[500:]])], ids=["one window", "several"])
def test_a_target_that_is_not_there_is_of_no_window(data: Any) -> None:
    with pytest.raises(DataError) as said:
        make(F.mse_loss, ()).evaluate(cr.data.as_source(data))
    assert str(said.value) == (
        "evaluate: y is None, and the loss (mse_loss) takes a target, too. Pass y (of a file or frame the name of its column), "
        "or give a function of the output alone: loss(output)."
    )


def test_rows_of_the_only_window_are_those_of_the_data() -> None:
    labels = np.where(np.arange(len(Y)) == 5, 7, Y)
    with pytest.raises(DataError, match=r"got 7 at row 5 [^.]*\. Give [^.]*\.$"):
        make().evaluate(cr.data.as_source((X, labels)))


def test_the_file_of_a_row_that_is_wrong_is_named(tmp_path: Path) -> None:
    pa, files = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    holed = {**COLUMNS, "x3": np.where(np.arange(1030) == 900, np.nan, X[:, 3])}
    for number in range(2):
        files.write_table(pa.table(holed).slice(number * 515, 515), tmp_path / f"{number}.parquet", row_group_size=70)
    with pytest.raises(DataError, match=r"got 1 NaN .*is row 385 of .*1\.parquet\."):
        fit(make(), as_source(tmp_path, target="y", buffer=SMALL))


def test_a_loss_that_stops_being_finite_goes_back_to_the_last_good_step(tmp_path: Path) -> None:
    large = X.copy()
    large[700:] *= 1e25
    trainer = make(F.mse_loss, [], lr=1e-4)
    with pytest.raises(cr.errors.NonFiniteError, match="training stopped in epoch 1 at step 44"):
        fit(trainer, windows(tmp_path, large, X[:, :2]), shuffle=False)
    assert trainer.position is not None
    assert trainer.position.step == 43


# ---------------------------------------------------------------- what is refused, and copies


REFUSED = {
    "fit: sample_weight is for arrays, and X is read window by window. Give the weights with the rows: batches (x, y, "
    "weight), or as_source(..., weight='column').": {"sample_weight": W},
    "fit: class_weight is for arrays, and X is read window by window.": {"class_weight": {0: 2.0}},
    "fit: validation_split draws rows in memory, and X is read window by window. Give rows to validate on: "
    "validation_data=(X, y), or another source.": {"validation_split": 0.1},
    "fit: record= keeps what brings back any step, which takes rows in memory, and X is read window by window. Leave it "
    "out; checkpoint= goes on to the bit after any stop.": {"record": True},
    "fit: steps_per_epoch is for streams (a generator, a function, a loader), which may have no end. An epoch of these "
    "rows is each of them once: leave it out, and use batch_size, or fewer rows.": {"steps_per_epoch": 3},
    "fit: X: a PieceSource is read window by window, and its targets with it: batches or windows are (X, y). Leave y "
    "out, or name the column that it is.": {"y": Y},
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises((SettingError, DataError), match=f"^{re.escape(text)}"):
        fit(make(), windows(tmp_path), **REFUSED[text])


def test_what_is_refused_of_arrays_and_streams(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^fit: steps_per_epoch is for streams"):
        fit(make(), X, Y, steps_per_epoch=3)
    with pytest.raises(
        DataError, match=r"^fit: y='y' names a column, which files, tables and frames have, and no ndarray\."
    ):
        fit(make(), X, "y")
    with pytest.raises(
        SettingError, match=r"^fit: steps_per_epoch must be a whole number, 1 or more, or None, got 0\."
    ):
        fit(make(), lambda: in_batches(), steps_per_epoch=0)
    text = (
        "fit: an iterator gives its batches once, and nobody knows how many there are. Say how many an epoch has with "
        "steps_per_epoch=, or give a function that makes it: fit(lambda: batches())."
    )
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        fit(make(), in_batches())
    with pytest.raises(
        SettingError, match="fit: validation X is an iterator, which gives its batches once, and they are"
    ):
        fit(make(), X, Y, validation_data=in_batches())
    with pytest.raises(DataError, match="ended 10 rows before the end of epoch 2, which was to have 520"):
        fit(make(), in_batches(10), batch_size=10, steps_per_epoch=52)
    with pytest.raises(ShapeError, match="does not fit the model"):
        fit(make(), windows(tmp_path, X[:, :5], Y))
    with pytest.raises(DataError, match="drop_last=True leaves out a batch"):
        fit(make(), windows(tmp_path), batch_size=2000, drop_last=True)


def test_several_sets_under_their_names_are_none() -> None:
    class DatasetDict(dict):
        """As the library datasets has it."""

    with pytest.raises(DataError) as told:
        make().fit(DatasetDict(train=object(), test=object()), "y", epochs=1)
    assert str(told.value) == (
        "fit: y='y' names a column, which files, tables and frames have, and no DatasetDict. Pass one that it holds, ['train']."
    )


def test_epochs_of_other_lengths() -> None:
    for rows, came in ((500, "500"), (2000, "more than 1030"), (0, None)):

        def batches(epoch: int, rows: int = rows) -> Iterator[Any]:
            return in_batches() if not epoch else iter([(X[:1].repeat(rows, 0), Y[:1].repeat(rows))] * bool(rows))

        trainer = make()
        text = (
            f"must have the 1030 rows that were counted, got {came} in epoch 2"
            if came
            else "ended before window 1 of epoch 2"
        )
        with pytest.raises(DataError, match=text):
            fit(trainer, as_source(batches, buffer=SMALL))
        assert trainer.position is not None
        assert trainer.position.epoch == 1


def test_one_row_and_files_without_any(tmp_path: Path) -> None:
    pa, files = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    files.write_table(pa.table(COLUMNS).slice(0, 1), tmp_path / "a.parquet")
    files.write_table(pa.table(COLUMNS).slice(0, 0), tmp_path / "b.parquet")
    assert bits(fit(make(), tmp_path, "y")) == bits(fit(make(), X[:1], Y[:1]))


def test_a_memory_map_larger_than_memory_is_spoken_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = mapped(tmp_path, X, Y)
    expected = bits(fit(make(), X, Y))
    assert bits(fit(make(), x, y)) == expected
    monkeypatch.setattr(given, "available_bytes", lambda: 1000)
    with pytest.warns(UserWarning, match="X is a memory map of 24,720 bytes, and 1,000 of memory are available"):
        assert bits(fit(make(), x, y)) == expected


def test_what_looks_at_rows_in_memory_says_so(tmp_path: Path) -> None:
    trainer = fit(make(), windows(tmp_path))
    for name, look in (("diagnose", trainer.diagnose), ("Trainer.report", trainer.report)):
        text = f"{name}: it looks at rows in memory, and this training reads its rows from a source, window by window."
        with pytest.raises(SettingError, match=f"^{re.escape(text)}"):
            look()


def test_a_trainer_is_copied_and_pickled(tmp_path: Path) -> None:
    trainer = fit(make(), windows(tmp_path))
    for other in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
        fit(other, windows(tmp_path), epochs=4, resume=True)
        assert bits(other) == bits(fit(make(), windows(tmp_path), epochs=4))


def test_predictions_are_of_rows_in_order() -> None:
    trainer = fit(make(), X, Y, epochs=1)
    ours = TensorDataset(cr.tensor(X))
    np.testing.assert_array_equal(trainer.predict(DataLoader(ours, batch_size=50)), trainer.predict(X))
    loaders: list[Any] = [DataLoader(ours, batch_size=50, shuffle=True)]
    with suppress(ImportError):
        import torch.utils.data as theirs

        loaders += [
            theirs.DataLoader(theirs.TensorDataset(torch.tensor(X)), batch_size=50, shuffle=True),
            theirs.DataLoader(
                theirs.TensorDataset(torch.tensor(X)),
                batch_sampler=theirs.BatchSampler(theirs.RandomSampler(range(1030)), 50, False),
            ),
        ]
    said = (
        "predict: row i of what it gives is of row i of the data, and this loader draws another order each time (its sampler is a "
        "RandomSampler). Give one with shuffle=False, or the dataset itself."
    )
    for loader in loaders:
        with pytest.raises(SettingError, match=f"^{re.escape(said)}$"):
            trainer.predict(loader)
    shuffled = DataLoader(TensorDataset(cr.tensor(X), cr.tensor(Y)), batch_size=50, shuffle=True)
    assert trainer.evaluate(shuffled)["loss"] == pytest.approx(
        trainer.evaluate(X, Y)["loss"]
    )  # of which no order is asked


@pytest.mark.parametrize("call", ["fit", "evaluate", "validation"])
def test_one_name_of_a_column_under_a_loss_that_takes_a_column(call: str, tmp_path: Path) -> None:
    frame = pytest.importorskip("pandas").DataFrame({f"x{i}": X[:, i] for i in range(6)}).assign(price=X[:, 0])
    frame.to_csv(tmp_path / "part.csv", index=False)
    trainer = Trainer(nn.Linear(6, 1), "mse", "adam", lr=0.01)
    trainer.fit(tmp_path, ["price"], epochs=1, progress=False)
    who, name = {"fit": ("fit", "y"), "evaluate": ("evaluate", "y"), "validation": ("fit", "validation y")}[call]
    said = (
        f"{who}: {name} of shape (1030,) does not fit the outputs, of shape (1030, 1). mse_lossHERE: the target must have the shape of "
        "the input, (1030, 1), got a target of shape (1030,). The name of one column gives targets (N,), a list of names (N, number "
        "of names): write ['price']."
    )
    calls: dict[str, Callable[[Any], Any]] = {
        "fit": lambda data: trainer.fit(data, "price", epochs=1, progress=False),
        "evaluate": lambda data: trainer.evaluate(data, "price"),
        "validation": lambda data: trainer.fit(
            data, ["price"], epochs=1, progress=False, validation_data=(data, "price")
        ),
    }
    for data in (tmp_path, frame):
        with pytest.raises(ShapeError, match=f"^{re.escape(said).replace('HERE', '.*')}$"):
            calls[call](data)
    with pytest.raises(ShapeError, match=r"for example target\.reshape\(1030, 1\)\."):  # an array can be
        trainer.fit(X, X[:, 0], epochs=1, progress=False)
