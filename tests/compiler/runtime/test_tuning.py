"""The search for the fastest tile: what it chooses, what it remembers, and that it changes no bit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.compiler.plan import tiling
from chainrule.compiler.plan.target import Target
from chainrule.compiler.plan.tiling import Contraction, Tile, plan
from chainrule.compiler.runtime import native, tuning
from chainrule.errors import SettingError

SPEC = Contraction(64, 96, 80, "float", (80, 1), (96, 1))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CHAINRULE_TUNE", "1")
    tiling.plan.cache_clear()
    yield tmp_path
    tiling.plan.cache_clear()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """Times that make the last candidate the fastest; the tiles that were timed."""
    seen: list[Tile] = []

    def seconds(spec: Contraction, target: Target, tile: Tile) -> float:
        seen.append(tile)
        return 1 / len(seen)

    monkeypatch.setattr(tuning, "seconds", seconds)
    return seen


def chosen() -> Tile:
    found = plan(SPEC, tuning.machine().target)
    return found.nr // found.lanes, found.mr


def test_the_fastest_tile_is_chosen_and_remembered(folder: Path, timed: list[Tile]) -> None:
    assert chosen() == timed[-1]
    assert 2 <= len(timed) <= tuning.CANDIDATES
    count = len(timed)
    tiling.plan.cache_clear()
    assert chosen() == timed[-1]
    assert len(timed) == count
    assert [file.suffix for file in folder.iterdir()] == [".json"]


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"64x96x80 float (80, 1) (96, 1)": [99, 99]}', "\x00"])
def test_a_damaged_file_is_searched_anew(content: str, folder: Path, timed: list[Tile]) -> None:
    chosen()
    (file,) = folder.iterdir()
    file.write_text(content, encoding="utf-8")
    tiling.plan.cache_clear()
    count = len(timed)
    assert chosen() == timed[-1]
    assert len(timed) == 2 * count


def test_a_folder_that_cannot_be_written_is_done_without(
    folder: Path, timed: list[Tile], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = folder / "file"
    blocked.write_text("")
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(blocked / "below"))
    assert chosen() == timed[-1]


def test_without_the_switch_nothing_is_timed(folder: Path, timed: list[Tile], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAINRULE_TUNE")
    chosen()
    assert timed == []
    assert list(folder.iterdir()) == []


def test_a_product_is_really_timed() -> None:
    target = native.machine().target
    assert 1e-7 < tuning.seconds(SPEC, target, (1, 4)) < 1


def test_a_searched_program_gives_the_same_bits(
    folder: Path, timed: list[Tile], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x, w = cr.tensor(rng.normal(size=(64, 80)).astype("f")), cr.tensor(rng.normal(size=(96, 80)).astype("f"))

    def layer(x: Tensor, w: Tensor) -> Tensor:
        return (x @ w.T).tanh()

    searched = cr.compile(layer)(x, w).numpy()
    assert timed
    monkeypatch.delenv("CHAINRULE_TUNE")
    tiling.plan.cache_clear()
    np.testing.assert_array_equal(cr.compile(layer)(x, w).numpy(), searched)


# -- cr.compile(..., tune=True) -------------------------------------------------------------------------


@pytest.fixture
def without_switch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAINRULE_TUNE")


rng = np.random.default_rng(0)
X, W = cr.tensor(rng.normal(size=(64, 80)).astype("f")), cr.tensor(rng.normal(size=(96, 80)).astype("f"))


def layer(x: Tensor, w: Tensor) -> Tensor:
    return (x @ w.T).tanh()


@pytest.mark.usefixtures("without_switch")
def test_tune_searches_the_products_of_this_program_alone(timed: list[Tile]) -> None:
    expected = cr.compile(layer)(X, W).numpy()
    assert timed == []
    tuned = cr.compile(layer, tune=True)
    np.testing.assert_array_equal(tuned(X, W).numpy(), expected)
    assert tuned._latest is not None
    tiles = tuned._latest.program.nests.tiles(0)
    assert tiles is not None
    assert (tiles.plan.nr // tiles.plan.lanes, tiles.plan.mr) == timed[-1]
    count = len(timed)
    cr.compile(layer)(X, W)
    cr.compile(layer, tune=True)(X, W)  # what was found is known
    assert len(timed) == count


@pytest.mark.usefixtures("without_switch")
def test_a_tuned_program_has_a_cache_entry_of_its_own(folder: Path, timed: list[Tile]) -> None:
    cr.compile(layer)(X, W)
    cr.compile(layer, tune=True)(X, W)
    assert len(list(folder.glob("*.o"))) == 2


@pytest.mark.usefixtures("without_switch")
def test_the_backward_pass_of_a_tuned_module_is_tuned_too(timed: list[Tile]) -> None:
    model = cr.nn.Linear(80, 96)

    @cr.compile(tune=True)
    def forward(x: Tensor) -> Tensor:
        return model(x)

    out = forward(X)
    count = len(timed)
    assert count
    out.sum().backward()
    assert len(timed) > count
    assert model.weight.grad is not None
    np.testing.assert_allclose(model.weight.grad.numpy(), np.tile(X.numpy().sum(0), (96, 1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tune", ["yes", 1, None])
def test_tune_is_a_bool(tune: object) -> None:
    with pytest.raises(SettingError, match=f"^cr.compile: tune must be True or False, got {tune!r}.$"):
        cr.compile(layer, tune=tune)  # type: ignore[call-overload]


def test_what_cannot_be_called_is_not_compiled() -> None:
    text = (
        "cr.compile: the first argument must be a function, a method or a module, got int. Compile what computes it: "
        "cr.compile(f), or @cr.compile above its definition."
    )
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        cr.compile(3)  # type: ignore[call-overload]
