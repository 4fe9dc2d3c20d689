"""The folder of machine code stays small, whoever else uses it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from chainrule.compiler import cache


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    return tmp_path


def put(name: str, age: float, size: int = 10) -> Path:
    """An entry last used `age` seconds ago."""
    path = cache.path_of(name)
    cache.write(path, b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_beyond_so_many_entries_those_used_longest_ago_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [put(f"new {i}", age=i) for i in range(1, 3)]
    old = [put(f"old {i}", age=100 + i) for i in range(3)]
    monkeypatch.setattr(cache, "MOST_ENTRIES", 3)
    cache.prune(folder)
    assert set(folder.iterdir()) == {*kept, old[0]}


def test_beyond_so_many_bytes_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = put("old", 100, size=4000), put("new", 1, size=4000)
    monkeypatch.setattr(cache, "MOST_BYTES", 6000)
    cache.prune(folder)
    assert list(folder.iterdir()) == [new]
    assert not old.exists()


def test_an_entry_that_is_read_counts_as_new(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused = put("used", 200), put("unused", 100)
    assert cache.read(used) == b"x" * 10
    monkeypatch.setattr(cache, "MOST_ENTRIES", 2)
    cache.write(cache.path_of("another"), b"y")
    assert used.exists()
    assert not unused.exists()


def test_what_a_dead_process_left_half_written_goes_and_what_is_being_written_stays(folder: Path) -> None:
    dead, alive = folder / "a.part", folder / "b.part"
    for part in (dead, alive):
        part.write_bytes(b"half")
    os.utime(dead, (time.time() - 7200,) * 2)
    put("entry", 0)
    assert not dead.exists()
    assert alive.exists()


def test_an_entry_that_another_process_removed_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        put(f"entry {i}", age=i)
    unlink = os.unlink

    def twice(path: str) -> None:  # the other process is always a moment earlier
        unlink(path)
        unlink(path)

    monkeypatch.setattr(cache, "MOST_ENTRIES", 2)
    monkeypatch.setattr(os, "unlink", twice)
    cache.prune(folder)
    assert len(list(folder.iterdir())) == 2
