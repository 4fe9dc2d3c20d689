"""The cache of machine code, the floating-point state, and what long programs cost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.compiler.codegen.module import ModuleWriter
from chainrule.compiler.plan.target import Target
from chainrule.compiler.program import Program
from chainrule.compiler.runtime import native, units
from chainrule.compiler.runtime.units import Pool, Unit


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "machine code"
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(folder))
    monkeypatch.setattr(native._pool.programs, "most", 0)  # each program asks the folder
    return folder


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry whenever a program is compiled."""
    counted: list[int] = []
    units = Program._units

    def counting(program: Program) -> list[Unit]:
        counted.append(1)
        return units(program)

    monkeypatch.setattr(Program, "_units", counting)
    return counted


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Of a process that compiled nothing yet."""
    fresh = Pool()
    monkeypatch.setattr(native, "_pool", fresh)
    return fresh


def run(scale: float = 3.0) -> list[float]:
    def work(x: Tensor) -> Tensor:
        return (x * scale).exp().sum(0)

    values: list[float] = cr.compile(work)(cr.tensor([[0.0, 1.0], [1.0, 0.0]])).tolist()
    return values


def test_the_second_time_nothing_is_compiled(cache: Path, builds: list[int]) -> None:
    first = run()
    assert len(builds) == 1
    assert run() == first
    assert len(builds) == 1
    run(2.0)
    assert len(builds) == 2
    assert len(list(cache.iterdir())) == 2
    assert not list(cache.glob("*part"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"", lambda data: data[:10], lambda data: data[:-1], lambda data: data[: len(data) // 2],
        lambda data: b"something else entirely", lambda data: data[:100] + b"\x00" + data[101:], lambda data: data + b"x",
    ],
    ids=["empty", "a head", "one byte short", "half", "foreign", "one byte changed", "one byte more"],
)  # fmt: skip
def test_a_damaged_entry_is_rebuilt(cache: Path, builds: list[int], damage: Callable[[bytes], bytes]) -> None:
    first = run()
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    damaged = damage(whole)
    if damaged == whole:
        damaged = whole[:100] + b"\x01" + whole[101:]
    entry.write_bytes(damaged)
    assert run() == first
    assert len(builds) == 2
    assert run() == first
    assert len(builds) == 2


def test_a_folder_in_the_place_of_an_entry(cache: Path, builds: list[int]) -> None:
    first = run()
    (entry,) = cache.iterdir()
    entry.unlink()
    entry.mkdir()
    assert run() == first


def test_a_cache_that_cannot_be_written(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run()
    (tmp_path / "file").write_text("a file, not a folder")
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "file"))
    assert run() == first
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", "/proc/nonexistent/cache")
    assert run() == first


def test_a_full_disk(cache: Path, builds: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **where: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    first = run()
    assert run() == first
    assert len(builds) == 2
    assert not list(cache.iterdir())


def test_another_cpu_or_version_has_entries_of_its_own(
    cache: Path, builds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    for attribute in ("cpu", "features", "version"):
        here = native.machine()
        monkeypatch.setattr(here, attribute, getattr(here, attribute))
        identity = here.identity
        monkeypatch.setattr(here, attribute, "another")
        assert here.identity != identity
        monkeypatch.undo()
        monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(cache))


def test_a_changed_compiler_does_not_meet_its_old_code(
    cache: Path, builds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    monkeypatch.setattr(native, "writers", lambda: "another source")
    run()
    assert len(builds) == 2


# -- kernels that several programs have --------------------------------------------------------------


def compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of kernels whenever some are compiled."""
    counted: list[int] = []
    write = ModuleWriter.text_of_kernels

    def counting(module: ModuleWriter, names: list[str]) -> tuple[str, dict[str, str]]:
        counted.append(len(names))
        return write(module, names)

    monkeypatch.setattr(ModuleWriter, "text_of_kernels", counting)
    return counted


