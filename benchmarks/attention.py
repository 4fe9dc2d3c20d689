"""Scaled dot-product attention beside PyTorch's, on one thread, forwards and forwards and backwards: CPU time and memory.

Run: ``OMP_NUM_THREADS=1 CHAINRULE_NUM_THREADS=1 python benchmarks/attention.py`` with PyTorch installed.

Both compute the same, in turns; of the rounds the fastest counts. "apart" keeps all scores, as the compiler does where there are
few; "nests" computes those of some queries or keys at a time. Memory is what a step needs beside its inputs and results.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CHAINRULE_NUM_THREADS", "1")

import numpy as np
import torch

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.compiler.schedule import regions

SHAPES = (8, 4, 128, 32), (2, 4, 1024, 64)  # sequences, heads, steps, features of each
ROUNDS = 15


def fastest(functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Milliseconds of CPU time of each, taken in turns."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(ROUNDS + 2):
        for name, function in functions.items():
            begun = time.process_time()
            function()
            best[name] = min(best[name], (time.process_time() - begun) * 1e3)
    return best


def theirs(arrays: list[Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]

    def forwards() -> None:
        with torch.no_grad():
            torch.nn.functional.scaled_dot_product_attention(*leaves)

    def both() -> None:
        for leaf in leaves:
            leaf.grad = None
        y = torch.nn.functional.scaled_dot_product_attention(*leaves)
        (y * y).sum().backward()

    return forwards, both


def ours(arrays: list[Any], apart: bool) -> tuple[Callable[[], Any], Callable[[], Any], int]:
    """The two functions, and the bytes of working memory of the second."""
    regions.ONCE = regions.AGAIN = 1 << 60 if apart else 0
    given = [cr.tensor(a) for a in arrays]
    forwards = cr.compile(F.scaled_dot_product_attention)

    @cr.compile
    def both(*tensors: cr.Tensor) -> list[Any]:
        leaves = [x.detach().requires_grad_() for x in tensors]
        y = F.scaled_dot_product_attention(*leaves)
        (y * y).sum().backward()
        return [x.grad for x in leaves]

    forwards(*given), both(*given)  # compiled while the constants stand
    program = both._latest.program
    return lambda: forwards(*given), lambda: both(*given), program.plan.arena + program.scratch


def main() -> None:
    for shape in SHAPES:
        rng = np.random.default_rng(0)
        arrays = [rng.normal(size=shape).astype(np.float32) for _ in range(3)]
        made = {"PyTorch": theirs(arrays), "apart": ours(arrays, True), "nests": ours(arrays, False)}
        for position, what in enumerate(("forwards", "forwards and backwards")):
            found = fastest({name: functions[position] for name, functions in made.items()})
            times = ", ".join(f"{name} {ms:.2f} ms" for name, ms in found.items())
            print(f"{shape} {what}: {times}")
        print(f"{shape} memory: apart {made['apart'][2]:,} bytes, nests {made['nests'][2]:,} bytes", flush=True)


if __name__ == "__main__":
    main()
