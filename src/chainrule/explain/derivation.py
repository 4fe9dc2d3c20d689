"""The chain rule for one number: dL/dw as the sum of what every element that reads w passes back."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np

from chainrule.compiler.summation import Summation
from chainrule.errors import GradientError
from chainrule.explain.columns import column
from chainrule.explain.paths import Path, every_path, strongest_paths
from chainrule.explain.scene import Scene
from chainrule.graph import Node

Index = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Term:
    """What one element that reads the number passes back: ``product = local * upstream``.

    Attributes:
        scene, node, position: the reading element.
        formula: the local derivative in symbols, as the op declares it.
        local: dY/dx, the local derivative.
        upstream: dL/dY, the gradient of the reading element.
    """

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
        return self.node.op.formula_of(self.argument) or "0"

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

    def derivation(self) -> Derivation:
        """How the gradient of the reading element comes about in its turn."""
        return Derivation(self.scene, self.node, self.position)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {
            "name": self.name, "op": self.node.op.name, "layer": self.node.layer, "index": list(self.index),
            "formula": self.formula, "local": float(self.local), "upstream": float(self.upstream),
            "product": self.product,
        }  # fmt: skip


class Derivation:
    """One number's gradient, by the chain rule: every term, how they add up, and the strongest paths to the loss.

    ``print(derivation)`` shows it; ``as_dict()`` gives it as plain numbers; ``derivation.terms[i].derivation()``
    goes one step on. For a recorded step the numbers are the training's own, and where the program's order of
    adding is known (dense layers), adding the terms in that order gives the stored bits; ``adds_up`` says so.
    Otherwise ``rounding`` is what the rounded additions of the program lost or gained.

    Args:
        scene: values and gradients.
        node: the tensor.
        position: which element of it, in row-major order.
    """

    def __init__(self, scene: Scene, node: Node, position: int) -> None:
        self.scene, self.node, self.position = scene, node, position
        array = scene.gradient(node)
        if array is None:
            raise GradientError(
                f"explain: the loss does not depend on {scene.name(node)}, so there is nothing to derive. "
                f"Name a tensor that the loss is computed from."
            )
        self.gradient: Any = array.reshape(-1)[position]

    @property
    def name(self) -> str:
        """What is derived: ``0.weight[3, 7]``."""
        return label(self.scene, self.node, self.position)

    @property
    def value(self) -> float:
        """The number itself."""
        return float(self.scene.value(self.node).reshape(-1)[self.position])

    @cached_property
    def terms(self) -> list[Term]:
        """One term for each element that reads the number, in the order of the reading op's elements."""
        node, position = _through_views(self.scene, self.node, self.position)
        return terms_of(self.scene, node, position)

    # ---------------------------------------------------------------- adding up

    @cached_property
    def order(self) -> Summation | None:
        """The order in which the program adds the terms, if it is known and gives the stored bits."""
        order = self.scene.order(self.node, self.position)
        if order is None or order.count != len(self.terms):
            return None
        total = order.total([t.local for t in self.terms], [t.upstream for t in self.terms])
        return order if total.tobytes() == self.gradient.tobytes() else None

    @property
    def adds_up(self) -> bool:
        """Do the terms, added as the program adds them, give the stored gradient bit for bit?"""
        return self.order is not None or self._passed_on

    @property
    def _passed_on(self) -> bool:
        """A single term that is handed over unchanged, or rounded once."""
        if len(self.terms) > 1:
            return False
        with np.errstate(all="ignore"):
            found = self.terms[0].local * self.terms[0].upstream if self.terms else type(self.gradient)(0)
        return bool(found == self.gradient)

    @cached_property
    def rounding(self) -> Fraction:
        """The stored gradient less the exact sum of the terms: what rounding did, exactly."""
        return Fraction(float(self.gradient)) - sum((t.exact for t in self.terms), Fraction(0))

    @property
    def finite(self) -> bool:
        """Is everything in it finite?"""
        return isfinite(float(self.gradient)) and all(isfinite(t.product) for t in self.terms)

    # ---------------------------------------------------------------- paths

    def strongest(self, count: int = 5) -> list[Path]:
        """The strongest paths to the loss that a search along the largest contributions finds."""
        return strongest_paths(self.scene, self.node, self.position, count)

    def every_path(self, limit: int = 10_000) -> list[Path]:
        """All paths to the loss; their products add up to the gradient, but for rounding.

        Raises:
            GradientError: there are more than `limit`.
        """
        return every_path(self.scene, self.node, self.position, limit)

    def rest(self, paths: list[Path]) -> Fraction:
        """What all paths but these add, exactly: the stored gradient less their products."""
        return Fraction(float(self.gradient)) - sum((path.exact for path in paths), Fraction(0))

    # ---------------------------------------------------------------- showing

    def as_dict(self, terms: int = 20, paths: int = 5) -> dict[str, Any]:
        """Plain numbers and texts: the strongest `terms`, and the strongest `paths`."""
        chosen = self.strongest(paths) if self.finite else []
        listed = sorted(self.terms, key=lambda t: -abs(t.product))[:terms]
        return {
            "name": self.name, "where": self.scene.title, "dtype": self.node.dtype.name, "value": self.value,
            "gradient": float(self.gradient), "bits": self.gradient.tobytes()[::-1].hex(),
            "count": len(self.terms), "terms": [term.as_dict() for term in listed],
            "others": sum(term.product for term in self.terms) - sum(term.product for term in listed),
            "adds_up": self.adds_up, "order": str(self.order) if self.order is not None else None,
            "rounding": float(self.rounding) if self.finite else None,
            "paths": [path.as_dict() for path in chosen],
            "other_paths": float(self.rest(chosen)) if self.finite else None,
        }  # fmt: skip

    def __str__(self) -> str:
        from chainrule.explain.text import derivation_text

        return derivation_text(self)

    def __repr__(self) -> str:
        return f"<Derivation of {self.name}: {float(self.gradient):.9g}, {len(self.terms)} terms>"


def terms_of(scene: Scene, node: Node, position: int) -> list[Term]:
    """The terms of one element's gradient, those of each reading op in the order of its elements."""
    found = []
    for reader, argument in scene.readers.get(node, ()):
        upstream = scene.gradient(reader)
        if upstream is None:
            continue
        part = column(reader, argument, position, scene.value)
        if part is None:
            raise GradientError(
                f"explain: {scene.name(reader)} has a derivative of its own (cr.custom_vjp, or a compiled function), "
                f"which says nothing about single elements. Explain a tensor behind it, or write it with chainrule's ops."
            )
        flat = upstream.reshape(-1)
        found += [Term(scene, reader, argument, int(at), local, flat[at]) for at, local in zip(*part, strict=True)]
    return found


def label(scene: Scene, node: Node, position: int) -> str:
    """``0.weight[3, 7]``."""
    index = np.unravel_index(position, node.shape) if node.shape else ()
    return f"{scene.name(node)}{'[' + ', '.join(map(str, index)) + ']' if node.shape else ''}"


def _through_views(scene: Scene, node: Node, position: int) -> tuple[Node, int]:
    """The same number behind views that only it goes through."""
    while len(readers := scene.readers.get(node, [])) == 1 and readers[0][0].op.kind == "view":
        part = column(*readers[0], position, scene.value)
        if part is None or len(part[0]) != 1:
            break
        node, position = readers[0][0], int(part[0][0])
    return node, position
