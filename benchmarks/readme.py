"""The figures of the README and of docs/benchmarks.md, written from a run's JSON: python benchmarks/readme.py

What stands between the two markers is generated: the first table in the README, all of them on the page; ``run.py --readme``
does it after measuring. What was published from another CPU is kept in ``elsewhere``, and stands there in short.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from figures import codes
from series import HELD

from chainrule.cli.bench.peers import OURS, PEERS
from chainrule.cli.bench.report import disturbed, number

ROOT = Path(__file__).parent.parent
RESULTS, README = ROOT / "benchmarks" / "results.json", ROOT / "README.md"
PAGE, PLOT = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "benchmarks.svg"
ELSEWHERE = ROOT / "benchmarks" / "elsewhere"
BEGIN, END = "<!-- measured: begin (python benchmarks/run.py --readme) -->", "<!-- measured: end -->"
_LATENCY = (OURS, "torch", "torch.compile", "jax.jit", "jax scan")
Result = dict[str, Any]


def short(run: Result) -> str:
    """What stands in the README."""
    return f"{headline(run['results'])}\n\n{machine(run['machine'])}"


def block(run: Result, elsewhere: list[Result]) -> str:
    """Everything between the markers of the page."""
    busy = [warning for result in run["results"] for warning in disturbed(result)]
    parts = [headline(run["results"]), machine(run["machine"]) + handover(run), *busy[:1]]
    parts += ["## Steps", steps(run["results"]), "## First call and memory", latency(run["results"])]
    if run.get("whole_process"):
        parts += ["## A whole process", whole_process(run["whole_process"])]
    if run.get("series"):
        parts += ["## Sizes", scaling(run["series"])]
    if run.get("contraction"):
        parts += ["## Matrix products", contraction(run["contraction"])]
    if elsewhere:
        parts += ["## Other CPUs", others(elsewhere, codes(run))]
    if len(codes(run)) > 1:
        parts.append("These figures are not all of one version of the compiler.")
    return "\n\n".join(part for part in parts if part)


def headline(results: list[Result]) -> str:
    """What the best peer takes for a step, in times of ours."""
    cores = sorted({result["threads"] for result in results})
    rows = [["network, batch", *(f"{n} core{'s' * (n > 1)}" for n in cores)]]
    for name in dict.fromkeys(f"{result['network']}, {result['batch']}" for result in results):
        ratios = {r["threads"]: r["best_ratio"] for r in results if f"{r['network']}, {r['batch']}" == name}
        rows.append([name, *(f"**{ratios[n]:.2f}**" if ratios.get(n) else "" for n in cores)])
    return (
        "For a training step (forward, backward, Adam) the fastest of PyTorch (eager, fused, compiled), JAX (jit, scan), "
        "scikit-learn and NumPy takes so many times as long:\n\n" + markdown(rows)
    )


def machine(found: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if name != "chainrule")
    return (
        f"On {found['cores']} cores ({found['cpu']}, {8 * found['vector_bytes']}-bit vectors, {found['system']}); "
        f"Python {found['python']}, {versions}."
    )


def handover(run: Result) -> str:
    """How far apart the cores were while figures on several of them were measured."""
    points = [point for series in run.get("series", {}).values() for point in series]
    found = [ns for result in [*run["results"], *points] for ns in result.get("handover_ns", [])]
    if not found:
        return ""
    return (
        f" One core saw what another wrote within {min(found):.0f} to {max(found):.0f} ns, median {median(found):.0f}."
    )


def steps(results: list[Result]) -> str:
    """Microseconds of a step, and how many times ours each peer takes."""
    peers = _timed(results)
    rows = [["network, batch", "cores", "chainrule", *peers, "best peer / ours", "GEMM peak"]]
    for result in results:
        ours = result["peers"][OURS]
        if "microseconds" not in ours:
            continue
        rows.append([
            f"{result['network']}, {result['batch']}", str(result["threads"]), f"**{number(ours['microseconds'])}**",
            *(_step(result["peers"].get(name, {})) for name in peers),
            f"**{result['best_ratio']:.2f}**" if result["best_ratio"] else "", f"{result['share_of_peak']:.0%}",
        ])  # fmt: skip
    return (
        "One training step (forward, backward, Adam) in microseconds, and in brackets how many times ours it takes; "
        "medians of interleaved rounds. Every implementation was first checked to compute the same losses.\n\n"
        + markdown(rows)
    )


def _timed(results: list[Result]) -> list[str]:
    """The peers that were timed at all."""
    return [name for name in PEERS if name != OURS and any("ratio" in r["peers"].get(name, {}) for r in results)]


def _step(peer: Result) -> str:
    return f"{number(peer['microseconds'])} ({peer['ratio']:.2f})" if "ratio" in peer else "-"


def latency(results: list[Result]) -> str:
    """The first call and the memory of a training, on all cores."""
    most = max((result["threads"] for result in results), default=0)
    names = [name for name in _LATENCY if any("ratio" in r["peers"].get(name, {}) for r in results)]
    rows = [["network", *names]]
    for result in results:
        if result["threads"] == most:
            rows.append([result["network"], *(_latency(result["peers"].get(name, {})) for name in names)])
    return (
        "Seconds to the end of the first step in a new process after imports (in brackets: with compiled code on disk), "
        "and the most memory the training took beyond imports and data:\n\n" + markdown(rows)
    )


def _latency(peer: Result) -> str:
    if "ratio" not in peer:
        return "-"
    cached = f" ({peer['first_call_cached']:.2f})" if peer.get("first_call_cached") is not None else ""
    memory = f"; {peer['memory'] / 1e6:,.0f} MB" if peer.get("memory") is not None else ""
    return f"{peer['first_call']:.2f}{cached}{memory}"


def whole_process(result: Result) -> str:
    rows = [["", "seconds", "x ours", "epochs", "test accuracy", "memory, MB", "import alone, s"]]
    for name, found in result["contenders"].items():
        if found is not None:
            memory = "" if found["memory"] is None else f"{found['memory'] / 1e6:.0f}"
            rows.append([
                name, f"{found['seconds']:.2f}", f"{found['ratio']:.2f}", str(found["epochs"]),
                f"{found['accuracy']:.2%}", memory, f"{found['import']:.2f}",
            ])  # fmt: skip
    return (
        "A whole process: start Python, import, load the digits, train 64-128-10 (batch 64, Adam 1e-3) to 97 % test "
        f"accuracy, {result['threads']} cores, timed from outside:\n\n" + markdown(rows)
    )


def contraction(result: Result) -> str:
    """Matrix products alone, the median of the forms of a training step."""
    rows = [["matrix product, 1 core", "GFLOP/s", "peak", *(f"{name} takes" for name in result["peers"])]]
    cases = dict.fromkeys(found["case"] for found in result["results"])
    for case in cases:
        forms = [found for found in result["results"] if found["case"] == case]
        rows.append([
            case if not case.isdigit() else " x ".join([case] * 3), _range([f["gflops"]["ours"] for f in forms], ".0f"),
            _range([f["share"] for f in forms], ".0%"),
            *(_range([f["ratio"][name] for f in forms], ".2f") for name in result["peers"]),
        ])  # fmt: skip
    return (
        "Matrix products in the forms of a training step (lowest to highest), and how many times our time others take:\n\n"
        + markdown(rows)
    )


def others(runs: list[Result], now: set[str | None]) -> str:
    """What was measured on other CPUs, a row for each."""
    rows = []
    for run in runs:
        most = max((result["threads"] for result in run["results"]), default=0)
        best = {
            f"{r['network']}, {r['batch']}": f"{r['best_ratio']:.2f}"
            for r in run["results"] if r["threads"] == most and r["best_ratio"]
        }  # fmt: skip
        age = "this version" if codes(run) == now else "an earlier version"
        products = _large(run["contraction"]) if run.get("contraction") else {}
        rows.append({"": f"{run['machine']['cpu']}, {most} cores, {age}", **best, **products})
    head = list(dict.fromkeys(name for row in rows for name in row))
    table = [head, *([row.get(name, "") for name in head] for row in rows)]
    return "On other CPUs (best peer's time over ours; products on one core):\n\n" + markdown(table)


def _large(result: Result) -> dict[str, str]:
    """Large matrix products in short."""
    forms = [found for found in result["results"] if min(found["shape"]) >= 1000]
    if not forms:
        return {}
    share = _range([found["share"] for found in forms], ".0%")
    takes = {f"{name} takes": _range([f["ratio"][name] for f in forms], ".2f") for name in result["peers"]}
    return {"products of 1000 and more": f"{share} of the peak", **takes}


def _range(values: list[float], style: str) -> str:
    return f"{min(values):{style}} - {max(values):{style}}"


def scaling(series: dict[str, list[Result]]) -> str:
    """The picture, and its figures as tables to unfold; why a peer has none at a size."""
    text = (
        f"How the ratio changes with the size ({' and '.join(_cores(series))}):\n\n![ratio against size]({PLOT.name})"
    )
    tables = [markdown(_sizes(name, points)) for name, points in series.items()]
    points = [point for found in series.values() for point in found]
    left_out = dict.fromkeys(
        f"{peer} at {point['workload']}: {found['skipped']}"
        for point in points for peer, found in point["peers"].items() if "skipped" in found
    )  # fmt: skip
    reasons = [f"Not timed: {'; '.join(left_out)}."] if left_out else []
    fewest = min(len(point["peers"][OURS].get("rounds", ())) for point in points)
    head = f"Microseconds of a step, and how many times ours; medians of at least {fewest} interleaved rounds:"
    return "\n\n".join([text, head, *tables, *reasons])


def _sizes(name: str, points: list[Result]) -> list[list[str]]:
    """A series as a table."""
    peers = _timed(points)
    rows = [[f"{name} n ({HELD[name]})", "chainrule", *peers, "best peer / ours"]]
    for point in points:
        ours, best = point["peers"][OURS], point["best_ratio"]
        rows.append([
            str(point["size"]), f"**{number(ours['microseconds'])}**" if "microseconds" in ours else "-",
            *(_step(point["peers"].get(peer, {})) for peer in peers), f"**{best:.2f}**" if best else "-",
        ])  # fmt: skip
    return rows


def _cores(series: dict[str, list[Result]]) -> list[str]:
    return sorted(
        {f"on {point['threads']} core{'s' * (point['threads'] > 1)}" for points in series.values() for point in points}
    )


def markdown(rows: list[list[str]]) -> str:
    """A table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def rewrite(text: str, new: str) -> str:
    """The text with everything between the markers replaced."""
    head, _, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise SystemExit(f"The file lacks the markers {BEGIN} and {END}.")
    return "\n\n".join(part for part in (f"{head}{BEGIN}", new, f"{END}{tail}") if part)


def make_room(cpu: str) -> None:
    """Keep elsewhere what was published from another CPU; what is kept of this one will be measured anew."""
    (ELSEWHERE / f"{cpu}.json").unlink(missing_ok=True)
    if RESULTS.exists() and (other := _read(RESULTS)["machine"]["cpu"]) != cpu:
        ELSEWHERE.mkdir(exist_ok=True)
        RESULTS.rename(ELSEWHERE / f"{other}.json")


def published() -> dict[Path, str]:
    """What stands between the markers of each file, of what has been measured."""
    run = _read(RESULTS)
    return {README: short(run), PAGE: block(run, [_read(path) for path in sorted(ELSEWHERE.glob("*.json"))])}


def _read(path: Path) -> Result:
    found: Result = json.loads(path.read_text(encoding="utf-8"))
    return found


def write() -> None:
    from plot import draw

    run = _read(RESULTS)
    for path, new in published().items():
        path.write_text(rewrite(path.read_text(encoding="utf-8"), new), encoding="utf-8")
    if run.get("series"):
        draw(run["series"], PLOT)


if __name__ == "__main__":
    write()