def layers(width: int) -> list[list[float]]:
    """A network whose first layer alone depends on the width."""
    first, second, third = (
        np.random.default_rng(0).normal(size=s).astype("f") for s in ((width, 24), (24, 24), (24, 5))
    )

    def work(x: Tensor) -> Tensor:
        return ((x @ cr.tensor(first)).tanh() @ cr.tensor(second)).relu() @ cr.tensor(third)

    values: list[list[float]] = cr.compile(work)(cr.tensor(np.ones((7, width), "f"))).tolist()
    return values


def test_a_kernel_that_another_program_has_is_not_compiled_again(
    cache: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = compiled_kernels(monkeypatch)
    shared = [layers(width) for width in (6, 9)]
    assert new == [3, 1]
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(cache / "another"))
    for width, values in zip((6, 9), shared, strict=True):
        monkeypatch.setattr(native, "_pool", Pool())
        assert layers(width) == values
    assert new == [3, 1, 3, 3]


def test_kernels_of_an_entry_of_the_cache_serve_other_programs(
    cache: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = compiled_kernels(monkeypatch)
    first = layers(6)
    monkeypatch.setattr(native, "_pool", Pool())  # as another process, which finds the folder
    assert layers(6) == first
    layers(9)
    assert new == [3, 1]


def test_threads_that_compile_at_once(cache: Path, pool: Pool) -> None:
    alone = [layers(width) for width in range(3, 9)]
    native._pool = Pool()
    found: dict[int, list[list[float]]] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: layers(3 + i % 6)}))  # type: ignore[misc]
        for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(12)] == alone * 2


@pytest.mark.parametrize("target", [Target(64, 32), Target(32, 16)])
def test_the_transposes_of_packed_factors_are_compiled_once(
    cache: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    if target.vector_bytes > native.machine().target.vector_bytes:
        pytest.skip("this machine has no vectors of 64 bytes")
    monkeypatch.setattr(native.machine(), "target", target)
    rng, built = np.random.default_rng(0), []
    compile_text = native.compile_text
    monkeypatch.setattr(native, "compile_text", lambda text, effort: built.append(text) or compile_text(text, effort))
    for rows, outputs in ((80, 48), (96, 48), (96, 64)):
        x, w = rng.normal(size=(rows, 32)).astype("f"), rng.normal(size=(outputs, 32)).astype("f")
        product = cr.compile(lambda x, w: x @ w.T)(cr.tensor(x), cr.tensor(w)).numpy()
        np.testing.assert_allclose(product, x.astype("d") @ w.T.astype("d"), atol=1e-4)
    assert sum("define void @transpose" in text for text in built) == 1
    assert sum("call void @transpose" in text for text in built) == 3


def unit(names: str, size: int = 10) -> Unit:
    return Unit(b"x" * size, tuple(names))


def test_no_kernel_is_linked_twice() -> None:
    pool, first, second = Pool(), unit("ab"), unit("bc")
    pool.add([first])
    pool.add([second])
    assert pool.holding("ac") == [first]  # the second one would bring another b
    assert pool.holding("cd") == [second]
    assert pool.holding("d") == []


def test_what_units_need_is_linked_once_and_first() -> None:
    turn, same, fill = unit("t"), unit("t"), unit("f")
    first, second = Unit(b"1", ("a",), (turn,)), Unit(b"2", ("b",), (same, fill))
    assert units.linked([first, second]) == [turn, first, fill, second]


def test_a_large_unit_is_not_linked_for_little() -> None:
    pool, large = Pool(), unit("abcde", units.LARGE + 1)
    pool.add([large])
    assert pool.holding("ab") == []
    assert pool.holding("abc") == [large]


def test_units_of_long_ago_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "MOST", 25)
    pool, made = Pool(), [unit("ab"), unit("cd"), unit("bef")]
    for each in made:
        pool.add([each])
    assert pool.holding("ac") == made[1:2]
    assert pool.holding("fe") == made[2:]


