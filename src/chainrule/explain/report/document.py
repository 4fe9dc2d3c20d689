"""The document: everything the page shows, as one JSON object beside one block of arrays.

Python writes it and ``page/src/document.ts`` reads it; the two change together, and `FORMAT` with them.
``ref`` is a place in the arrays (`tensors`); numbers that JSON lacks are "NaN", "Infinity", "-Infinity"; names are
text, never markup. Whatever was not measured is null or absent, and the page says so.

::

    format     "chainrule.report/1"
    title      what the page is about            version    of chainrule
    about      [[name, text], ...]               facts of the run in words
    meaning    name | null                       what the outputs mean (`nn.meaning.MEANINGS`), where that is known
    graph      nodes      [{op, kind, label, module, inputs, shape, dtype, column, lane, line, flows, twin, rows,
                            operands: [{name, node, value}], forward: formula, backward: [{argument, formula, reads}],
                            saved: [node], params: {name: numbers}}]      each after its inputs
                                                 kind: input parameter constant op loss
               modules    [{path, kind, parent}] parents first
               formulas   [{tree, reads}]        MathML as nested lists (`mathml`)
               loss, output   node
    parameters [{name, node, shape, tile: [rows, columns] | null, contraction: {x, out, transposed} | null, formula}]
    frames     [{step, epoch, loss, lr, rows, probe, whole,
                 values: {node: ref}, grads: {node: ref}     of one sample where a node has a row for each ("rows")
                 batch: {node: ref}, batch_grads: {node: ref}            of every sample, where "whole"; then also
                 given: {node: ref}                          all that the graph reads and does not make, but parameters
                 params: [{norm, grad_norm, update_norm, ratio, mean, std, histograms: {value, gradient, update},
                           value, grad, update | value_picture, grad_picture: ref}],
                 predictions: ref, confidence: ref}]         one for each test row
    curves     [{name, unit, x: "step" | "epoch", at: [...], series: [{name, values}]}]
    data       {classes: [text], image: [rows, columns] | null, labels: ref, images: ref | null, shown: rows}
    derivations {"name[i, j]@step": {formula, numbers, derivation, ledger}}        see `derivations`
    what_if    [{step, change, words, original: {losses, gradient}, changed: {...}}]     see `consequences`
    diagnosis  null | {summary, notes, findings: [...]}           see `sections`
    checks     null | {ok, sections: {name: text}, verdicts: [{section, subject, state, detail}]}
    live       null | {running, version, first, end}     where a server answers: version changes with every new step;
                                                 the steps that can be asked for, `end` the first that cannot
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import SettingError
from chainrule.explain.report import consequences, derivations, frames, mathml, passes, sections
from chainrule.explain.report.graphs import Network, Record, contraction
from chainrule.explain.report.page import write
from chainrule.explain.report.tensors import Tensors
from chainrule.explain.runs import Run
from chainrule.graph import Array
from chainrule.training.metrics import told
from chainrule.training.trainer import Trainer
from chainrule.version import __version__

FORMAT = "chainrule.report/1"
BUDGET = 1_900_000  # bytes of the HTML file, unless one frame alone takes more
IMAGES = 1000  # the most test rows kept as pictures


class Report:
    """Collects recorded steps of one training, and writes the page.

    Args:
        trainer: whose steps these are.
        title: what the page is called.
        test: ``(X, y)`` to show predictions of, or None.
        classes: the names of the classes, by number.
        image_shape: ``(rows, columns)`` where a row of X is a picture.
        about: facts in words, ``{name: text}``.
    """

    def __init__(
        self, trainer: Trainer, title: str, test: tuple[Array, Array] | None = None,
        classes: list[str] | None = None, image_shape: tuple[int, ...] | None = None,
        about: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.trainer, self.title, self.test = trainer, title, test
        self.classes, self.image_shape, self.about = classes, image_shape, about or {}
        self.frames: list[frames.Frame] = []
        self.curves: list[Record] = []
        self.derivations: Record = {}
        self.what_if: list[Record] = []
        self.diagnosis: Record | None = None
        self.checks: Record | None = None
        self.live: Record | None = None
        self._network: Network | None = None

    def add(self, made: passes.Step, step: int, epoch: int, rows: list[int]) -> None:
        """Record a step; the trainer must stand before it."""
        if self._network is None:
            self._network = Network(self.trainer, made)
        frame = frames.capture(
            self._network, made, step=step, epoch=epoch, rows=rows,
            lr=float(self.trainer.optimizer.param_groups[0]["lr"]),
        )  # fmt: skip
        if self.test is not None and self.classes is not None:
            meaning, outputs = (
                told(self.trainer.loss, self.trainer.meaning, "report"),
                self.trainer.predict(self.test[0]),
            )
            frame.predictions, frame.confidence = meaning.classes(outputs).reshape(-1), meaning.confidence(outputs)
        self.frames.append(frame)

    def explain(self, run: Run) -> None:
        """Keep what a server would be asked for: derivation and ledger of the weights that are pulled most, and what if."""
        first, last = self.frames[0].step, self.frames[-1].step
        self.derivations = {
            key: told for step in (first, last) for key, told in derivations.strongest(run, step).items()
        }
        self.what_if = consequences.kept(run, sorted({first, last}), len(self.classes or ()))

    def diagnose(self, diagnosis: Any) -> None:
        """Show what `Trainer.diagnose` returned (or nothing, where it is None)."""
        self.diagnosis = None if diagnosis is None else sections.diagnosis(diagnosis.as_dict())

    def check(self, checks: Any) -> None:
        """Show what `Module.verify` returned (or nothing, where it is None)."""
        self.checks = None if checks is None else sections.checks(checks.as_dict())

    def html(self, budget: int = BUDGET, connect: str = "'none'") -> str:
        """The page. Frames are left out, evenly, until it fits the budget; the first and the last stay."""
        count = len(self.frames)
        while True:
            text = write(*self.document(count), connect=connect)
            if len(text) <= budget or count <= 2:
                return text
            count = max(2, min(count - 1, int(count * budget / len(text))))

    def document(self, count: int) -> tuple[Record, bytes]:
        """The document with `count` of the frames, and its arrays."""
        if self._network is None:
            raise SettingError("report: no step was recorded. Train with a recorder, or call add() first.")
        network, tensors = self._network, Tensors()
        chosen = self._chosen(count)
        kept = self._whole(len(chosen))
        return {
            "format": FORMAT, "title": self.title, "version": __version__,
            "about": [[name, text] for name, text in self.about.items()],
            "meaning": None if self.trainer.meaning is None else self.trainer.meaning.name,
            "graph": network.document(),
            "parameters": [self._parameter(network, name, node) for name, node in network.parameters.items()],
            "frames": [
                frames.document(network, frame, tensors, whole=position in kept)
                for position, frame in enumerate(chosen)
            ],
            "curves": self.curves, "data": self._data(tensors), "derivations": self.derivations,
            "what_if": self.what_if,
            "diagnosis": self.diagnosis, "checks": self.checks, "live": self.live,
        }, tensors.bytes()  # fmt: skip

    def _chosen(self, count: int) -> list[frames.Frame]:
        places = np.unique(np.linspace(0, len(self.frames) - 1, max(count, 1)).round().astype(int))
        return [self.frames[place] for place in places]

    def _whole(self, count: int) -> set[int]:
        """Which frames keep every weight and batch: the last always, others as far as they are small."""
        frame = self.frames[-1]
        size = sum(2 * value.nbytes for value in frame.parameters.values())
        most = max(1, min(count, int(0.4 * BUDGET / max(size, 1))))
        return {int(place) for place in np.linspace(count - 1, 0, most).round()}

    def _parameter(self, network: Network, name: str, node: int) -> Record:
        product = contraction(network, node)
        shape = network.step.nodes[node].shape
        pixels = self.image_shape is not None and len(shape) == 2 and shape[1] == int(np.prod(self.image_shape))
        first = product is not None and network.step.nodes[product["x"]].shape == network.step.input.shape
        tile = list(self.image_shape or ()) if pixels and first else None
        return {"name": name, "node": node, "shape": list(shape), "contraction": product, "tile": tile,
                "formula": None if product is None else mathml.of_weight(bool(product["transposed"]))}  # fmt: skip

    def _data(self, tensors: Tensors) -> Record | None:
        if self.test is None or self.classes is None:
            return None
        meaning = told(self.trainer.loss, self.trainer.meaning, "report")
        x, y = self.test[0], meaning.labels(self.test[1]).reshape(-1)
        shape = list(self.image_shape) if self.image_shape is not None else None
        images = tensors.picture(x[:IMAGES].reshape(-1, *(shape or [1]))) if shape is not None else None
        return {
            "classes": self.classes, "image": shape, "labels": tensors.exact(y.astype(np.int32)),
            "images": images, "shown": min(len(x), IMAGES),
        }  # fmt: skip
