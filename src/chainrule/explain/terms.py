"""The terms of one number's gradient: what every element that reads it passes back, and how the program adds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from chainrule.compiler.plan.summation import Summation
from chainrule.errors import GradientError
from chainrule.explain import symbolic
from chainrule.explain.columns import Column, column
from chainrule.explain.scene import Reading, Scene
from chainrule.graph import Node
from chainrule.several import Several

Index = tuple[int, ...]
KEPT = 4096  # elements of a scene of which is kept who reads them


@dataclass(frozen=True, eq=False, repr=False)
class Term:
    """What one element that reads the number passes back: ``product = local * upstream``.

    Attributes:
        scene, node, position: the reading element.
        formula: the local derivative in symbols, read off the rule of the op.
        local: dY/dx, the local derivative.
        upstream: dL/dY, the gradient of the reading element.
    """

    further: ClassVar[Callable[[Scene, Node, int], Any]]  # what derives one element; `derivation.py` fills it in

    scene: Scene
    node: Node
    argument: int
    position: int
    local: Any
    upstream: Any

    @property
    def index(self) -> Index:
        """The index of the reading element."""
        return tuple(int(i) for i in np.unravel_index(self.position, self.node.shape)) if self.node.shape else ()

    @property
    def formula(self) -> str:
        """The local derivative in symbols."""
        known = self.scene.formulas
        reader = self.node, self.argument
        if reader not in known:
            known[reader] = symbolic.local(*reader)
        return known[reader]

    @property
    def product(self) -> float:
        """local * upstream, rounded to float64 (exact for float32)."""
        return float(self.local) * float(self.upstream)

    @property
    def exact(self) -> Fraction:
        """local * upstream, exactly."""
        return Fraction(float(self.local)) * Fraction(float(self.upstream))

    @property
    def name(self) -> str:
        """The reading element's name."""
        return label(self.scene, self.node, self.position)

    def __repr__(self) -> str:
        return f"<Term: {self.name}, {float(self.upstream):.9g} * {float(self.local):.9g} = {self.product:.9g}>"

    def derivation(self) -> Any:
        """How the gradient of the reading element comes about in its turn: a `Derivation`."""
        return Term.further(self.scene, self.node, self.position)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {
            "name": self.name, "op": self.node.op.name, "layer": self.node.layer, "index": list(self.index),
            "formula": self.formula, "local": float(self.local), "upstream": float(self.upstream),
            "product": self.product,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sum:
    """Terms that one op's backward pass adds.

    Attributes:
        parts: the terms.
        orders: in which orders the program may add them; what cannot be the order is told by the bits.
    """

    parts: list[Term]
    orders: list[Summation]

    def terms(self) -> Iterator[Term]:
        """All of them, in the order of the reading op's elements."""
        return iter(self.parts)

    def added(self, order: Summation | None = None) -> Any:
        """The sum as the program rounds it; None where nothing is known of its order."""
        if len(self.parts) == 1 and order is None:
            with np.errstate(all="ignore"):
                return self.parts[0].local * self.parts[0].upstream
        order = order or next(iter(self.orders), None)
        if order is None:
            return None
        return order.total([term.local for term in self.parts], [term.upstream for term in self.parts])


@dataclass(frozen=True, eq=False)
class Branch:
    """What several readers of one number pass back, in the order in which the backward pass adds it."""

    parts: list[Sum | Branch]

    def terms(self) -> Iterator[Term]:
        """All of them, those of the first reader first."""
        for part in reversed(self.parts):
            yield from part.terms()

    def added(self, order: Summation | None = None) -> Any:
        """The sum of the parts' sums, each rounded; None where one of them is not known."""
        sums = [part.added(order) for part in self.parts]
        if any(one is None for one in sums):
            return None
        total = sums[0]
        with np.errstate(all="ignore"):
            for one in sums[1:]:
                total = total + one
        return total


def gathered(scene: Scene, node: Node, position: int, orders: Sequence[Summation] = ()) -> Sum | Branch:
    """The terms of one element's gradient; views that only hand it on are looked through.

    Args:
        orders: in which the program may add them, found on the way here.
    """
    while True:
        # A product may be written as the view of it is read, and then has its order under that name.
        orders = [*orders, *scene.orders(node)]
        readings = _readings(scene, node, position)
        if len(readings) != 1 or (at := _handed_on(*readings[0])) is None:
            break
        node, position = readings[0][0], at
    if len(readings) < 2:
        terms = [term for reading in readings for term in _terms(scene, *reading)]
        return Sum(terms, [order for order in orders if order.count in (None, len(terms))])
    parts: list[Sum | Branch] = []
    for reading in reversed(readings):
        own = scene.part_orders(node, reading[:2])
        at = _handed_on(*reading)
        if at is not None:
            parts.append(gathered(scene, reading[0], at, own))
        else:
            terms = list(_terms(scene, *reading))
            parts.append(Sum(terms, [order for order in own if order.count in (None, len(terms))]))
    return Branch(parts)


def terms_of(scene: Scene, node: Node, position: int) -> list[Term]:
    """The terms of one element's gradient as its readers are: nothing is looked through."""
    return [term for reading in _readings(scene, node, position) for term in _terms(scene, *reading)]


def label(scene: Scene, node: Node, position: int) -> str:
    """``0.weight[3, 7]``."""
    index = np.unravel_index(position, node.shape) if node.shape else ()
    return f"{scene.name(node)}{'[' + ', '.join(map(str, index)) + ']' if node.shape else ''}"


def _readings(scene: Scene, node: Node, position: int) -> list[Reading]:
    """Who reads the element. Paths from many weights lead through the same few elements, so it is kept."""
    known = scene.readings.get((node, position))
    if known is None:
        if len(scene.readings) >= KEPT:
            scene.readings.clear()
        known = scene.readings[node, position] = _read(scene, node, position)
    return known


def _read(scene: Scene, node: Node, position: int) -> list[Reading]:
    found = []
    for reader, argument in scene.readers.get(node, ()):
        if not isinstance(reader, Several) and scene.gradient(reader) is None:
            continue
        part = column(reader, argument, position, scene.value)
        if part is None and reader.op.kind == "region":
            raise GradientError(
                f"explain: {scene.name(reader)} reads {scene.name(node)} at every one of its steps, and what single elements of "
                f"them add to its gradient is not told apart. Explain a tensor behind the loop, or write its steps one by one."
            )
        if part is None:
            raise GradientError(
                f"explain: {scene.name(reader)} has a derivative of its own (cr.custom_vjp, a compiled function, an op of several results), "
                f"which says nothing about single elements. Explain a tensor behind it, or write it with chainrule's ops."
            )
        if len(part[0]):
            found.append((reader, argument, part))
    return found


def _terms(scene: Scene, reader: Node, argument: int, part: Column) -> Iterator[Term]:
    upstream = scene.gradient(reader)
    if upstream is not None:
        flat = upstream.reshape(-1)
        for at, local in zip(*part, strict=True):
            yield Term(scene, reader, argument, int(at), local, flat[at])


def _handed_on(reader: Node, argument: int, part: Column) -> int | None:
    """Where the number stands in a view that hands it on; None where the reader does more, or more than once."""
    return int(part[0][0]) if reader.op.kind == "view" and len(part[0]) == 1 else None
