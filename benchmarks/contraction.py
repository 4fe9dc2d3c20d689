"""Our matrix products alone beside OpenBLAS and MKL, on one core: GFLOP/s, ratios, share of the peak.

    python benchmarks/contraction.py [--rounds 15] [--only 65,mlp_mnist] [--dtype float64] [--json out.json]

Nobody pays for Python: ours runs in one native loop of a compiled step, ``c.copy_(a @ b)``; the others'
``sgemm`` (``dgemm``) is called through its address in a native loop as well, the OpenBLAS that comes with NumPy and the
MKL that comes with PyTorch. Rounds are interleaved; a figure is its fastest round, a ratio the median of
the rounds' ratios. Everyone's matrices start on cache lines. Every product is checked against NumPy's in float64
first.

The forms are those of a dense layer's training step: ``x W^T`` forward, ``dY W`` for the inputs' gradient,
``dY^T x`` for the weight's.
"""

from __future__ import annotations

import argparse
import ctypes
import glob
import json
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CHAINRULE_NUM_THREADS"):
    os.environ[variable] = "1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])

# E402: libraries read how many threads they may use when they are imported.
import numpy as np  # noqa: E402

import chainrule as cr  # noqa: E402
from chainrule.cli.bench.machine import native_function, peak_gflops  # noqa: E402
from chainrule.tensor.memory import copied  # noqa: E402

# Round numbers, and numbers that are multiples of nothing a machine has.
SQUARE = (7, 8, 13, 16, 32, 33, 47, 48, 64, 65, 77, 100, 127, 128, 200, 256, 257, 300, 400, 512, 513, 1000, 1024)
FORMS = ("x W^T", "dY W", "dY^T x")
LAYERS = {
    "mlp_tiny": ((4, 32, 32, 2), 32),
    "mlp_tab": ((30, 128, 128, 2), 64),
    "mlp_mnist": ((784, 256, 128, 10), 128),
    "mlp_big": ((1024, 4096, 4096, 1000), 256),
}
Run = Callable[[int], None]  # so many products


def cases() -> list[tuple[str, str, tuple[int, int, int]]]:
    """Name, form, and (m, n, k) of every product."""
    found = [(f"{n}", form, (n, n, n)) for n in SQUARE for form in FORMS]
    for name, (sizes, batch) in LAYERS.items():
        for inputs, outputs in pairwise(sizes):
            found.append((name, "x W^T", (batch, outputs, inputs)))
            found.append((name, "dY W", (batch, inputs, outputs)))
            found.append((name, "dY^T x", (outputs, inputs, batch)))
    return found


def operands(form: str, m: int, n: int, k: int, dtype: Any) -> tuple[Any, Any]:
    """The two matrices as a training step stores them."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if form == "dY^T x" else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if form == "x W^T" else (k, n)).astype(dtype)
    return copied(a, a.dtype), copied(b, b.dtype)  # on cache lines, for all alike


def product(form: str, a: Any, b: Any) -> Any:
    return a @ b.T if form == "x W^T" else a.T @ b if form == "dY^T x" else a @ b


def ours(form: str, a: Any, b: Any, c: Any) -> Run:
    ta, tb, tc = cr.from_numpy(a), cr.from_numpy(b), cr.tensor(c)

    @cr.compile
    def step(number: Any) -> None:
        tc.copy_(product(form, ta, tb))

    def run(times: int) -> None:
        step.loop(cr.zeros(times))

    run(1)
    np.copyto(c, tc.numpy())
    run(1)  # in a buffer that nobody else holds
    return run


def blas(address: int, integer: str, dtype: Any) -> Callable[[str, Any, Any, Any], Run]:
    """The product by Fortran's ``sgemm`` or ``dgemm``: column by column, so that C^T = op(B)^T op(A)^T is what it computes."""

    def build(form: str, a: Any, b: Any, c: Any) -> Run:
        m, n = c.shape
        k = a.size // m
        word = ctypes.c_int64 if integer == "i64" else ctypes.c_int32
        texts = ctypes.create_string_buffer(b"TN")
        numbers = (word * 6)(n, m, k, b.shape[1], a.shape[1], n)
        scale = np.array([1, 0], dtype)
        letter = {True: ctypes.addressof(texts), False: ctypes.addressof(texts) + 1}
        of, size = ctypes.addressof(numbers), ctypes.sizeof(word)
        pointers = [
            letter[form == "x W^T"], letter[form == "dY^T x"], of, of + size, of + 2 * size, scale.ctypes.data,
            b.ctypes.data, of + 3 * size, a.ctypes.data, of + 4 * size, scale.ctypes.data + scale.itemsize,
            c.ctypes.data, of + 5 * size,
        ]  # fmt: skip
        run = native_function(_repeated(address, pointers), "repeated", ctypes.CFUNCTYPE(None, ctypes.c_int64))
        run.keep = (texts, numbers, scale, a, b, c)
        run(1)
        return run  # type: ignore[no-any-return]

    return build


