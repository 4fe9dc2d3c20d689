"""The search for the fastest tile: what it chooses, what it remembers, and that it changes no bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.compiler import blocking, native, tuning
from chainrule.compiler.blocking import Contraction, Target, Tile, plan

SPEC = Contraction(64, 96, 80, "float", (80, 1), (96, 1))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CHAINRULE_TUNE", "1")
    blocking.plan.cache_clear()
    yield tmp_path
    blocking.plan.cache_clear()


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
    found = plan(SPEC, native.machine().target)
    return found.width // found.lanes, found.rows


def test_the_fastest_tile_is_chosen_and_remembered(folder: Path, timed: list[Tile]) -> None:
    assert chosen() == timed[-1]
    assert 2 <= len(timed) <= tuning.CANDIDATES
    count = len(timed)
    blocking.plan.cache_clear()
    assert chosen() == timed[-1]
    assert len(timed) == count
    assert [file.suffix for file in folder.iterdir()] == [".json"]


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"64x96x80 float (80, 1) (96, 1)": [99, 99]}', "\x00"])
def test_a_damaged_file_is_searched_anew(content: str, folder: Path, timed: list[Tile]) -> None:
    chosen()
    (file,) = folder.iterdir()
    file.write_text(content, encoding="utf-8")
    blocking.plan.cache_clear()
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
    blocking.plan.cache_clear()
    np.testing.assert_array_equal(cr.compile(layer)(x, w).numpy(), searched)
