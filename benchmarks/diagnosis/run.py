"""Faulty and healthy runs through `trainer.diagnose()`: recall, false alarms, precision, right cause first.

    python benchmarks/diagnosis/run.py tune --json out.jsonl [--minutes 4] [--only mlp/digits] [--names lr_high,plain]
    python benchmarks/diagnosis/run.py report --json out.jsonl

A run is judged on test rows that neither the training nor the diagnosis sees, as a share of what there is to learn:
accuracy above that of the most frequent class (`right`), likelihood above that of a constant (`likely`), R squared
for values. HARM of that is what counts as harm:

- A faulty run counts if it ends by HARM or more below the plain run of its case and seed in accuracy or likelihood on
  test rows, or in accuracy on its training rows. Overfitting is harm over time: such a run counts if it ends by HARM
  or more below its own best on the way, in the mean of accuracy and likelihood. Imbalance is not scarcity: such a
  run counts if it ends by HARM or more below, in accuracy on test rows (whose classes are equally frequent), the
  same run on the same rows, those of rare classes repeated.
- A healthy run counts if it does neither: in accuracy it keeps within HARM of the plain run, and it ends within HARM
  of its own best. (Its likelihood is not compared with another run's: smoothing and decay cost it on purpose.)

What does not count is listed, and the report says what the alarms were if every healthy run counted.
A run that is in the JSON file already is not repeated, and `--minutes` stops between two runs: order and figures are
those of one long run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from faults import FAULTS
from healthy import HEALTHY
from specs import FAILED, Outcome, Spec, fit, make
from split import SPLITS

HARM = 0.1
Job = tuple[str, str, str, int]  # split, case, fault or healthy variant, seed


def jobs(split: str) -> Iterator[Job]:
    """As many healthy runs as faulty ones for each case and seed."""
    cases, seeds = SPLITS[split]
    for seed in seeds:
        for case, spec in cases.items():
            classes = spec.dataset not in ("curve", "friedman", "pendulum")
            faulty = [name for name, fault in FAULTS.items() if fault.applies(spec, classes)]
            variants = [name for name, (_, applies) in HEALTHY.items() if applies(spec, classes)]
            turned = variants[:1] + list(np.roll(variants[1:], -3 * seed))
            yield from ((split, case, name, seed) for name in [*faulty, *turned[: len(faulty)]])


def _draw(case: str, name: str, seed: int) -> Callable[..., Any]:
    state = np.random.default_rng([seed, *map(ord, case + name)])
    return lambda *choices: choices[(seed + int(state.integers(2))) % len(choices)]


@cache
def plain(split: str, case: str, seed: int) -> Outcome:
    """How the case without any change ends."""
    return trained(SPLITS[split][0][case], seed)[1][-1]


def trained(spec: Spec, seed: int) -> tuple[Any, list[Outcome]]:
    """The trainer after the run, and its outcomes on the way, the last one at the end."""
    trainer, data = make(spec, seed)
    return trainer, fit(trainer, data, spec, seed) or [FAILED]


def harm(name: str, before: Outcome, trace: list[Outcome]) -> float:
    """What the run lost, as the head of this file defines it."""
    end = trace[-1]
    fell = max(moment.learned for moment in trace) - end.learned
    lost = max(before.right - end.right, before.trained - end.trained)
    if name == "overfitting":
        return fell
    if name == "imbalance":
        return before.right - end.right
    return max(lost, before.likely - end.likely) if name in FAULTS else max(lost, fell)


def one(job: Job, diagnosed: bool = True) -> dict[str, Any]:
    """Train and diagnose."""
    split, case, name, seed = job
    spec = SPLITS[split][0][case]
    spec = FAULTS[name].inject(spec, _draw(case, name, seed)) if name in FAULTS else HEALTHY[name][0](spec)
    trainer, trace = trained(spec, seed)
    without = FAULTS[name].without if name in FAULTS else None
    before = trained(without(spec), seed)[1][-1] if without else plain(split, case, seed)
    row = {
        "case": case, "name": name, "seed": seed, "faulty": name in FAULTS, "harm": harm(name, before, trace),
        "before": asdict(before), "best": max(moment.learned for moment in trace), "outcome": asdict(trace[-1]), "found": [], "suspected": [], "seconds": 0.0, "processor": 0.0,
    }  # fmt: skip
    if not diagnosed:
        return row
    began, busy = time.perf_counter(), time.process_time()
    diagnosis = trainer.diagnose()
    row |= {"seconds": time.perf_counter() - began, "processor": time.process_time() - busy}
    return row | {
        "found": [(f.name, round(f.remedy.gain, 3)) for f in diagnosis.findings], "suspected": diagnosis.suspected,
        "tried": _tried(diagnosis), "replays": diagnosis.replays, "exact": diagnosis.exact,
    }  # fmt: skip


def _tried(diagnosis: Any) -> list[tuple[str, str, float, float]]:
    """Every cause, remedy, mean and least gain that the first finding had to beat."""
    return [
        (name, e.remedy, round(e.gain, 3), round(e.least, 3))
        for finding in diagnosis.findings[:1]
        for name, e in [(finding.name, finding.remedy), *finding.alternatives]
    ]


def report(rows: list[dict[str, Any]]) -> str:
    """The four figures, and a line for each fault and each alarm."""
    lines = []
    counted = [r for r in rows if (r["harm"] >= HARM) == r["faulty"]]
    faulty, healthy = ([r for r in counted if r["faulty"] is kind] for kind in (True, False))
    found = [r for r in faulty if r["found"]]
    first = [r for r in faulty if r["found"] and r["found"][0][0] in FAULTS[r["name"]].causes]
    alarms = [r for r in healthy if r["found"]]
    every = [r for r in rows if not r["faulty"]]
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
        f"not counted: {r['case']} {r['name']} seed {r['seed']} (harm {r['harm']:.2f}) found {r['found']}"
        for r in sorted(out, key=lambda r: r["faulty"])
    ]
    spent = {name: [r[name] for r in rows] for name in ("seconds", "processor")}
    lines.append(
        f"faulty {len(faulty)}, healthy {len(healthy)}, not counted {len(out)}\n"
        f"recall {len(found) / max(1, len(faulty)):.1%}; false alarms {len(alarms) / max(1, len(healthy)):.1%} ({len(alarms)}); "
        f"right cause first {len(first) / max(1, len(faulty)):.1%}; "
        f"if every healthy run counted, false alarms {sum(bool(r['found']) for r in every) / max(1, len(every)):.1%}; "
        f"precision of alarms {len(found) / max(1, len(found) + len(alarms)):.3f}, of single findings "
        f"{len(right) / max(1, len(named)):.3f} ({len(named)})\n"
        + "; ".join(
            f"{name} a diagnosis: median {np.median(each):.2f}, 90 % {np.quantile(each, 0.9):.2f}, most {max(each):.2f}"
            for name, each in spent.items()
        )
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", choices=[*SPLITS, "report"])
    parser.add_argument(
        "--json", required=True, help="a line of JSON for each run, added to; with `report`, the file to read"
    )
    parser.add_argument("--only", default="", help="cases, by commas")
    parser.add_argument("--names", default="", help="faults and healthy variants, by commas")
    parser.add_argument("--seeds", default="", help="seeds, by commas")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further run after so many")
    parser.add_argument("--undiagnosed", action="store_true", help="only train, to see which runs count")
    chosen = parser.parse_args()
    file = Path(chosen.json)
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if chosen.split != "report":
        rows += _run(chosen, file, {(row["case"], row["name"], row["seed"]) for row in rows})
    print(report(rows))


def _run(chosen: Any, file: Path, done: set[tuple[str, str, int]]) -> list[dict[str, Any]]:
    wanted = [
        job for job in jobs(chosen.split)
        if (not chosen.only or job[1] in chosen.only.split(","))
        and (not chosen.names or job[2] in chosen.names.split(","))
        and (not chosen.seeds or str(job[3]) in chosen.seeds.split(","))
        and job[1:] not in done
    ]  # fmt: skip
    rows, began = [], time.perf_counter()
    for job in wanted:
        if time.perf_counter() - began > 60 * chosen.minutes:
            break
        rows.append(one(job, not chosen.undiagnosed))
        with file.open("a") as lines:
            lines.write(json.dumps(rows[-1]) + "\n")
    return rows


if __name__ == "__main__":
    main()