def test_units_are_read_as_they_were_written() -> None:
    made = [Unit(b"\n\x00{", ("k1", "k2")), Unit(b"")]
    made.append(Unit(b"abc", ("k3",), (made[0],)))
    read = units.unpacked(units.packed(made))
    assert [(u.code, u.names) for u in read] == [(u.code, u.names) for u in made]
    assert [u.needs for u in read] == [(), (), (read[0],)]
    for wrong in (b"", b"[]\n", b"{}", b"[[3, [], []]]\nab", b"\x7fELF"):
        with pytest.raises(ValueError, match=r"units of machine code|JSON|Expecting|decode|utf-8"):
            units.unpacked(wrong)


def test_the_folder_is_private(cache: Path) -> None:
    run()
    if os.name == "posix":
        assert cache.stat().st_mode & 0o077 == 0


PROCESS = """
import chainrule as cr
for k in range(3):
    f = cr.compile(lambda x: ((x * float(k + 2)).tanh() @ x.T).softmax(1))
    print(f(cr.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist())
"""


def test_two_processes_at_once(cache: Path) -> None:
    source = str(Path(cr.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1] != ""
    assert len(list(cache.glob("*.o"))) == 3


# -- floating-point state --------------------------------------------------------------------------


def test_denormals_are_flushed_inside_and_kept_outside() -> None:
    tiny = np.full(4, 1e-40, np.float32)
    halve = cr.compile(lambda x: x * 0.5)
    assert halve(cr.tensor(tiny * 0 + np.float32(2e-38))).tolist() == [0, 0, 0, 0]
    assert (tiny * np.float32(0.5)).tolist() != [0, 0, 0, 0]
    failing = cr.compile(lambda x, i: (x * 0.5)[i])
    with pytest.raises(cr.errors.IndexRangeError):
        failing(cr.tensor(tiny), cr.tensor([7]))
    assert (tiny * np.float32(0.5)).tolist() != [0, 0, 0, 0]
    halve.loop(cr.tensor(np.stack([tiny, tiny])))
    assert (tiny * np.float32(0.5)).tolist() != [0, 0, 0, 0]


def test_denormals_in_another_thread() -> None:
    found = []

    def work() -> None:
        tiny = np.full(4, 1e-40, np.float32)
        cr.compile(lambda x: x * 0.25)(cr.tensor(tiny))
        found.append((tiny * np.float32(0.5)).tolist() != [0, 0, 0, 0])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


# -- long programs ------------------------------------------------------------------------------------


def chain(length: int) -> Callable[[Tensor], Tensor]:
    def work(x: Tensor) -> Tensor:
        for i in range(length):
            x = x * 1.0001 + float(i % 7) if i % 2 else x.sin()
        return x

    return work


def test_a_chain_of_5000_ops_compiles() -> None:
    x = cr.tensor([0.5, 1.5], dtype=cr.float64)
    work = cr.compile(chain(5000))
    result = work(x)
    assert work.show("kernels").count("kernel ") > 10  # LLVM's time grows faster than one function does
    np.testing.assert_allclose(result.numpy(), chain(5000)(x).numpy(), rtol=1e-9)


def test_a_chain_of_views_compiles() -> None:
    def work(x: Tensor) -> Tensor:
        for i in range(600):
            x = (
                x.T.reshape(3, 4).flip(0)
                if i % 3
                else x.reshape(4, 3)[1:, :2].reshape(3, 2).expand(2, 3, 2).reshape(4, 3)
            )
        return x

    x = cr.tensor(np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(cr.compile(work)(x).numpy(), work(x).numpy())


def test_a_flipped_index_divides_like_floor() -> None:
    """A slice, an expansion and a reshape divide the index; the flip makes part of it negative."""

    def work(x: Tensor) -> Tensor:
        return x.reshape(4, 3)[1:, :2].expand(2, 3, 2).reshape(4, 3).T.flip(0)

    x = cr.tensor(np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(cr.compile(work)(x).numpy(), work(x).numpy())


def test_equal_layers_are_compiled_once() -> None:
    weights = [cr.tensor(np.eye(8) * 0.9, requires_grad=True) for _ in range(30)]

    @cr.compile
    def work(x: Tensor) -> Tensor:
        for w in weights:
            w.grad = None
            x = (x @ w).tanh()
        x.sum().backward()
        return x.detach()

    work(cr.ones(4, 8, dtype=cr.float64))
    text = work.show("llvm")
    assert text.count("define internal void @k") < 15


# -- other CPUs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_target() -> Iterator[None]:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "target"),
    [
        ("x86_64-unknown-linux-gnu", "haswell", "", Target(32, 16)),
        ("x86_64-unknown-linux-gnu", "x86-64", "", Target(16, 16)),
        ("x86_64-pc-windows-msvc", "haswell", "", Target(32, 16)),
        ("aarch64-unknown-linux-gnu", "generic", "+neon", Target(16, 32)),
        ("arm64-apple-darwin", "apple-m1", "", Target(16, 32)),
    ],
)
def test_a_whole_program_assembles_for_other_cpus(
    every_target: None, triple: str, cpu: str, features: str, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = cr.tensor(np.ones((5, 3), "f"), requires_grad=True)

    def step(x: Tensor, y: Tensor) -> Tensor:
        w.grad = None
        loss = -(x @ w).tanh().log_softmax(1).gather(1, y.unsqueeze(1)).mean()
        loss.backward()
        with cr.no_grad():
            w.sub_(w.grad * cr.rand(5, 3))
        return loss.detach()

    compiled = cr.compile(step)
    compiled(cr.ones(4, 5), cr.tensor([0, 1, 2, 0]))
    program: Any = compiled._latest.program  # type: ignore[union-attr]
    here = native.machine()
    monkeypatch.setattr(here, "target", target)
    monkeypatch.setattr(here, "triple", triple)
    other = type(program)(program.graph, program.slots, program.written, program.names)
    module = llvm.parse_assembly(other.llvm)
    module.triple = triple
    module.verify()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=2)
    assembly = machine.emit_assembly(module)
    assert "run" in assembly
    assert len(machine.emit_object(module)) > 1000


@pytest.mark.parametrize("limit", ["LONG", "LENGTHY"])
def test_a_step_of_many_kernels_or_much_work_is_compiled_without_effort_to_the_same_bits(
    cache: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    efforts: list[int] = []
    compile_text = native.compile_text

    def noted(text: str, effort: int = 2) -> bytes:
        efforts.append(effort)
        return compile_text(text, effort)

    monkeypatch.setattr(native, "compile_text", noted)
    found = []
    for most in (0, 1 << 30):
        monkeypatch.setattr(f"chainrule.compiler.program.{limit}", most)
        monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(cache / str(most)))  # both have one name there
        efforts.clear()
        cr.manual_seed(0)
        model = cr.nn.Sequential(cr.nn.Linear(6, 16), cr.nn.Dropout(0.3), cr.nn.Linear(16, 2))
        trainer = cr.Trainer(model, "cross_entropy", "adam")
        X, y = np.arange(120, dtype=np.float32).reshape(20, 6) % 7, np.arange(20) % 2
        trainer.fit(X, y, 2, 8, progress=False)
        assert (0 in efforts) is (most == 0)
        found.append([p.detach().numpy().tobytes() for p in model.parameters()])
    assert found[0] == found[1]


def test_the_run_clears_vector_registers_and_no_kernel_does() -> None:
    """After it, code for SSE (Python's) is no slower; code that a linker takes has no run, and clears them at each end."""
    if not native.machine().target.clears:
        pytest.skip("this CPU has no AVX")
    w = cr.ones(64, 64)
    function = cr.compile(lambda x: (x @ w).relu().sum(0))
    function(cr.ones(64, 64))
    functions = re.split(r"\n(\w+):\n", function.show("asm"))[1:]  # names and what follows each, by turns
    clearing = [name for name, text in zip(functions[::2], functions[1::2], strict=True) if "vzeroupper" in text]
    assert clearing == ["run"]
    assert len(functions) > 10
    assert function.show("asm", "x86-64-v3").count("vzeroupper") > 1
