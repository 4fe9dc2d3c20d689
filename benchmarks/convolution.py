"""Convolutions and their gradients beside PyTorch's, on one thread, in PyTorch's order of axes: milliseconds.

Run: ``OMP_NUM_THREADS=1 CHAINRULE_NUM_THREADS=1 python benchmarks/convolution.py`` with PyTorch installed.

Both compute the same, in turns; of the rounds the fastest counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CHAINRULE_NUM_THREADS", "1")

import numpy as np
import torch

import chainrule as cr
import chainrule.nn.functional as F

ROUNDS = 9


class Case(NamedTuple):
    """A layer: images, channels in and out, their size, window, stride, padding; `back`: `conv_transpose2d`."""

    images: int
    channels: int
    out: int
    size: int
    window: int
    stride: int = 1
    padding: int = 0
    back: bool = False


CASES = {
    "first layer": Case(64, 1, 16, 28, 5),
    "one output": Case(32, 32, 1, 28, 3, padding=1),
    "64 channels": Case(32, 64, 64, 16, 3, padding=1),
    "512 channels": Case(8, 512, 512, 8, 3, padding=1),
    "stride 2": Case(64, 32, 64, 16, 3, 2, 1),
    "transposed": Case(32, 64, 32, 14, 4, 2, 1, back=True),
}


def functions(case: Case) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """What is computed, by us and by PyTorch."""
    rng = np.random.default_rng(0)
    sides = (case.channels, case.out) if case.back else (case.out, case.channels)
    x = rng.standard_normal((case.images, case.channels, case.size, case.size)).astype(np.float32)
    w = rng.standard_normal((*sides, case.window, case.window)).astype(np.float32)
    how: dict[str, Any] = {"stride": case.stride, "padding": case.padding}
    layer = F.conv_transpose2d if case.back else F.conv2d
    of_torch = torch.nn.functional.conv_transpose2d if case.back else torch.nn.functional.conv2d
    tx, tw = torch.tensor(x), torch.tensor(w)
    dY = torch.randn_like(of_torch(tx, tw, **how))
    forwards = cr.compile(lambda x, w: layer(x, w, **how))
    by_weight = cr.compile(lambda x, w, dY: cr.vjp(lambda w: layer(x, w, **how), w)[1](dY)[0])
    by_input = cr.compile(lambda x, w, dY: cr.vjp(lambda x: layer(x, w, **how), x)[1](dY)[0])
    given = [cr.tensor(x), cr.tensor(w), cr.tensor(dY.numpy())]

    def back(*which: bool) -> Callable[[], Any]:
        pairs = [case.stride] * 2, [case.padding] * 2, [1, 1], case.back, [0, 0], 1, [*which, False]
        return lambda: torch.ops.aten.convolution_backward(dY, tx, tw, None, *pairs)

    return {
        "forwards": (lambda: forwards(*given[:2]), lambda: of_torch(tx, tw, **how)),
        "by weight": (lambda: by_weight(*given), back(False, True)),
        "by input": (lambda: by_input(*given), back(True, False)),
    }


def fastest(pair: tuple[Callable[[], Any], Callable[[], Any]]) -> list[float]:
    """Milliseconds of each, taken in turns."""
    best = [float("inf")] * 2
    for _ in range(ROUNDS + 2):
        for i, function in enumerate(pair):
            begun = time.process_time()
            function()
            best[i] = min(best[i], (time.process_time() - begun) * 1e3)
    return best


def main() -> None:
    torch.set_num_threads(1)
    for name, case in CASES.items():
        for what, pair in functions(case).items():
            ours, theirs = fastest(pair)
            print(f"{name}, {what}: {ours:.2f} ms, PyTorch {theirs:.2f} ms ({theirs / ours:.2f} times)", flush=True)


if __name__ == "__main__":
    main()
