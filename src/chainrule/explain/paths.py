"""Paths from one number to the loss: the product of the local derivatives along each is what it adds."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from chainrule.errors import GradientError
from chainrule.explain.scene import Scene
from chainrule.explain.terms import Term, terms_of
from chainrule.graph import Node

WIDTH = 4  # partial paths kept for each path wanted


@dataclass(frozen=True, eq=False, repr=False)
class Path:
    """A way to the loss, one `Term` a step (each term's reading element is where the step leads)."""

    steps: tuple[Term, ...]

    @property
    def exact(self) -> Fraction:
        """The product of the local derivatives, exactly."""
        product = Fraction(1)
        for step in self.steps:
            product *= Fraction(float(step.local))
        return product

    @property
    def product(self) -> float:
        """The product of the local derivatives."""
        return float(self.exact)

    def __repr__(self) -> str:
        return f"<Path: {self.product:.9g}, {' -> '.join(step.name for step in self.steps)}>"

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {"product": self.product, "steps": [step.as_dict() for step in self.steps]}


@dataclass(frozen=True, eq=False)
class _Partial:
    """The beginning of a path, as a chain back to where it began."""

    scene: Scene
    product: float
    strength: float  # what all paths that begin so add together
    node: Node
    position: int
    term: Term | None = None
    before: _Partial | None = None

    def extended(self) -> list[_Partial]:
        found = []
        for term in terms_of(self.scene, self.node, self.position):
            product = self.product * float(term.local)
            if product:
                strength = abs(product * float(term.upstream))
                found.append(_Partial(self.scene, product, strength, term.node, term.position, term, self))
        return found

    def path(self) -> Path:
        steps = []
        partial: _Partial | None = self
        while partial is not None and partial.term is not None:
            steps.append(partial.term)
            partial = partial.before
        return Path(tuple(reversed(steps)))


def strongest_paths(scene: Scene, node: Node, position: int, count: int) -> list[Path]:
    """A beam search: of the paths of each length, those go on whose continuations together add most."""
    front = [_Partial(scene, 1.0, 0.0, node, position)]
    done: list[_Partial] = []
    while front:
        following = [p for partial in front for p in partial.extended()]
        done += [p for p in following if p.node is scene.loss]
        going = (p for p in following if p.node is not scene.loss and p.strength > 0)
        front = heapq.nlargest(max(WIDTH * count, 16), going, key=lambda p: p.strength)
    return [p.path() for p in heapq.nlargest(count, done, key=lambda p: abs(p.product))]


def every_path(scene: Scene, node: Node, position: int, limit: int) -> list[Path]:
    """All of them, strongest first; paths through a local derivative of zero add nothing and are left out."""
    stack = [_Partial(scene, 1.0, 0.0, node, position)]
    done: list[Path] = []
    while stack:
        partial = stack.pop()
        if partial.node is scene.loss:
            done.append(partial.path())
        else:
            stack += partial.extended()
        if len(done) + len(stack) > limit:
            raise GradientError(
                f"explain: there are more than {limit:,} paths from here to the loss. Ask for the strongest ones "
                f"(derivation.strongest(10)), or raise limit."
            )
    return sorted(done, key=lambda path: -abs(path.product))
