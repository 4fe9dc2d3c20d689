"""Faulty and healthy runs through `trainer.diagnose()`: recall, false alarms, precision, right cause first.

    python benchmarks/diagnosis/run.py tune [--json out.jsonl] [--only mlp/digits] [--faults lr_high,plain] [--jobs 2]

A faulty run counts if the fault does harm by a yardstick of the benchmark's own (`specs.outcome`): held-out
accuracy (R squared for values), held-out likelihood, or training accuracy is worse by 0.1 or more than that of the
same run without the fault. A healthy run counts if it does not do that harm, compared with the plain run of its
case and seed. What does not count is listed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from faults import FAULTS
from healthy import HEALTHY
from specs import Outcome, Spec, fit, make, outcome
from split import SPLITS

HARM = 0.1
Job = tuple[str, str, str, int]  # split, case, fault or healthy variant, seed


def jobs(split: str) -> Iterator[Job]:
    """As many healthy runs as faulty ones for each case and seed."""
    cases, seeds = SPLITS[split]
    for seed in seeds:
        for case, spec in cases.items():
            classes = spec.dataset not in ("curve", "friedman")
            faulty = [name for name, fault in FAULTS.items() if fault.applies(spec, classes)]
            variants = [name for name, (_, applies) in HEALTHY.items() if applies(spec, classes)]
            turned = variants[:1] + list(np.roll(variants[1:], -3 * seed))
            yield from ((split, case, name, seed) for name in [*faulty, *turned[: len(faulty)]])


def _draw(case: str, name: str, seed: int) -> Callable[..., Any]:
    state = np.random.default_rng([seed, *map(ord, case + name)])
    return lambda *choices: choices[(seed + int(state.integers(2))) % len(choices)]


@cache
def plain(split: str, case: str, seed: int) -> Outcome:
    """How the case without any change does."""
    return trained(SPLITS[split][0][case], seed)[1]


def trained(spec: Spec, seed: int) -> tuple[Any, Outcome]:
    trainer, data = make(spec, seed)
    finite = fit(trainer, data, spec, seed)
    return trainer, outcome(trainer, data, finite)


def harm(before: Outcome, after: Outcome, healthy: bool) -> float:
    """The largest loss; for a healthy run by accuracy alone, since smoothing and decay cost likelihood on purpose."""
    losses = [before.held_out - after.held_out, before.trained - after.trained]
    return max(losses) if healthy else max(*losses, before.nll - after.nll)


def one(job: Job) -> dict[str, Any]:
    """Train and diagnose."""
    split, case, name, seed = job
    spec = SPLITS[split][0][case]
    faulty = name in FAULTS
    spec = FAULTS[name].inject(spec, _draw(case, name, seed)) if faulty else HEALTHY[name][0](spec)
    trainer, result = trained(spec, seed)
    began = time.perf_counter()
    diagnosis = trainer.diagnose()
    seconds = time.perf_counter() - began
    return {
        "case": case, "name": name, "seed": seed, "faulty": faulty, "harm": harm(plain(split, case, seed), result, not faulty),
        "outcome": asdict(result), "found": [(f.name, round(f.remedy.gain, 3)) for f in diagnosis.findings],
        "suspected": diagnosis.suspected, "seconds": seconds, "replays": diagnosis.replays, "exact": diagnosis.exact,
    }  # fmt: skip


def report(rows: list[dict[str, Any]]) -> str:
    """The four figures, and a line for each fault and each alarm."""
    lines = []
    counted = [r for r in rows if (r["harm"] >= HARM) == r["faulty"]]
    faulty, healthy = ([r for r in counted if r["faulty"] is kind] for kind in (True, False))
    found = [r for r in faulty if r["found"]]
    first = [r for r in faulty if r["found"] and r["found"][0][0] in FAULTS[r["name"]].causes]
    alarms = [r for r in healthy if r["found"]]
    named = [(r, n) for r in [*faulty, *alarms] for n, _ in r["found"]]
    right = [r for r, n in named if r["faulty"] and n in FAULTS[r["name"]].causes]
    lines.append(f"{'fault':18} runs found first  reported first")
    for name in FAULTS:
        mine = [r for r in faulty if r["name"] == name]
        if mine:
            firsts = sorted((r["found"][0][0] if r["found"] else "-") for r in mine)
            counts = ", ".join(f"{n} {firsts.count(n)}" for n in sorted(set(firsts), key=firsts.count, reverse=True))
            lines.append(
                f"{name:18} {len(mine):4} {sum(bool(r['found']) for r in mine):5} {sum(r in first for r in mine):5}  {counts}"
            )
    lines += [
        f"missed: {r['case']} {r['name']} seed {r['seed']} (harm {r['harm']:.2f}) suspected {r['suspected']}"
        for r in faulty
        if not r["found"]
    ]
    lines += [f"false alarm: {r['case']} {r['name']} seed {r['seed']}: {r['found']}" for r in alarms]
    out = [r for r in rows if r not in counted]
    lines += [
        f"not counted: {r['case']} {r['name']} seed {r['seed']} (harm {r['harm']:.2f}) found {r['found']}" for r in out
    ]
    seconds = [r["seconds"] for r in rows]
    lines.append(
        f"faulty {len(faulty)}, healthy {len(healthy)}, not counted {len(out)}\n"
        f"recall {len(found) / max(1, len(faulty)):.1%}; false alarms {len(alarms) / max(1, len(healthy)):.1%} ({len(alarms)}); "
        f"right cause first {len(first) / max(1, len(faulty)):.1%}; "
        f"precision of alarms {len(found) / max(1, len(found) + len(alarms)):.3f}, of single findings "
        f"{len(right) / max(1, len(named)):.3f} ({len(named)})\n"
        f"seconds a diagnosis: median {np.median(seconds):.2f}, 90 % {np.quantile(seconds, 0.9):.2f}, most {max(seconds):.2f}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", choices=[*SPLITS, "report"])
    parser.add_argument("--json", default="", help="a line of JSON for each run; with `report`, the file to read")
    parser.add_argument("--only", default="", help="cases, by commas")
    parser.add_argument("--names", default="", help="faults and healthy variants, by commas")
    parser.add_argument("--seeds", default="", help="seeds, by commas")
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.split == "report":
        print(report([json.loads(line) for line in Path(chosen.json).read_text().splitlines()]))
        return
    wanted = [
        job for job in jobs(chosen.split)
        if (not chosen.only or job[1] in chosen.only.split(","))
        and (not chosen.names or job[2] in chosen.names.split(","))
        and (not chosen.seeds or str(job[3]) in chosen.seeds.split(","))
    ]  # fmt: skip
    with multiprocessing.get_context("spawn").Pool(chosen.jobs) as pool:
        rows = []
        for row in pool.imap(one, wanted, chunksize=8):
            rows.append(row)
            if chosen.json:
                with open(chosen.json, "a") as file:
                    file.write(json.dumps(row) + "\n")
    print(report(rows))


if __name__ == "__main__":
    main()
