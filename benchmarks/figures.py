"""What a benchmark has measured: a file that grows figure by figure, goes on after an interruption, takes in others.

Every figure says which compiler it is of (a hash of its source): one of another compiler is measured again
rather than kept, and a file of several is told from one of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from chainrule.errors import ChainruleError

Result = dict[str, Any]


class FiguresError(ChainruleError):
    """Figures that cannot stand in one file; the message says why."""


class Figures:
    """The figures of one machine, written to `paths` after each.

    Args:
        machine: whose figures they are.
        code: which compiler measures.
    """

    def __init__(self, machine: Result, code: str, paths: Iterable[Path] = ()) -> None:
        self.code, self.paths = code, list(paths)
        self.run: Result = {"machine": machine, "results": []}

    def take(self, path: Path) -> None:
        """All that another file holds, in place of the same figures here.

        Raises:
            FiguresError: it is of another machine or of other versions.
        """
        other = json.loads(path.read_text(encoding="utf-8"))
        apart = [key for key, here in self.run["machine"].items() if other["machine"].get(key) != here]
        if apart:
            key = apart[0]
            raise FiguresError(
                f"{path} holds figures that no others here can stand beside: its {key} is {other['machine'].get(key)!r}, "
                f"here it is {self.run['machine'][key]!r}. Measure all anew (without --add), or give another file."
            )
        for result in other.pop("results", []):
            self._result(result)
        for name, points in other.pop("series", {}).items():
            for point in points:
                self._point(name, point)
        self.run |= {part: found for part, found in other.items() if part != "machine"}
        self._write()

    def add_result(self, result: Result) -> None:
        """A workload."""
        self._result({**result, "code": self.code})
        self._write()

    def add_point(self, name: str, size: int, result: Result) -> None:
        """A point of a series."""
        self._point(name, {"size": size, **result, "code": self.code})
        self._write()

    def add(self, part: str, found: Result) -> None:
        """A part that is measured as a whole."""
        self.run[part] = {**found, "code": self.code}
        self._write()

    def has_point(self, name: str, size: int, threads: int, peers: Sequence[str], rounds: int) -> bool:
        """Is a point measured to its end already, by this compiler, beside all these peers, in as many rounds?"""
        return any(
            (point["size"], point["threads"], point.get("code")) == (size, threads, self.code)
            and not point["interrupted"]
            and all(_enough(point["peers"].get(peer, {}), rounds) for peer in peers)
            for point in self.run.get("series", {}).get(name, [])
        )

    def _result(self, result: Result) -> None:
        self.run["results"] = _replaced(self.run["results"], result, ("workload", "threads"))

    def _point(self, name: str, point: Result) -> None:
        series = self.run.setdefault("series", {})
        series[name] = sorted(_replaced(series.get(name, []), point, ("size",)), key=lambda found: found["size"])

    def _write(self) -> None:
        text = json.dumps(self.run, indent=1) + "\n"
        for path in self.paths:
            path.write_text(text, encoding="utf-8")


def codes(run: Result) -> set[str | None]:
    """The compilers whose figures these are."""
    parts = [run[part] for part in ("whole_process", "contraction") if run.get(part)]
    points = [point for series in run.get("series", {}).values() for point in series]
    return {found.get("code") for found in [*run["results"], *parts, *points]}


def _enough(peer: Result, rounds: int) -> bool:
    """Timed so often, or told why not."""
    return "skipped" in peer or len(peer.get("rounds", ())) >= rounds


def _replaced(results: list[Result], new: Result, keys: tuple[str, ...]) -> list[Result]:
    """The results with the one of the same keys replaced, or the new one at the end."""
    place = [new[key] for key in keys]
    found = [new if [old[key] for key in keys] == place else old for old in results]
    return found if any(old is new for old in found) else [*found, new]
