"""What if, as the page shows it: what follows from a change, as the engine replayed it, beside what followed without.

A page that is served asks for any change; a file keeps those that a reader asks for first. What a change does to one
step alone (loss, gradient, predictions) the page computes itself, for any change, where the network is small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.errors import SettingError
from chainrule.explain.moment import Moment
from chainrule.explain.runs import Run
from chainrule.explain.whatif import Change, Course, WhatIf, alternatives
from chainrule.graph import Array

Record = dict[str, Any]
STEPS = 24  # that follow
RATES = (0.0, 0.1, 0.5, 2.0, 10.0)  # times the learning rate
SHARES = (0.0, 1.1, -1.0)  # times the weight that is pulled most, one of each parameter
LABELS = 9  # other classes for the row that is shown
WORK = 4e10  # multiplications that a file may spend on courses, about


def kept(run: Run, steps: Sequence[int], classes: int) -> list[Record]:
    """What a file keeps for some of its steps: `record` of each change, and which change it is."""
    found = []
    work = sum(p.numel() for p in run.trainer.model.parameters()) * int(run.record.header["batch_size"]) * 6 * STEPS
    for step in (step for step in steps if run.replay.whole(step, step + STEPS)):
        chosen = list(_chosen(run, step, classes))
        most = int(WORK / max(work, 1) / len(steps)) - 1  # the original course is one too
        chosen = chosen[: max(most, 0)]
        changes = [change for _, change in chosen]
        for (told, _), made in zip(
            chosen, alternatives(run.replay, step, STEPS, changes) if chosen else (), strict=True
        ):
            found.append({"step": step, "change": told, **record(made)})
    return found


def asked(run: Run, step: int, told: Mapping[str, str]) -> Record:
    """`record` of one change as the page writes it into a question.

    Raises:
        SettingError: no such kind of change.
        KeyError, ValueError: a question without what its kind needs.
        UnknownNameError, IndexRangeError, ReplayError: as `Run.what_if`.
    """
    return {"step": step, **record(run.what_if(step, STEPS, **vars(_change(run, told))))}


def record(found: WhatIf) -> Record:
    """``{"words", "original": {"losses", "gradient"}, "changed": {...}}``; a gradient where a weight was changed."""
    return {"words": ", ".join(found.changes), "original": _course(found.original), "changed": _course(found.changed)}


def _course(course: Course) -> Record:
    return {"losses": course.losses.tolist(), "gradient": next(iter(course.gradients.values()), None)}


def _change(run: Run, told: Mapping[str, str]) -> Change:
    kind = told["kind"]
    if kind == "weight":
        return Change(weights={f"{told['parameter']}[{told['index']}]": float(told["value"])})
    if kind == "input":
        place = np.unravel_index(int(told["index"]), run.replay.x.shape[1:])
        return Change(inputs={(int(told["row"]), *map(int, place)): float(told["value"])})
    if kind == "label":
        return Change(labels={int(told["row"]): int(told["value"])})
    if kind == "rate":
        return Change(lr=float(told["value"]))
    raise SettingError(f"view: {kind!r} is nothing that can be changed. There are: weight, input, label, rate.")


# -- which changes are asked for first ---------------------------------------------------------------------------------


def _chosen(run: Run, step: int, classes: int) -> Iterator[tuple[Record, Change]]:
    """Learning rates, weights, labels and an input, as the page tells of them and as the engine takes them."""
    for told in _told(run.at(step), run, classes):
        yield told, _change(run, {key: str(value) for key, value in told.items()})


def _told(moment: Moment, run: Run, classes: int) -> Iterator[Record]:
    rate = float(moment.groups[0]["lr"])
    yield from ({"kind": "rate", "value": rate * times} for times in RATES)
    for name, gradient in moment.gradients.items():
        at = np.unravel_index(int(np.abs(gradient).argmax()), gradient.shape)
        value = moment.weights[name][at]
        index = ", ".join(map(str, at))
        for times in SHARES:
            yield {
                "kind": "weight",
                "parameter": name,
                "index": index,
                "value": float(np.float32(float(value) * times)),
            }
    row = int(moment.rows[0])
    if classes and run.replay.y.dtype.kind == "i" and run.replay.y.ndim == 1:
        others = [label for label in range(classes) if label != run.replay.y[row]]
        yield from ({"kind": "label", "row": row, "value": label} for label in others[:LABELS])
    if run.replay.x.dtype.kind == "f":
        yield {"kind": "input", "row": row, "index": _strongest_input(run.replay.x[row]), "value": 0.0}


def _strongest_input(x: Array) -> int:
    return int(np.abs(x).argmax())
