"""A compiled step as an object file: the same bits on other CPUs, what is in it, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, nn, optim
from chainrule.errors import InPlaceError, SettingError, TraceError, UnknownNameError, UnwritableFileError
from chainrule.tensor.core import stored
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


@dataclass
class Exported:
    """A training that was exported after its first step, for a CPU, and what it then did here."""

    cpu: str | None
    folder: Path
    training: Training
    losses: list[float] = field(default_factory=list)
    state: list[bytes] = field(default_factory=list)


@pytest.fixture(params=[None, *ELSEWHERE], scope="module")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    made = Exported(request.param, tmp_path_factory.mktemp("exported"), Training())
    names = dict(made.training.model.named_parameters())
    made.training.step.export(made.folder / "step.o", made.cpu, names=names)
    made.losses = [made.training.call(k).item() for k in range(STEPS)]  # now: each test begins with a generator anew
    made.state = made.training.state()
    return made


def test_losses_and_weights_are_the_same_to_the_bit(exported: Exported) -> None:
    training = exported.training
    found = elsewhere.run(exported.folder, exported.cpu, [training.x, training.y], [np.zeros((), "float32")], STEPS)
    assert np.frombuffer(found.pop("out0"), "float32").tolist() == exported.losses
    state = {name: data for name, data in found.items() if "number" not in name}
    assert list(state.values()) == exported.state
    assert state["step_3_weight"] == training.model[3].weight.detach().numpy().tobytes()
    assert exported.losses[-1] < exported.losses[0]


def product(x: Tensor) -> Tensor:
    """Multiply-adds of float64, each in one rounding."""
    return x @ cr.tensor(np.random.default_rng(2).normal(size=(5, 4)))


def far_sine(x: Tensor) -> Tensor:
    """Products of 192 bits."""
    return (x * 1e12).sin()


@pytest.mark.parametrize(("cpu", "function"), [("cortex-m4", product), ("wasm32", product), ("wasm32", far_sine)])
def test_what_the_cpu_has_no_instruction_for(cpu: str, function: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    f = cr.compile(function)
    x = np.random.default_rng(3).normal(size=(6, 5))
    result = f(cr.tensor(x)).numpy()
    f.export(tmp_path / "step.o", cpu)
    assert elsewhere.run(tmp_path, cpu, [x[None]], [result], 1) == {"out0": result.tobytes()}


@pytest.mark.parametrize("cpu", [None, "cortex-m4", "riscv64"])
def test_bfloat16_is_words(cpu: str | None, tmp_path: Path) -> None:
    weight = cr.tensor(np.random.default_rng(2).normal(size=(5, 4)), cr.bfloat16)

    @cr.compile
    def f(x: Tensor) -> Tensor:
        return x.bfloat16() @ weight

    x = np.random.default_rng(3).normal(size=(6, 5)).astype("float32")
    result = stored(f(cr.tensor(x)))
    f.export(tmp_path / "step.o", cpu)
    header = (tmp_path / "step.h").read_text()
    assert "uint16_t step_state0[20]; /* bfloat16 (5, 4), each word the upper half of a float */" in header
    assert elsewhere.run(tmp_path, cpu, [x[None]], [result], 1) == {"out0": result.tobytes()}


@pytest.mark.parametrize("cpu", ["cortex-m4", "neoverse-n1"])
def test_numbers_too_small_to_be_normal_are_taken_for_0(cpu: str, tmp_path: Path) -> None:
    small = cr.tensor(1e-30)

    @cr.compile
    def f(x: Tensor) -> Tensor:
        small.mul_(0.01)
        return small * x

    f(cr.ones(3))
    f.export(tmp_path / "step.o", cpu)
    ones = np.ones((5, 3), "float32")
    found = elsewhere.run(tmp_path, cpu, [ones], [ones[0]], 5)
    expected = np.array([f(cr.ones(3)).tolist() for _ in range(5)], "float32")
    assert (
        expected[-1].tolist() == [0, 0, 0]
        and np.frombuffer(found["out0"], "float32").tolist() == expected.ravel().tolist()
    )


def test_a_check_that_fails_gives_its_number_and_changes_nothing(tmp_path: Path) -> None:
    training = Training()
    training.step.export(tmp_path / "step.o")
    training.y[STEPS // 2, 4] = 7
    found = elsewhere.run(tmp_path, None, [training.x, training.y], [np.zeros((), "float32")], STEPS)
    assert found == {"failed": b"\1"}
    assert re.search(
        r"^ \* 1: .*an index is out of range for an axis of size 3", (tmp_path / "step.h").read_text(), re.MULTILINE
    )


def test_the_object_defines_the_step_and_its_state(exported: Exported) -> None:
    data = (exported.folder / "step.o").read_bytes()
    if exported.cpu == "wasm32":
        assert data[:8] == b"\0asm\1\0\0\0"
    elif exported.cpu in MAGIC:
        magic, machine = MAGIC[exported.cpu]
        assert data.startswith(magic) and int.from_bytes(data[18:20], "little") == machine
    for name in (b"step_0_weight", b"step_3_bias", b"step_state2", b"step"):
        assert name in data
    # A name of Python's goes on after its first two letters; those alone may be an address.
    assert not re.search(rb"Py[A-Z_]", data) and b"barrier" not in data and b"pthread" not in data
    header = (exported.folder / "step.h").read_text()
    assert "extern float step_0_weight[120]; /* float32 (20, 6): 0.weight */" in header
    assert "int32_t step(\n    const float arg0[54] /* float32 (9, 6) */,\n    const int64_t arg1[9]" in header


# -- what is in it ---------------------------------------------------------------------------------------------------


def test_recurrences_and_arguments_that_change(tmp_path: Path) -> None:
    weight = cr.tensor([[0.5, -0.25], [0.125, 0.75]])

    @cr.compile
    def roll(hidden: Tensor, rows: Tensor) -> Tensor:
        last, states = cr.scan(lambda h, x: ((h @ weight + x).tanh(),) * 2, hidden, rows)
        hidden.copy_(last)
        return states

    rows = np.random.default_rng(1).normal(size=(STEPS, 7, 2)).astype("float32")
    hidden = cr.zeros(2)
    roll(hidden, cr.tensor(rows[0]))
    roll.export(tmp_path / "step.o")
    assert "    float arg0[2] /* float32 (2,): changed */" in (tmp_path / "step.h").read_text()
    given = hidden.numpy().copy()
    states = roll(hidden, cr.tensor(rows[1]))
    found = elsewhere.run(tmp_path, None, [given[None], rows[1][None]], [states.numpy()], 1)
    assert found == {"out0": states.numpy().tobytes()}


def test_what_is_only_read_is_constant_and_names_are_apart(tmp_path: Path) -> None:
    a, b, total = cr.ones(2), cr.tensor([2.0, 3.0]), cr.tensor(1.0)

    @cr.compile
    def f(x: Tensor) -> Tensor:
        total.mul_(2)
        return (x * a + b).sum() * total

    f(cr.ones(2))
    f.export(tmp_path / "step.o", names={"a.b": a, "a_b": b, "/* total */": total})
    header = (tmp_path / "step.h").read_text()
    declared = re.findall(r"^extern (.*); /\* float32 (.*) \*/$", header, re.MULTILINE)
    assert sorted(declared) == [
        ("const float step_a_b[2]", "(2,): a.b"), ("const float step_a_b_2[2]", "(2,): a_b"),
        ("float step____total___[1]", "(): / * total * /"),
    ]  # fmt: skip
    found = elsewhere.run(tmp_path, None, [np.ones((3, 2), "float32")], [np.zeros((), "float32")], 3)
    assert np.frombuffer(found["out0"], "float32").tolist() == [28.0, 56.0, 112.0]
    assert f(cr.ones(2)).item() == 28.0  # the export took a copy


# -- what is refused -------------------------------------------------------------------------------------------------


def refused(error: type[Exception], text: str, function: object, **options: object) -> None:
    with pytest.raises(error) as caught:
        function.export("missing/step.o", **options)  # type: ignore[attr-defined]
    assert str(caught.value) == text


def test_no_program_or_several() -> None:
    f = cr.compile(lambda x: x * 2)
    refused(TraceError, "export: nothing has been compiled yet. Call the function once first.", f)
    f(cr.ones(2))
    f(cr.ones(3))
    refused(
        TraceError,
        "export: the function was compiled for 2 signatures (shapes, dtypes and Python arguments), and an object holds one. "
        "Compile it anew, cr.compile(f), and call it with the one that is meant.",
        f,
    )


def test_names_and_files(tmp_path: Path) -> None:
    f = cr.compile(lambda x: x * 2)
    f(cr.ones(2))
    for name in ("2nd", "int", "memcpy", "a b", "", "\u00e9t\u00e9"):
        text = f"export: name must be a name for a function of C, got {name!r}. Pass 'step', for example."
        refused(SettingError, text, f, name=name)
    refused(
        SettingError,
        "export: names must be a dict of tensors by their names, got [1]. Pass dict(model.named_parameters()), for example.",
        f,
        names=[1],
    )
    with pytest.raises(
        UnknownNameError, match=r"^unknown cpu 'cortex'\. Did you mean 'cortex-m4'\? Known: apple-m1, cortex-m4,"
    ):
        f.export(tmp_path / "step.o", cpu="cortex")
    with pytest.raises(
        SettingError, match=r"^export: .*step\.h is the name of the header, which is written beside the object\."
    ):
        f.export(tmp_path / "step.h")
    with pytest.raises(UnwritableFileError, match=r"missing/step\.o: this file could not be written"):
        f.export(tmp_path / "missing" / "step.o")
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_follow_itself() -> None:
    w = cr.ones(2, requires_grad=True)
    history = cr.compile(lambda x: x * w)
    history(cr.ones(2))
    refused(
        TraceError,
        "export: the function returns tensors that require grad, and no gradient flows out of C. Run it under cr.no_grad(), "
        "detach its results, or call backward inside it.",
        history,
    )

    @cr.compile
    def accumulate(x: Tensor) -> None:
        (x * w).sum().backward()

    accumulate(cr.ones(2))
    refused(
        TraceError,
        "export: the next call would be another program (it finds a gradient where there was none, say), and an object holds "
        "one. Call the function once more before, or zero_grad() inside.",
        accumulate,
    )

    @cr.compile
    def of_argument(x: Tensor) -> None:
        (x * x).sum().backward()

    of_argument(cr.ones(2, requires_grad=True))
    refused(
        TraceError,
        "export: the function leaves gradients in its arguments, which have no place in C. Return them: return x.grad.",
        of_argument,
    )


def test_views_of_what_changes() -> None:
    whole = cr.zeros(4)
    leaf = whole[:2].detach().requires_grad_()

    @cr.compile
    def f(x: Tensor) -> Tensor:
        y = (leaf * x).sum().detach()
        whole.add_(1)
        return y

    f(cr.ones(2))
    refused(
        InPlaceError,
        "export: the function reads a leaf that is a view of a tensor it changes, which in C would not see the change. "
        ".clone() the leaf.",
        f,
    )
