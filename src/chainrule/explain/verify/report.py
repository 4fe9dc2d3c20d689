"""What a verification found: verdicts in sections, as text, as a table for the page, and as one truth value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

SECTIONS = {
    "rules": "derivative rules, by complex step or differences, tails in float32 too",
    "functions": "activations and losses, value and gradient, in their tails",
    "gradient": "the whole gradient, along random directions, in float64",
    "adjoint": "forward against reverse: <Jv, w> = <v, J'w>",
    "compiled": "the compiled step against NumPy",
}


@dataclass(frozen=True)
class Verdict:
    """One thing that was checked.

    Attributes:
        section: a key of `SECTIONS`.
        subject: what was checked: an op, or the name of a parameter.
        state: ``"holds"``, ``"fails"``, or ``"open"`` where it could not be decided (the detail says why).
        detail: figures, and for a failure both sides.
    """

    section: str
    subject: str
    state: str
    detail: str


@dataclass(frozen=True)
class Verification:
    """All verdicts; true if none fails.

    >>> found = Verification((Verdict("rules", "tanh", "holds", "68 derivatives agree"),))
    >>> bool(found)
    True
    >>> print(found)
    derivative rules, by complex step or differences, tails in float32 too
      holds  tanh  68 derivatives agree
    1 holds, 0 fail, 0 open
    """

    verdicts: tuple[Verdict, ...]

    def __bool__(self) -> bool:
        return not self.failing

    @property
    def failing(self) -> list[Verdict]:
        """The verdicts that fail."""
        return [v for v in self.verdicts if v.state == "fails"]

    def of(self, section: str) -> list[Verdict]:
        """The verdicts of one section."""
        return [v for v in self.verdicts if v.section == section]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``{"ok": ..., "verdicts": [{"section", "subject", "state", "detail"}, ...]}``."""
        return {"ok": bool(self), "verdicts": [asdict(v) for v in self.verdicts]}

    def __str__(self) -> str:
        width = max((len(v.subject) for v in self.verdicts), default=0)
        lines = []
        for section, title in SECTIONS.items():
            rows = [f"  {v.state:5}  {v.subject:{width}}  {v.detail}".rstrip() for v in self.of(section)]
            lines += [title, *rows] if rows else []
        counts = {state: sum(v.state == state for v in self.verdicts) for state in ("holds", "fails", "open")}
        return "\n".join([*lines, f"{counts['holds']} holds, {counts['fails']} fail, {counts['open']} open"])


def joined(parts: Iterable[Verification]) -> Verification:
    """One verification of several."""
    return Verification(tuple(verdict for part in parts for verdict in part.verdicts))
