"""Index expressions: where in a buffer an iteration of a loop nest reads or writes.

An `Expr` is a sum of atoms times integers plus a constant. Atoms are loop variables, quotients and
remainders that did not simplify, and integers loaded from memory. Views compose on these expressions
(`ops.shaping`), so a chain of reshapes, permutations and slices costs one affine address.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, Union


class Var(NamedTuple):
    """The variable of one loop: 0 <= var < size."""

    number: int
    size: int

    def __str__(self) -> str:
        return "ijklmnopqrstuvwxyz"[self.number % 18] + ("" if self.number < 18 else str(self.number // 18))


@dataclass(frozen=True)  # not tuples: a quotient and a remainder of the same parts must differ
class Quotient:
    """floor(expr / by)."""

    expr: Expr
    by: int


@dataclass(frozen=True)
class Remainder:
    """expr mod by."""

    expr: Expr
    by: int


class Loaded(NamedTuple):
    """An integer that the kernel computes: an index that is data. It lies in 0 <= value < size."""

    value: Any
    size: int


Atom = Union[Var, Quotient, Remainder, Loaded]


class Expr:
    """constant + sum of factor * atom; immutable."""

    __slots__ = ("_hash", "constant", "terms")

    def __init__(self, terms: dict[Atom, int] | None = None, constant: int = 0) -> None:
        self.terms: dict[Atom, int] = terms or {}
        self.constant = constant
        self._hash = hash((frozenset(self.terms.items()), constant))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return not self.terms and self.constant == other
        return isinstance(other, Expr) and self.constant == other.constant and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Expr | int) -> Expr:
        if isinstance(other, int):
            return Expr(self.terms, self.constant + other) if other else self
        terms = dict(self.terms)
        for atom, factor in other.terms.items():
            total = terms.get(atom, 0) + factor
            if total:
                terms[atom] = total
            else:
                del terms[atom]
        return Expr(terms, self.constant + other.constant)._rejoined()

    __radd__ = __add__

    def __mul__(self, factor: int) -> Expr:
        if factor == 1:
            return self
        return Expr({atom: f * factor for atom, f in self.terms.items()} if factor else {}, self.constant * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Expr:
        return self * -1

    def __sub__(self, other: Expr | int) -> Expr:
        return self + -other

    def __rsub__(self, other: int) -> Expr:
        return -self + other

    def bounds(self) -> tuple[int, int]:
        """The smallest and largest value it can take."""
        low = high = self.constant
        for atom, factor in self.terms.items():
            first, last = (factor * bound for bound in _atom_bounds(atom))
            low, high = low + min(first, last), high + max(first, last)
        return low, high

    def _rejoined(self) -> Expr:
        """With whole * by + rest written as what was divided: a reshape back and forth leaves no trace."""
        for atom, factor in self.terms.items():
            if isinstance(atom, Remainder):
                whole = Quotient(atom.expr, atom.by)
                if self.terms.get(whole) == factor * atom.by:
                    others = {a: f for a, f in self.terms.items() if a not in (atom, whole)}
                    return Expr(others, self.constant) + atom.expr * factor
        return self

    def _split(self, by: int) -> tuple[Expr, Expr]:
        """(whole, rest) with self = whole * by + rest, rest holding what does not divide.

        The rest is never negative: native division rounds towards zero, and floor only agrees from there on.
        """
        whole = Expr({atom: f // by for atom, f in self.terms.items() if f % by == 0}, self.constant // by)
        rest = Expr({atom: f for atom, f in self.terms.items() if f % by}, self.constant % by)
        low, _ = rest.bounds()
        borrowed = -(low // by) if low < 0 else 0
        return whole - borrowed, rest + borrowed * by

    def __floordiv__(self, by: int) -> Expr:
        if by == 1:
            return self
        if by == 0:  # along an empty axis: no iteration ever asks
            return Expr()
        whole, rest = self._split(by)
        low, high = rest.bounds()
        return whole if low >= 0 and high < by else whole + Expr({Quotient(rest, by): 1})

    def __mod__(self, by: int) -> Expr:
        if by <= 1:
            return Expr()
        _, rest = self._split(by)
        low, high = rest.bounds()
        return rest if low >= 0 and high < by else Expr({Remainder(rest, by): 1})

    def coefficient(self, var: Var) -> int | None:
        """How far the value moves when `var` moves by one; None where that is not constant."""
        if any(var in atom_vars(atom) for atom in self.terms if not isinstance(atom, Var)):
            return None
        return self.terms.get(var, 0)

    def vars(self) -> set[Var]:
        return {var for atom in self.terms for var in atom_vars(atom)}

    @property
    def strided(self) -> bool:
        """Made of loop variables, and of data that is the same in every iteration."""
        return all(isinstance(atom, Var) or not atom_vars(atom) for atom in self.terms)

    def beginning(self, loops: Collection[Var | None] | None = None) -> Expr:
        """Where it is when every loop begins, or each of these."""
        outside = {
            a: f for a, f in self.terms.items() if not isinstance(a, Var) or (loops is not None and a not in loops)
        }
        return Expr(outside, self.constant)

    def loaded(self) -> Iterator[Loaded]:
        """The data this index depends on."""
        for atom in self.terms:
            if isinstance(atom, Loaded):
                yield atom
            elif not isinstance(atom, Var):
                yield from atom.expr.loaded()

    def text(self, data: Callable[[Loaded], str]) -> str:
        """The expression as text; `data` spells out an index that is loaded."""
        parts = []
        for atom, factor in self.terms.items():
            if isinstance(atom, Var):
                spelled = str(atom)
            elif isinstance(atom, Loaded):
                spelled = f"<{data(atom)}>"
            else:
                spelled = f"({atom.expr.text(data)}){'/' if isinstance(atom, Quotient) else '%'}{atom.by}"
            parts.append(spelled if factor == 1 else f"{factor}*{spelled}")
        if self.constant or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts)

    def __repr__(self) -> str:
        return self.text(lambda atom: "data")


def _atom_bounds(atom: Atom) -> tuple[int, int]:
    if isinstance(atom, (Var, Loaded)):
        return 0, atom.size - 1
    if isinstance(atom, Remainder):
        return 0, atom.by - 1
    low, high = atom.expr.bounds()
    return low // atom.by, high // atom.by


def atom_vars(atom: Atom) -> set[Var]:
    """The loop variables an atom depends on."""
    if isinstance(atom, Var):
        return {atom}
    if isinstance(atom, Loaded):
        found: set[Var] = atom.value.vars()
        return found
    return atom.expr.vars()


def variables(sizes: tuple[int, ...], first: int = 0) -> tuple[Expr, ...]:
    """One loop variable an axis; an axis of size 1 needs none, so shapes that differ in those share their loops."""
    numbers = count(first)
    return tuple(Expr({Var(next(numbers), size): 1}) if size != 1 else Expr() for size in sizes)


def linear(loops: tuple[Var, ...]) -> Expr:
    """The position of an iteration of these loops, counted in row-major order."""
    position = Expr()
    for var in loops:
        position = position * var.size + Expr({var: 1})
    return position


class Guard(NamedTuple):
    """0 <= expr < limit, and expr a multiple of `every`: where a padded element is not padding."""

    expr: Expr
    limit: int
    every: int

    def always(self) -> bool:
        low, high = self.expr.bounds()
        return low >= 0 and high < self.limit and self.every == 1

    def text(self, data: Callable[[Loaded], str]) -> str:
        return f"0<={self.expr.text(data)}<{self.limit}" + (f" by {self.every}" if self.every > 1 else "")
