"""How the ratio changes with the size: one property of a network varied, the others held."""

from __future__ import annotations

from chainrule.cli.bench.workloads import Workload

WIDTHS = (8, 16, 32, 64, 100, 128, 256, 512, 1000, 2048, 4096)
BATCHES = (1, 4, 16, 64, 256, 1024)
DEPTHS = (1, 2, 5, 10, 20, 50, 100)

SERIES: dict[str, dict[int, Workload]] = {
    "width": {n: Workload(f"width {n}", (64, n, n, 10), 64) for n in WIDTHS},
    "batch": {n: Workload(f"batch {n}", (64, 256, 256, 10), n) for n in BATCHES},
    "depth": {n: Workload(f"depth {n}", (64, *[64] * n, 10), 64) for n in DEPTHS},
}
HELD = {
    "width": "64-n-n-10, batch 64",
    "batch": "64-256-256-10, batch n",
    "depth": "n hidden layers of 64, batch 64",
}
