"""Files of valid bytes and wrong contents: one error that says what, and nothing changed (10,000 of them: `hostile`)."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.errors import StateDictError
from chainrule.training import load_file, save_file
from tests.faults.hostile import Hunt, X, Y, everything


def test_hostile_files_change_nothing(tmp_path: Path) -> None:
    hunt = Hunt(7, tmp_path)
    hunt.run(22)  # every kind once or twice, so that all is compiled and imported
    tracemalloc.start()
    try:
        hunt.run(130)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert hunt.wrong == []
    assert most < 30 << 20
    assert sum(count for name, count in hunt.counts.items() if name.endswith("Error")) > 90


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


def refused(hunt: Hunt, path: Path, tensors: dict[str, Any], meta: Any) -> str:
    """The error of the first trainer for this content; it is as it was."""
    save_file(tensors, path, meta, durable=False)
    made = hunt.trainers[0]
    before = everything(made)
    with pytest.raises(StateDictError) as caught:
        made.load(path)
    assert everything(made) == before
    return str(caught.value)


def test_weights_and_gradients_of_another_dtype_are_refused(tmp_path: Path) -> None:
    hunt = Hunt(0, tmp_path)
    tensors, meta = hunt.saved[0]
    for name in ("weights.model.0.weight", "gradients.model.0.weight"):
        given = {**tensors, name: tensors["weights.model.0.weight"].astype("f8")}
        assert refused(hunt, tmp_path / "a", given, meta) == (
            f"load: {tmp_path / 'a'} holds 'model.0.weight' as float64, this training has it as float32. Build the model as "
            f"it was when it was saved."
        )


def test_an_optimizer_without_some_of_its_state_is_refused(tmp_path: Path) -> None:
    hunt = Hunt(0, tmp_path)
    tensors, meta = hunt.saved[0]
    (_, state), _ = meta["optimizer"]["pairs"]
    (_, first), *_ = state["pairs"]
    kept = first["pairs"]
    first["pairs"] = [pair for pair in kept if pair[0] != "exp_avg"]
    text = "It was not saved whole: copy it again, or train again."
    assert refused(hunt, tmp_path / "a", tensors, meta) == f"AdamW: the state_dict lacks exp_avg of parameter 0. {text}"
    first["pairs"] = kept
    state["pairs"] = state["pairs"][1:]
    assert refused(hunt, tmp_path / "a", tensors, meta).startswith(
        "AdamW: the state_dict lacks exp_avg, exp_avg_sq, step of"
    )


def test_a_setting_that_brought_state_with_it_can_be_gone_back_from(tmp_path: Path) -> None:
    """A checkpoint from before a momentum was turned on needs no momentum."""
    model = cr.nn.Linear(4, 2)
    sgd = cr.optim.SGD(model.parameters(), lr=0.1)
    made = cr.Trainer(model, F.cross_entropy, sgd)
    made.fit(X, Y, epochs=1, progress=False)
    made.save(tmp_path / "plain")
    before = everything(made)
    sgd.param_groups[0]["momentum"] = 0.9
    made.fit(X, Y, epochs=2, progress=False, resume=True)
    made.save(tmp_path / "with momentum")
    made.load(tmp_path / "plain")
    assert {**everything(made), "state": None} == {**before, "state": None}
    made.load(tmp_path / "with momentum")
    assert sgd.param_groups[0]["momentum"] == 0.9
    assert sgd.state_dict()["state"][0]["momentum_buffer"].numpy().any()
