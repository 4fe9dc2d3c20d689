"""Diagnosis and checks as the page shows them: what their own `as_dict` gives, in the words of a reader."""

from __future__ import annotations

from typing import Any

from chainrule.explain.verify.report import SECTIONS

Record = dict[str, Any]


def checks(found: Record) -> Record:
    """``{"ok", "sections", "verdicts"}`` of `Verification.as_dict`."""
    return {**found, "sections": SECTIONS}


def diagnosis(found: Record) -> Record:
    """``{"verdict", "bad", "summary", "notes", "checked", "suspected", "tried", "findings"}`` of `Diagnosis.as_dict`.

    A finding: ``{"title", "where", "step", "evidence", "why", "change", "remedy", "alternatives"}``; a remedy, each
    alternative and what was tried: ``{"remedy", "control", "gain", "least", "replays", "before", "after", "curves"}`` with
    the scores of both replays.
    """
    keys = ("verdict", "bad", "summary", "notes", "checked", "suspected", "replays", "exact", "tried")
    return {**{key: found.get(key) for key in keys}, "findings": [_finding(f) for f in found["findings"]]}


def _finding(found: Record) -> Record:
    return {
        "title": found["claim"], "name": found["name"], "where": found["where"], "step": found["step"],
        "evidence": found["evidence"], "why": found["why"], "change": found["change"], "remedy": found["remedy"], "alternatives": found["alternatives"],
    }  # fmt: skip
