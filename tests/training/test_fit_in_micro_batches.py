"""`fit` with micro_batches: the training of whole batches, with the memory of their parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import GradientError, SettingError
from chainrule.training import Trainer

ROWS = 1300


def data() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, 20)).astype("f4")
    return X, (X[:, 0] > 0) + (X[:, 1] > 0).astype(int), rng.random(ROWS)


def trainer(*layers: nn.Module, loss: Any = "cross_entropy", metrics: Any = ("accuracy",), **how: Any) -> Trainer:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), *layers, nn.Linear(32, 3))
    return Trainer(model, loss, optim.Adam(model.parameters(), lr=0.01), metrics, **how)


def bits(of: Trainer) -> bytes:
    return b"".join(p.numpy(force=True).tobytes() for p in of.model.parameters())


def fitted(micro_batches: int, **fit: Any) -> Trainer:
    of, (X, y, _) = trainer(), data()
    of.fit(X, y, **{"epochs": 2, "batch_size": 512, "progress": False, "micro_batches": micro_batches, **fit})
    return of


def test_equal_parts_of_128_rows_end_with_the_bits_of_the_whole() -> None:
    whole, parts = fitted(1, drop_last=True), fitted(4, drop_last=True)
    assert bits(parts) == bits(whole)
    assert parts.history["accuracy"] == whole.history["accuracy"]
    np.testing.assert_allclose(parts.history["loss"], whole.history["loss"], rtol=1e-6)


@pytest.mark.parametrize(
    ("micro_batches", "fit"),
    [
        (2, {}),
        (4, {"sample_weight": data()[2]}),
        (4, {"class_weight": "balanced"}),
        (64, {"batch_size": 96}),  # the last batch has 52 rows
    ],
    ids=["equal", "rows weigh", "classes weigh", "more parts than rows"],
)
def test_other_parts_give_its_numbers(fit: dict[str, Any], micro_batches: int) -> None:
    whole, parts = fitted(1, **fit), fitted(micro_batches, **fit)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(parts.history[name], whole.history[name], rtol=1e-5)
    for a, b in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        np.testing.assert_allclose(a.numpy(force=True), b.numpy(force=True), atol=2e-4)


def test_pytorch_that_accumulates_gradients_comes_to_the_same_numbers() -> None:
    torch = pytest.importorskip("torch")
    X, y, _ = data()
    of = trainer(metrics=())
    theirs = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
    theirs.load_state_dict({k: torch.tensor(v.numpy(force=True).copy()) for k, v in of.model.state_dict().items()})
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01)
    of.fit(X[:1024], y[:1024], epochs=3, batch_size=256, micro_batches=4, shuffle=False, progress=False)
    for _ in range(3):
        for first in range(0, 1024, 256):
            adam.zero_grad()
            for start in range(first, first + 256, 64):
                rows = slice(start, start + 64)
                loss = torch.nn.functional.cross_entropy(theirs(torch.tensor(X[rows])), torch.tensor(y[rows]))
                (loss / 4).backward()
            adam.step()
    for name, value in of.model.state_dict().items():
        np.testing.assert_allclose(value.numpy(force=True), theirs.state_dict()[name].numpy(), atol=1e-5)


def test_clipping_is_of_the_whole_gradient_and_several_outputs_and_no_metrics_go() -> None:
    X, y, _ = data()

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(20, 3), nn.Linear(20, 1)

        def forward(self, x: cr.Tensor) -> dict[str, cr.Tensor]:
            return {"kind": self.a(x), "size": self.b(x)}

    def run(micro_batches: int) -> tuple[dict[str, Any], bytes]:
        cr.manual_seed(0)
        of = Trainer(Two(), {"kind": "cross_entropy", "size": "mse"}, "sgd", lr=0.1, max_norm=0.01)
        targets = {"kind": y, "size": X[:, 2:3]}
        history = of.fit(
            X, targets, epochs=2, batch_size=256, drop_last=True, micro_batches=micro_batches, progress=False
        )
        return {k: v for k, v in history.items() if k != "seconds"}, bits(of)

    (whole, whole_bits), (parts, parts_bits) = run(1), run(2)
    assert parts_bits == whole_bits
    assert parts.keys() == whole.keys()
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-6)


def test_a_step_needs_the_memory_of_a_part() -> None:
    def arena(micro_batches: int) -> int:
        cr.manual_seed(0)
        wide = nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.Tanh())], nn.Linear(64, 2))
        of = Trainer(wide, "cross_entropy", "adam")
        rows = np.zeros((4096, 64), "f4"), np.zeros(4096, int)
        of.fit(*rows, epochs=1, batch_size=4096, micro_batches=micro_batches, progress=False)
        (program,) = [found for kind, found in of.session.programs.items() if kind.startswith("training")]
        latest = program._step._latest
        assert latest is not None
        return latest.program.plan.arena

    whole, parts = arena(1), arena(8)
    assert parts < whole / 5


def test_a_source_that_is_read_by_windows_is_cut_likewise() -> None:
    X, y, _ = data()

    def run(micro_batches: int) -> bytes:
        of = trainer()
        batches = lambda: ((X[i : i + 256], y[i : i + 256]) for i in range(0, 1280, 256))  # noqa: E731
        of.fit(batches, epochs=2, micro_batches=micro_batches, progress=False)
        return bits(of)

    assert run(2) == run(1)


def test_it_goes_on_to_the_bit_with_as_many_parts_only(tmp_path: Path) -> None:
    X, y, _ = data()
    of = trainer()
    of.fit(X, y, epochs=1, batch_size=100, micro_batches=4, progress=False)
    of.save(tmp_path / "training")
    other = trainer()
    other.load(tmp_path / "training")
    with pytest.raises(SettingError) as raised:
        other.fit(X, y, epochs=3, batch_size=100, micro_batches=2, resume=True, progress=False)
    assert str(raised.value) == (
        "fit: resume=True goes on exactly, so micro_batches must be as before (4), got 2. Use the same data and arguments, or "
        "leave resume out to start a new training of these weights."
    )
    other.fit(X, y, epochs=3, batch_size=100, micro_batches=4, resume=True, progress=False)
    assert bits(other) == bits(fitted(4, epochs=3, batch_size=100))


def test_a_sweep_takes_it_of_each_configuration() -> None:
    X, y, _ = data()
    found = cr.sweep(
        lambda: trainer(), [{"micro_batches": 1}, {"micro_batches": 4}], X, y, epochs=2, batch_size=512, drop_last=True
    )
    assert not found.errors
    assert bits(found[0]) == bits(found[1])


def test_what_goes_by_the_whole_batch_is_refused_before_the_first_step() -> None:
    X, y, _ = data()
    of = trainer(nn.BatchNorm1d(32))
    before = bits(of)
    with pytest.raises(GradientError) as raised:
        of.fit(X, y, micro_batches=2, progress=False)
    assert str(raised.value).partition(":")[0].startswith("batch_norm in layer 'Sequential.2'")
    assert str(raised.value).endswith(
        "in training it normalises by the mean and variance of the whole batch, and fit(micro_batches=2) gives it one part of "
        "the batch after the other, whose gradients are others. Use micro_batches=1, a normalization of each row "
        "(nn.GroupNorm, nn.LayerNorm), or call eval() on this layer to go by its running mean and variance."
    )
    assert bits(of) == before
    of.fit(X, y, epochs=1, progress=False)


def test_what_it_cannot_be_is_refused() -> None:
    X, y, _ = data()
    for value in (0, 3, -2, True, 2.0, "4", None):
        with pytest.raises(SettingError) as raised:
            trainer().fit(X, y, micro_batches=value, progress=False)  # type: ignore[arg-type]
        assert str(raised.value) == (
            "fit: micro_batches must be a power of two (1, 2, 4, ...): in so many parts a step goes over its batch, got "
            f"{value!r}."
        )
    with pytest.raises(SettingError) as raised:
        trainer().fit(X, y, micro_batches=2, record=True, progress=False)
    assert str(raised.value) == (
        "fit: record= explains steps that go over their batch at once, got micro_batches=2. Leave one of the two out."
    )
    trainer().fit(X, y, epochs=1, micro_batches=np.int64(2), progress=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["accumulate_grad_batches", "gradient_accumulation_steps"])
def test_the_names_of_other_libraries_say_what_it_is_called(name: str) -> None:
    X, y, _ = data()
    with pytest.raises(TypeError, match="Use micro_batches, and for batch_size that of the whole batch"):
        trainer().fit(X, y, **{name: 4})
