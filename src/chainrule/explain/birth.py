"""Where a NaN or an infinity was born."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chainrule import graph
from chainrule.explain.moment import Moment
from chainrule.several import name_of
from chainrule.training.origin import Origin, origin


@dataclass(frozen=True)
class Birth:
    """The first value of a step that is not finite although everything it was computed from is.

    Attributes:
        step: the step.
        stage: "forward pass", "backward pass" or "optimizer".
        op, layer: the operation, and the layer it belongs to (empty: none).
        index: its first element that is not finite.
        value: that element.
        inputs: what it was computed from, as far as one element each: the inputs' elements at that index.
        row: the row of the training data, where the element belongs to one.
        line: the user's line that made the operation.
    """

    step: int
    stage: str
    op: str
    layer: str
    index: tuple[int, ...]
    value: float
    inputs: list[float]
    row: int | None
    line: str

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return vars(self).copy()

    def __str__(self) -> str:
        layer = f" in layer '{self.layer}'" if self.layer else ""
        row = f", row {self.row} of the training data" if self.row is not None else ""
        read = f" from {', '.join(f'{x:.9g}' for x in self.inputs)}" if self.inputs else ""
        return (
            f"step {self.step}, {self.stage}: {self.op}{layer} made {self.value:g}{read}, element "
            f"[{', '.join(map(str, self.index))}]{row}"
        )


def birth(moment: Moment) -> Birth | None:
    """The first value of this step that is not finite, in the order of computation; None if all are."""
    watched = moment.watched
    forward = watched.forward()
    backward = graph.toposort(watched.trace.gradients.values())
    everything = list(dict.fromkeys([*forward, *backward, *watched.program.images]))
    stages = dict.fromkeys(everything, "optimizer")
    stages.update(dict.fromkeys(backward, "backward pass"))
    stages.update(dict.fromkeys(forward, "forward pass"))
    found = origin(everything, watched.numbers)
    return None if found is None else _born(moment, found, stages[found.node])


def _born(moment: Moment, found: Origin, stage: str) -> Birth:
    node, index = found.node, found.index
    row = int(moment.rows[index[0]]) if index and node.shape[0] == len(moment.rows) and stage != "optimizer" else None
    return Birth(
        moment.step, stage, name_of(node), node.layer, index, found.value, found.read, row, str(node.line or "")
    )
