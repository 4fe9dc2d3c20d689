"""The chain rule for one number: dL/dw as the sum of what every element that reads w passes back."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from math import isfinite
from typing import Any

from chainrule.compiler.plan.summation import Summation
from chainrule.errors import GradientError
from chainrule.explain.columns import says_nothing
from chainrule.explain.paths import Path, every_path, strongest_paths
from chainrule.explain.scene import Scene
from chainrule.explain.terms import Branch, Sum, Term, gathered, label
from chainrule.explain.text import number, sentence, table
from chainrule.graph import Node

TERMS, PATHS = 8, 3  # of a printed derivation: the largest terms, the strongest paths


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
        return list(self._sum.terms())

    @cached_property
    def _sum(self) -> Sum | Branch:
        return gathered(self.scene, self.node, self.position)

    # ---------------------------------------------------------------- adding up

    @cached_property
    def order(self) -> Summation | None:
        """The order in which the program adds the terms, if it is one sum, known, and gives the stored bits."""
        orders = self._sum.orders if isinstance(self._sum, Sum) else []
        return next((order for order in orders if self._is_stored(self._sum.added(order))), None)

    @cached_property
    def adds_up(self) -> bool:
        """Do the terms, added as the program adds them, give the stored gradient bit for bit?

        Where several ops read the number (a layer that is used twice), what each passes back is added one after the
        other, as the backward pass meets them: the last one first.
        """
        return (
            self.order is not None
            or (len(self.terms) == 0 and self.gradient == 0)
            or self._is_stored(self._sum.added())
        )

    def _is_stored(self, total: Any) -> bool:
        return total is not None and bool(total == self.gradient)

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
        """The strongest paths to the loss that a search along the largest contributions finds.

        Raises:
            GradientError: an op on the way says nothing about single elements (`opaque`).
        """
        return strongest_paths(self.scene, self.node, self.position, count)

    @cached_property
    def opaque(self) -> str | None:
        """The op on the way to the loss through which no path can be followed; None where there is none."""
        return next((self.scene.name(node) for node in self.scene.after(self.node) if says_nothing(node)), None)

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
        chosen = self.strongest(paths) if self.finite and not self.opaque else []
        listed = sorted(self.terms, key=lambda t: -abs(t.product))[:terms]
        return {
            "name": self.name, "where": self.scene.title, "dtype": self.node.dtype.name, "value": self.value,
            "gradient": float(self.gradient), "bits": self.gradient.tobytes()[::-1].hex(),
            "count": len(self.terms), "terms": [term.as_dict() for term in listed],
            "others": sum(term.product for term in self.terms) - sum(term.product for term in listed),
            "adds_up": self.adds_up, "order": str(self.order) if self.order is not None else None,
            "rounding": float(self.rounding) if self.finite else None,
            "paths": [path.as_dict() for path in chosen], "opaque": self.opaque,
            "other_paths": float(self.rest(chosen)) if self.finite else None,
        }  # fmt: skip

    def __str__(self) -> str:
        return _text(self)

    def __repr__(self) -> str:
        return f"<Derivation of {self.name}: {float(self.gradient):.9g}, {len(self.terms)} terms>"


def _text(d: Derivation) -> str:
    """A derivation: the sum of terms, whether it adds up, the strongest paths."""
    where = f"  ({d.scene.title}, {d.node.dtype.name})" if d.scene.title else f"  ({d.node.dtype.name})"
    lines = [sentence(f"dL/d {d.name} = {number(float(d.gradient))}{where}"), ""]
    lines += _sum(d)
    if d.opaque:
        lines += [
            "",
            sentence(
                f"{d.opaque} on the way to the loss has a derivative of its own: no path can be followed through it."
            ),
        ]
    elif d.finite and d.terms:
        lines += ["", *_paths(d)]
    return "\n".join(lines)


def _sum(d: Derivation) -> list[str]:
    count = len(d.terms)
    if not count:
        return ["  Nothing that the loss depends on reads it: the gradient is zero."]
    listed = sorted(d.terms, key=lambda t: -abs(t.product))[:TERMS]
    terms = "terms" if count > 1 else "term"
    lines = [sentence(f"is the sum of {count} {terms} dL/dY * dY/dx, one for each element Y that reads it:")]
    rows = [["Y", "dL/dY", "", "dY/dx", "", ""]]
    rows += [[t.name, number(float(t.upstream)), "*", _local(t), "=", number(t.product)] for t in listed]
    if count > len(listed):
        others = sum(t.product for t in d.terms) - sum(t.product for t in listed)
        rows.append([f"the {count - len(listed)} others", "", "", "", "=", number(others)])
    lines += table(rows, right=(1, 5))
    return [*lines, sentence(_verdict(d), "  "), *_behind(d)]


def _behind(d: Derivation) -> list[str]:
    """The terms behind the conversion that reads a number in bfloat16: it is all that reads it."""
    if not d.node.dtype.only_stores or len(d.terms) != 1 or d.terms[0].node.op.name != "cast":
        return []
    read = d.terms[0].derivation()
    return ["", sentence(f"{d.terms[0].name} is the same number as {read.node.dtype.name}; its gradient"), *_sum(read)]


def _local(t: Term) -> str:
    text = number(float(t.local))
    return text if t.formula == text else f"{t.formula} = {text}"


def _verdict(d: Derivation) -> str:
    if not d.finite:
        return "A term is not finite, so nothing adds up from here on."
    if d.order is not None:
        return f"Added as the program adds them ({d.order}) they give {number(float(d.gradient))}: the stored bits."
    if d.adds_up:
        return f"That is {number(float(d.gradient))}: the stored bits."
    return (
        f"Their exact sum and rounding, {number(float(d.rounding))}, give {number(float(d.gradient))}: the stored bits."
    )


def _paths(d: Derivation) -> list[str]:
    paths = d.strongest(PATHS)
    lines = [sentence("Strongest paths to the loss, and the product of derivatives along each:")]
    for path in paths:
        lines += [f"  {number(path.product)}", *_path(path)]
    rest = f"{number(float(d.rest(paths)))} is what all other paths add (the gradient less these, exactly)."
    lines.append(sentence(rest, "  "))
    return lines


def _path(path: Path) -> list[str]:
    return table([["-> " + step.name, "*", _local(step)] for step in path.steps], indent="    ")


Term.further = staticmethod(Derivation)
