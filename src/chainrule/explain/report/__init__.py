"""The page: one self-contained HTML file that shows a training, its network and every gradient."""

from __future__ import annotations

import html
import os
from typing import Any

from chainrule.explain.report import building
from chainrule.explain.report.document import BUDGET, Report
from chainrule.explain.runs import Run, run_of
from chainrule.files.writing import write_whole
from chainrule.training import inputs
from chainrule.training.trainer import Trainer

__all__ = ["Page", "Report", "report", "report_of"]
FRAMES = 20  # recorded steps of a report, unless asked otherwise


class Page:
    """A finished page: in a notebook it shows by itself; ``save(path)`` writes it, ``html`` is its text."""

    def __init__(self, text: str) -> None:
        self.html = text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to one file, whole or not at all."""
        write_whole(path, self.html.encode("utf-8"))

    def _repr_html_(self) -> str:
        # A frame of its own: the page's policy and styles stay its own, and the notebook's stay out.
        return (
            f'<iframe title="chainrule report" sandbox="allow-scripts" style="width:100%;height:820px;border:0" '
            f'srcdoc="{html.escape(self.html)}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<Page: {len(self.html.encode()):,} bytes; .save(path) writes it>"


def report(
    trainer: Trainer,
    path: str | os.PathLike[str] | None = None,
    *,
    data: tuple[object, object] | None = None,
    title: str | None = None,
    class_names: list[str] | None = None,
    image_shape: tuple[int, int] | None = None,
    frames: int = FRAMES,
    diagnosis: Any = None,
    checks: Any = None,
    budget: int = BUDGET,
) -> Page:
    """`Trainer.report`: the page of the latest `fit`.

    Args:
        trainer: after a ``fit``; with ``record=...`` the page has many steps, each as it was computed, else one.
        path: where to write the page; None only returns it.
        data: ``(X, y)`` to show predictions of; default the validation rows of the fit.
        title: what the page is called.
        class_names: by class number; default the numbers.
        image_shape: ``(rows, columns)`` where a row of X is a picture.
        frames: how many recorded steps to show at most; fewer where they do not fit the budget.
        diagnosis, checks: what ``trainer.diagnose()`` and ``model.verify(x, y)`` returned.
        budget: the most bytes of the page.

    Raises:
        SettingError: nothing was trained yet; names for another number of classes; a picture of another number of pixels.
        DataError: data that do not fit each other.
    """
    run = run_of(trainer) if getattr(trainer, "recorder", None) is not None else None
    made = report_of(trainer, run, data, title, class_names, image_shape, frames)
    made.diagnose(diagnosis)
    made.check(checks)
    if run is not None and len(run):
        made.explain(run)
    page = Page(made.html(budget))
    if path is not None:
        page.save(path)
    return page


def report_of(
    trainer: Trainer, run: Run | None, data: tuple[object, object] | None = None, title: str | None = None,
    names: list[str] | None = None, image_shape: tuple[int, int] | None = None, frames: int = FRAMES,
) -> Report:  # fmt: skip
    """The report of a run, or of the trainer's next step where none was recorded."""
    if trainer.session.rows is not None:
        trainer.session.rows.check_single("Trainer.report")
    test = building.held_out(trainer)
    if data is not None:
        test = inputs.rows(trainer.model, trainer.loss, {}, *data, "report", meaning=trainer.meaning)
    test = building.counted(trainer, test)
    shown = test[0] if test is not None else trainer.session.rows.x if trainer.session.rows is not None else None
    options: dict[str, Any] = {
        "title": title or f"{type(trainer.model).__name__}, a training", "test": test,
        "classes": building.class_names(trainer, test, names, shown),
        "image_shape": None if shown is None else building.picture_shape(shown, image_shape),
    }  # fmt: skip
    recorded = run is not None and len(run)  # a fit of no epochs records no step
    return building.of_run(run, frames, **options) if run and recorded else building.of_trainer(trainer, **options)
