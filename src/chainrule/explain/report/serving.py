"""A run folder served: as it is, or followed while another process trains it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.sources import Dataset
from chainrule.errors import SettingError
from chainrule.explain.report import building, consequences, derivations, report_of
from chainrule.explain.report.document import Report
from chainrule.explain.report.kept import kept
from chainrule.explain.report.server import Made, Server
from chainrule.explain.runs import Run, load_run
from chainrule.explain.verify import rules
from chainrule.training.configuration import read_config
from chainrule.training.rebuilt import rebuild

MOST = 24  # frames of a run that is followed; beyond, every second one goes


class Served:
    """What a server shows of a run folder that ``chainrule train`` writes or wrote.

    Args:
        folder: the run.
        live: follow it while it trains.

    Raises:
        DamagedFileError: the folder has no readable record or configuration.
    """

    def __init__(self, folder: str | os.PathLike[str], live: bool = False) -> None:
        self.folder, self.live = Path(folder), live
        self.run = load_run(self.folder)
        self.data: Dataset = rebuild(read_config(self.folder / "config.json"), self.folder)[1]
        self.report: Report | None = None
        self.version = -1
        self._made: Made | None = None

    def server(self, port: int = 0) -> Server:
        """The server, ready to `serve`."""
        return Server(self.make, self.ask, self.imagine, port)

    def finished(self) -> bool:
        """Has the training ended? The weights are written last."""
        return (self.folder / "model.safetensors").exists()

    # ---------------------------------------------------------------- the document

    def make(self, after: int) -> tuple[int, Made] | None:
        """The document and its version, which changes with every new step and at the end; None if that is `after`."""
        ended = not self.live or self.finished()  # asked first: a step written after this is seen by the next look
        if self.live:
            self._reopen()
        version = 2 * len(self.run) + ended
        if version == after:
            return None
        if self._made is None or version != self.version:
            self._made, self.version = self._build(version, not ended), version
        return version, self._made

    def _reopen(self) -> None:
        """See what the record has now; trainer and compiled programs stay."""
        replay = self.run.replay
        self.run = load_run(self.folder, self.run.trainer, replay.x, replay.y, replay.weight)

    def _build(self, version: int, running: bool) -> Made:
        if self.report is None or not self.live:
            self.report = reported(self.run, self.data, self.folder)
        else:
            building.add(self.report, self.run, building.last_step(self.run))
            if len(self.report.frames) > MOST:
                del self.report.frames[1:-1:2]
            self.report.curves = building.curves(self.run)
            self.report.about = building.facts(self.run.trainer, self.run)
        replay = self.run.replay
        self.report.live = {"running": running, "version": version, "first": replay.first, "end": replay.end}
        return self.report.document(len(self.report.frames))

    # ---------------------------------------------------------------- questions

    def ask(self, parameter: str, index: list[int], step: int) -> dict[str, Any]:
        """One weight at one step: ``{"value", "gradient", "update", "new", "derivation"}``."""
        return weight(self.run, parameter, tuple(index), step)

    def imagine(self, step: int, change: dict[str, str]) -> dict[str, Any]:
        """What follows from a change at a step: see `consequences.asked`."""
        return consequences.asked(self.run, step, change)


def reported(run: Run, data: Dataset, folder: Path) -> Report:
    """The report of a run of ``chainrule train``."""
    report = report_of(
        run.trainer, run, data.test, f"{data.name}, {folder.name}", data.class_names or None,
        None if data.image_shape is None else (data.image_shape[0], data.image_shape[1]),
    )  # fmt: skip
    report.diagnosis, checks = kept(folder, "diagnosis"), kept(folder, "checks")
    if checks is None:
        report.check(rules())
    else:
        report.checks = checks
    return report


def weight(run: Run, parameter: str, index: tuple[int, ...], step: int) -> dict[str, Any]:
    """What the recorded step says of one weight.

    Raises:
        SettingError: no parameter of that name, or an index that is not in it.
        ReplayError: no such step.
    """
    moment = run.at(step)
    weights = moment.weights
    if parameter not in moment.gradients:
        known = ", ".join(moment.gradients)
        raise SettingError(f"view: there is no parameter {parameter!r} with a gradient. There are: {known}.")
    shape = weights[parameter].shape
    if len(index) != len(shape) or not all(0 <= i < size for i, size in zip(index, shape, strict=True)):
        raise SettingError(f"view: {list(index)} is no index of {parameter}, which has shape {shape}.")
    value, new = weights[parameter][index], moment.after[parameter][index]
    return {
        "value": float(value), "gradient": float(moment.gradients[parameter][index]),
        "update": float(np.subtract(new, value)), "new": float(new), "derivation": derivations.of_weight(moment, parameter, int(np.ravel_multi_index(index, shape))),
    }  # fmt: skip