def _repeated(address: int, pointers: list[int]) -> str:
    """IR: call the function at an address with these pointers (and the lengths of its two texts), many times."""
    arguments = ", ".join([f"ptr inttoptr (i64 {p} to ptr)" for p in pointers] + ["i64 1", "i64 1"])
    return f"""
define void @repeated(i64 %times) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void inttoptr (i64 {address} to ptr)({arguments})
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %times
  br i1 %more, label %loop, label %end
end:
  ret void
}}
"""


def routine(dtype: Any) -> str:
    return {4: "sgemm", 8: "dgemm"}[np.dtype(dtype).itemsize]


def openblas(dtype: Any) -> Callable[[str, Any, Any, Any], Run] | None:
    folder = Path(np.__file__).parent
    for file in glob.glob(str(folder.parent / "numpy.libs" / "*openblas*")) + glob.glob(
        str(folder / ".dylibs" / "*openblas*")
    ):
        library = ctypes.CDLL(file)
        for symbol, integer in ((f"scipy_{routine(dtype)}_64_", "i64"), (f"scipy_{routine(dtype)}_", "i32")):
            if hasattr(library, symbol):
                return blas(ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value or 0, integer, dtype)
    return None


def mkl(dtype: Any) -> Callable[[str, Any, Any, Any], Run] | None:
    try:
        import torch
    except ImportError:
        return None
    for file in glob.glob(str(Path(torch.__file__).parent / "lib" / "*torch_cpu*")):
        library = ctypes.CDLL(file)
        if hasattr(library, f"{routine(dtype)}_"):
            return blas(ctypes.cast(library[f"{routine(dtype)}_"], ctypes.c_void_p).value or 0, "i32", dtype)
    return None


def measure(
    form: str, shape: tuple[int, int, int], makers: dict[str, Any], dtype: Any, rounds: int, seconds: float
) -> dict[str, Any]:
    m, n, k = shape
    a, b = operands(form, m, n, k, dtype)
    exact = product(form, a.astype(np.float64), b.astype(np.float64))
    runs: dict[str, Run] = {}
    for name, make in makers.items():
        c = copied(np.zeros((m, n), dtype), dtype)
        runs[name] = make(form, a, b, c)
        near = 300 * np.finfo(dtype).eps * k**0.5
        np.testing.assert_allclose(c, exact, rtol=0, atol=near, err_msg=f"{name}, {form}, {shape}")
    counts = {name: steps_for(run, seconds) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run(counts[name])
            times[name].append((time.perf_counter() - start) / counts[name])
    return {
        "gflops": {name: 2e-9 * m * n * k / min(t) for name, t in times.items()},
        "ratio": {
            name: statistics.median(x / y for x, y in zip(t, times["ours"], strict=True)) for name, t in times.items()
        },
    }


def steps_for(run: Run, seconds: float) -> int:
    """How many products last about `seconds`."""
    count = 1
    while True:
        start = time.perf_counter()
        run(count)
        took = time.perf_counter() - start
        if took > seconds / 4:
            return max(1, round(count * seconds / took))
        count *= 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.01, help="length of one round")
    parser.add_argument("--only", help="names of cases (sizes, workloads), comma-separated")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--json")
    options = parser.parse_args()
    dtype = np.dtype(options.dtype)
    makers = {"ours": ours, "OpenBLAS": openblas(dtype), "MKL": mkl(dtype)}
    makers = {name: make for name, make in makers.items() if make is not None}
    peak = peak_gflops() * 4 / dtype.itemsize
    print(f"peak of one core: {peak:.1f} GFLOP/s")
    print(
        f"{'case':10} {'form':7} {'m x n x k':>16}   "
        + "".join(f"{name:>9}" for name in makers)
        + "   ratio to each; share of peak"
    )
    results = []
    for name, form, shape in cases():
        if options.only and name not in options.only.split(","):
            continue
        found = measure(form, shape, makers, dtype, options.rounds, options.seconds)
        gflops, ratio = found["gflops"], found["ratio"]
        results.append({"case": name, "form": form, "shape": shape, **found, "share": gflops["ours"] / peak})
        print(
            f"{name:10} {form:7} {'x'.join(map(str, shape)):>16}   " + "".join(f"{g:9.1f}" for g in gflops.values())
            + "   " + " ".join(f"{r:5.2f}" for peer, r in ratio.items() if peer != "ours")
            + f"   {gflops['ours'] / peak:4.0%}", flush=True,
        )  # fmt: skip
    if options.json:
        Path(options.json).write_text(
            json.dumps(
                {"peak_gflops": peak, "peers": [n for n in makers if n != "ours"], "results": results}, indent=2
            ),
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
