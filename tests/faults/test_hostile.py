"""Files of valid bytes and wrong contents: one error that says what, and nothing changed (10,000 of them: `hostile`)."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from chainrule.training import load_file, save_file
from tests.faults.hostile import Hunt, everything


def test_hostile_files_change_nothing(tmp_path: Path) -> None:
    hunt = Hunt(7, tmp_path)
    hunt.run(14)  # every kind once or twice, so that all is compiled and imported
    tracemalloc.start()
    try:
        hunt.run(210)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert hunt.wrong == []
    assert most < 30 << 20
    assert sum(count for name, count in hunt.counts.items() if name.endswith("Error")) > 150


def test_the_hunt_sees_what_a_failed_load_leaves_behind(tmp_path: Path) -> None:
    hunt = Hunt(0, tmp_path)
    made = hunt.trainers[0]

    def half() -> None:
        made.model[0].weight.data.add_(1)
        made.load("nothing")

    with pytest.raises(AssertionError, match=r"left \['weights'\] changed"):
        hunt.judge("planted", half, lambda: everything(made))


def test_what_a_training_needs_must_be_there_whole(tmp_path: Path) -> None:
    """Each tensor and each field of a checkpoint left out in turn: refused, unless it is the gradient of none."""
    hunt = Hunt(0, tmp_path)
    for kind, made in enumerate(hunt.trainers):
        tensors, meta = hunt.saved[kind]
        for name in tensors:
            save_file({k: v for k, v in tensors.items() if k != name}, tmp_path / "hostile", meta, durable=False)
            loaded = hunt.judge(
                "left out", lambda made=made: made.load(tmp_path / "hostile"), lambda made=made: everything(made)
            )
            assert loaded == name.startswith("gradients."), name
        for holder, key in hunt.mutator.places(meta, []):
            if isinstance(holder, dict) and isinstance(key, str) and not isinstance(holder[key], list):
                kept = holder.pop(key)
                save_file(tensors, tmp_path / "hostile", meta, durable=False)
                hunt.judge(
                    "left out", lambda made=made: made.load(tmp_path / "hostile"), lambda made=made: everything(made)
                )
                holder[key] = kept
        found, again = load_file(tmp_path / f"saved-{kind}")
        assert again == meta
        assert all(np.array_equal(found[name].numpy(), tensors[name]) for name in tensors)
