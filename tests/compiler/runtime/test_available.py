"""Too large for the machine: an error before anything runs, with the bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import available
from chainrule.errors import ChainruleError, NotEnoughMemoryError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 1,000 bytes left."""
    monkeypatch.setattr(available, "SURE", 0)
    monkeypatch.setattr(available, "available_bytes", lambda: 1000)


def expected(what: str, size: int) -> str:
    return re.escape(
        f"cr.compile: {what} needs {size:,} bytes, and 1,000 are available. Use a smaller batch, fewer steps in one "
        f"loop, or a smaller model."
    )


def test_working_memory(small: None) -> None:
    weight = cr.tensor(np.ones((64, 64), np.float32))
    step = cr.compile(lambda x: ((x @ weight).tanh() @ weight).sum())
    two_products = 2 * 64 * 64 * 4
    text = expected("the working memory of a compiled step (1 thread)", two_products)
    with pytest.raises(MemoryError, match=f"^{text}$"):
        step(cr.tensor(np.ones((64, 64), np.float32)))


def test_results_of_a_loop_and_state_as_it_was(small: None) -> None:
    total = cr.tensor(0.0)

    @cr.compile
    def add(x: cr.Tensor) -> cr.Tensor:
        total.add_(x.sum())
        return x * 2

    with pytest.raises(NotEnoughMemoryError, match=f"^{expected('the results of 100 steps in one loop', 4000)}$"):
        add.loop(cr.tensor(np.ones((100, 10), np.float32)))
    assert total.item() == 0.0
    assert add.loop(cr.tensor(np.ones((2, 10), np.float32))).shape == (2, 10)
    assert total.item() == 20.0


def test_results_that_no_machine_holds() -> None:
    rows = cr.ones(400_000, 1)
    for product in (lambda x: x @ x.T, lambda x: (x @ x.T).exp(), lambda x: x.expand(400_000, 400_000) * 2):
        with pytest.raises(NotEnoughMemoryError, match=r"^cr\.compile: .* needs 640,000,000,\d+ bytes, and"):
            cr.compile(product)(rows)
    weight = cr.ones(1, 1, requires_grad=True)  # with a history
    with pytest.raises(NotEnoughMemoryError, match=r"^cr\.compile: .* needs [\d,]+ bytes, and"):
        cr.compile(lambda x: (x @ weight) @ x.T)(rows)


def test_it_is_both_kinds_of_error() -> None:
    assert issubclass(NotEnoughMemoryError, ChainruleError)
    assert issubclass(NotEnoughMemoryError, MemoryError)


def test_a_step_that_no_machine_holds() -> None:
    rows = cr.tensor(np.zeros((1, 1), np.float32)).expand(1 << 24, 4)
    with pytest.raises(NotEnoughMemoryError, match=r"needs 1,\d\d\d,\d\d\d,\d\d\d,\d\d\d,?\d* bytes, and"):
        cr.compile(lambda x: (x @ x.T).exp().sum())(rows)


def test_what_the_system_says_is_a_number_of_bytes() -> None:
    room = available.available_bytes()
    assert room is None or room > 1 << 20


LIMITED = """
import resource
from pathlib import Path
import chainrule as cr
{before}
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + {room},) * 2)
try:
    print(cr.compile(lambda x: x * 3)(cr.ones(2)).tolist())
except MemoryError as error:
    print(type(error).__name__, error)
"""


def limited(room: int, before: str = "") -> str:
    """What a program prints that may take so many bytes more."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cr.__file__).parent.parent), "OPENBLAS_NUM_THREADS": "1"}
    program = [sys.executable, "-c", LIMITED.format(room=room, before=before)]
    return subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="a limit on addresses is kept by Linux alone")
@pytest.mark.parametrize("before", ["", "cr.compile(lambda x: x + 1)(cr.ones(2))"])
def test_a_limit_on_the_process_is_named(before: str) -> None:
    """Neither "Could not find libllvmlite.so", nor an end of the process by LLVM."""
    needed = 32_000_000 if before else 180_000_000
    text = (
        f"NotEnoughMemoryError cr.compile: LLVM needs {needed:,} bytes of memory, and the limit on this process's address "
        r"space \(ulimit -v, RLIMIT_AS\) leaves [\d,]+\. Raise the limit, or remove it\."
    )
    assert re.fullmatch(text, limited(20_000_000, before).strip())
    assert limited(1 << 30, before) == "[3.0, 3.0]\n"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="a limit on addresses is kept by Linux alone")
def test_what_is_available_knows_of_the_limit() -> None:
    before = "from chainrule.available import available_bytes, address_space; assert address_space() is None"
    after = limited(1 << 30, before + "\nimport atexit; atexit.register(lambda: print(available_bytes() < 1 << 30))")
    assert after.endswith("True\n")
