"""A loop without what nobody asks for: results that are not read, and the carries, consts and slices behind them alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from chainrule.control.loop import Form
from chainrule.graph import Graph, Node, toposort


@dataclass
class Trimmed:
    """What is left of a loop.

    Attributes:
        inputs, outputs: which of the old ones the new ones are, in order.
        still: the results that are inputs, by position: carries that every step hands on as they are, and stacked slices.
    """

    body: Graph
    form: Form
    inputs: list[int]
    outputs: list[int]
    still: dict[int, int]


def trimmed(body: Graph, form: Form, used: Collection[int]) -> Trimmed:
    """The loop of which just these results are used."""
    first = form.consts(body.inputs)
    kept = {first + c for c in range(form.carries) if body.outputs[c] is body.inputs[first + c]}
    still = {i - first: i for i in kept}
    place = {x: i for i, x in enumerate(body.inputs) if i >= first + form.carries}
    still |= {i: place[y] for i, y in enumerate(body.outputs) if i >= form.carries and y in place}
    moving = {body.inputs[first + c]: c for c in range(form.carries) if c not in still}
    wanted, read = _needed(body, moving, {i for i in used if i not in still})
    consts = [i for i, x in enumerate(body.inputs) if x in read and (i < first or i in kept)]
    carries = [first + c for c in sorted(wanted) if c < form.carries]
    slices = [i for i, x in enumerate(body.inputs) if x in read and i >= first + form.carries]
    inputs, outputs = [*consts, *carries, *slices], sorted(wanted)
    left = Graph([body.inputs[i] for i in inputs], [body.outputs[i] for i in outputs], body.names)
    form = form._replace(carries=len(carries), slices=len(slices))
    return Trimmed(left, form, inputs, outputs, {result: i for result, i in still.items() if result in used})


def _needed(body: Graph, moving: dict[Node, int], used: set[int]) -> tuple[set[int], set[Node]]:
    """The results that are used or that a later step of such reads, and the nodes behind them."""
    wanted, read = set(used), set(toposort(body.outputs[i] for i in used))
    while more := {c for x, c in moving.items() if x in read} - wanted:
        wanted |= more
        read |= set(toposort(body.outputs[c] for c in more))
    return wanted, read
