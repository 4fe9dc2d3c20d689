"""Canaries: bytes around working memory that no kernel may touch, laid before a run and looked at after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chainrule.compiler.codegen.matmul import packing
from chainrule.compiler.plan import nests, tiling
from chainrule.compiler.plan.product import Tiles
from chainrule.compiler.runtime import native, run
from chainrule.compiler.runtime.run import Run
from chainrule.compiler.runtime.units import Pool
from chainrule.compiler.schedule import memory
from chainrule.compiler.schedule.loops import Alloc

Array = np.ndarray[Any, Any]
GUARD, PATTERN = 1 << 12, 0xA5  # bytes of each, and what they hold


def surrounded(size: int) -> tuple[Array, Array]:
    """So many bytes, and the whole that they lie in the middle of."""
    whole = np.full(size + 2 * GUARD, PATTERN, np.uint8)
    return whole[GUARD : GUARD + size], whole


class Canaries:
    """Between and around the arena and each thread's scratch memory of every run that begins from here on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: list[Run] = []
        self.wholes: list[Array] = []
        allocate, tiled, reserve = memory._allocate, nests.tiled, Run._reserve

        def wide_arena(*args: Any) -> tuple[int, int]:
            arena, total = allocate(*args)
            return arena + GUARD, total

        def with_wide_scratch(*args: Any) -> Tiles:
            tiles = tiled(*args)
            return replace(tiles, scratch=tiles.scratch + GUARD) if tiles.scratch else tiles

        ends = Alloc.end.fget

        def wide_end(room: Alloc) -> int:
            return ends(room) + GUARD if room.offset is not None else 0  # type: ignore[misc]

        def reserve_and_lay(made: Run, threads: int) -> None:
            reserve(made, threads)
            made.working[:] = PATTERN
            self.runs.append(made)

        def aligned(size: int) -> Array:
            inside, whole = surrounded(size)
            self.wholes.append(whole)
            return inside

        monkeypatch.setattr(memory, "_allocate", wide_arena)
        monkeypatch.setattr(nests, "tiled", with_wide_scratch)
        monkeypatch.setattr(Alloc, "end", property(wide_end))
        monkeypatch.setattr(native, "_pool", Pool())  # kernels of other tests have other scratch memory
        monkeypatch.setattr(run, "aligned", aligned)
        monkeypatch.setattr(Run, "_reserve", reserve_and_lay)

    def check(self) -> None:
        assert self.runs
        for whole in self.wholes:
            assert (whole[:GUARD] == PATTERN).all(), "written before the working memory"
            assert (whole[-GUARD:] == PATTERN).all(), "written behind the working memory"
        for made in self.runs:
            arena, scratch = made.program.plan.arena, made.program.scratch
            assert made.program.module.scratch == scratch
            for end in [arena, *(arena + scratch * (thread + 1) for thread in range(made.threads) if scratch)]:
                assert (made.working[end - GUARD : end] == PATTERN).all(), f"written behind byte {end - GUARD}"


def lay_between_parts(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    """So many elements behind each part of a product's scratch memory."""
    parts = tiling.scratch_parts
    monkeypatch.setattr(native, "_pool", Pool())
    for room in (tiling, packing):
        monkeypatch.setattr(
            room, "scratch_parts", lambda *args: tuple(part + elements if part else 0 for part in parts(*args))
        )
