"""A compiled step as an object file: the same bits on other CPUs, what is in it, and what is refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, nn, optim
from chainrule.errors import InPlaceError, SettingError, TraceError, UnknownNameError, UnwritableFileError
from tests.compiler.exported import elsewhere

STEPS = 20
ELSEWHERE = ["riscv64", "neoverse-n1", "cortex-m4", "wasm32"]
MAGIC = {"riscv64": (b"\x7fELF\2", 243), "neoverse-n1": (b"\x7fELF\2", 183), "cortex-m4": (b"\x7fELF\1", 40)}


class Training:
    """A small network with dropout, trained by Adam."""

    def __init__(self) -> None:
        cr.manual_seed(3)
        self.model = nn.Sequential(nn.Linear(6, 20), nn.GELU(), nn.Dropout(0.25), nn.Linear(20, 3))
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.03)
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(STEPS, 9, 6)).astype("float32")
        self.y = self.x[..., :3].argmax(-1)
        self.step = cr.compile(self._step)
        self.call(0)

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def call(self, k: int) -> Tensor:
        loss: Tensor = self.step(cr.tensor(self.x[k]), cr.tensor(self.y[k]))
        return loss

    def state(self) -> list[bytes]:
        """All that the step keeps, in the order in which it is declared."""
        program = self.step._latest
        assert program is not None
        kept = [slot.current().detach().numpy() for slot in program.state if slot.writes]
        left = [place.get().detach().numpy() for place in program.placed]
        return [array.tobytes() for array in [*kept, *left]]


@pytest.mark.parametrize("cpu", [None, *ELSEWHERE])
def test_losses_and_weights_are_the_same_to_the_bit(cpu: str | None, tmp_path: Path) -> None:
    training = Training()
    training.step.export(tmp_path / "step.o", cpu, names=dict(training.model.named_parameters()))
    found = elsewhere.run(tmp_path, cpu, [training.x, training.y], [np.zeros((), "float32")], STEPS)
    losses = [training.call(k).numpy() for k in range(STEPS)]
    assert np.frombuffer(found.pop("out0"), "float32").tolist() == [float(loss) for loss in losses]
    state = {name: data for name, data in found.items() if "number" not in name}
    assert list(state.values()) == training.state()
    assert state["step_3_weight"] == training.model[3].weight.detach().numpy().tobytes()
    assert losses[-1] < losses[0]


def test_a_check_that_fails_gives_its_number_and_changes_nothing(tmp_path: Path) -> None:
    training = Training()
    training.step.export(tmp_path / "step.o")
    training.y[STEPS // 2, 4] = 7
    found = elsewhere.run(tmp_path, None, [training.x, training.y], [np.zeros((), "float32")], STEPS)
    assert found == {"failed": b"\1"}
    assert re.search(
        r"^ \* 1: .*an index is out of range for an axis of size 3", (tmp_path / "step.h").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("cpu", ELSEWHERE)
def test_the_object_defines_the_step_and_its_state(cpu: str, tmp_path: Path) -> None:
    training = Training()
    training.step.export(tmp_path / "train.o", cpu, "train", dict(training.model.named_parameters()))
    data = (tmp_path / "train.o").read_bytes()
    if cpu == "wasm32":
        assert data[:8] == b"\0asm\1\0\0\0"
    else:
        magic, machine = MAGIC[cpu]
        assert data.startswith(magic) and int.from_bytes(data[18:20], "little") == machine
    for name in (b"train", b"train_0_weight", b"train_3_bias", b"train_state2"):
        assert name in data
    assert b"Py" not in data and b"barrier" not in data and b"pthread" not in data
    header = (tmp_path / "train.h").read_text()
    assert "extern float train_0_weight[120]; /* float32 (20, 6): 0.weight */" in header
    assert "int32_t train(\n    const float arg0[54] /* float32 (9, 6) */,\n    const int64_t arg1[9]" in header
