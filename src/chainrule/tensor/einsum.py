"""``einsum``: sums of products over axes that have names."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from chainrule import graph
from chainrule.errors import SettingError, kind_of
from chainrule.tensor.creation import given
from chainrule.tensor.tensor import Tensor

Axes = list[str]


def einsum(equation: str, *operands: Any) -> Tensor:
    """The sum of products that an equation of axis names says: ``"ik,kj->ij"`` is the matrix product.

    Names on the right are the axes of the result, in their order; over those that are only on the left is summed. A name
    that stands twice at one operand takes its diagonal; ``...`` stands for axes that broadcast. Without ``->`` the
    result has the names that stand once, in the order of the alphabet.

    Args:
        equation: names of axes, letters, one group for each operand.
        operands: tensors, or a list of them.

    Raises:
        SettingError: the equation does not fit the operands.
        ShapeError: axes of one name differ.

    The operands are multiplied from left to right, each pair as one product of matrices.

    >>> import chainrule as cr
    >>> x = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> cr.einsum("ij->ji", x), cr.einsum("ij,ij->", x, x)
    (tensor([[1., 3.],
            [2., 4.]]), tensor(30.))
    """
    if not isinstance(equation, str):
        raise SettingError(
            f"{graph.who('einsum')}: the equation must be a text such as 'ij,jk->ik', got {kind_of(equation)}. "
            f"PyTorch's other form, with lists of numbers of axes, is not in chainrule: see docs/names.md."
        )
    listed = operands[0] if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else operands
    tensors = [given(t, "einsum", "each operand") for t in listed]
    terms, result = _parsed(equation, tensors)
    _check_sizes(terms, tensors)
    named = [_with_single_names(t, names) for t, names in zip(tensors, terms, strict=True)]
    x, names = named[0]
    for number, (y, other) in enumerate(named[1:], 1):
        later = {name for _, following in named[number + 1 :] for name in following} | set(result)
        x, names = _product(x, names, y, other, later)
    x, names = _summed(x, names, set(result))
    absent = [name for name in result if name not in names]
    if absent:
        raise SettingError(f"{graph.who('einsum')}: {absent[0]!r} of the result is at no operand in {equation!r}.")
    return x.permute([names.index(name) for name in result]) if names else x


def _parsed(equation: str, tensors: list[Tensor]) -> tuple[list[Axes], Axes]:
    """The names of each operand's axes, and of the result's; those that ``...`` stands for are called by number."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    groups = left.split(",")
    if len(groups) != len(tensors):
        raise SettingError(
            f"{graph.who('einsum')}: the equation must name the axes of {len(tensors)} operands, got {equation!r}."
        )
    terms = [_names(group, t.ndim, equation) for group, t in zip(groups, tensors, strict=True)]
    rest = sorted({name for names in terms for name in names if name.isdigit()}, key=int, reverse=True)
    if arrow:
        head, dots, tail = right.partition("...")
        result = [*head, *(rest if dots else []), *tail]
    else:
        count = Counter(name for names in terms for name in names)
        result = [*rest, *sorted(name for name, times in count.items() if times == 1 and not name.isdigit())]
    if len(set(result)) != len(result):
        raise SettingError(f"{graph.who('einsum')}: a name must stand once in the result, got {equation!r}.")
    return terms, result


def _names(group: str, ndim: int, equation: str) -> Axes:
    head, dots, tail = group.partition("...")
    more = ndim - len(head) - len(tail)
    if more < 0 or (more and not dots) or (not (head + tail).isalpha() and head + tail):
        raise SettingError(
            f"{graph.who('einsum')}: {group!r} must name {ndim} axes with letters in {equation!r}. Use ... for some of them."
        )
    return [*head, *(str(i) for i in reversed(range(more))), *tail]  # counted from behind, where they broadcast


def _check_sizes(terms: list[Axes], tensors: list[Tensor]) -> None:
    sizes: dict[str, int] = {}
    for t, names in zip(tensors, terms, strict=True):
        for name, size in zip(names, t.shape, strict=True):
            if 1 not in (size, known := sizes.get(name, size)) and size != known:
                shapes = " and ".join(str(t.shape) for t in tensors)
                raise graph.shape_error(
                    "einsum", f"axes of one name must have one size, and {name!r} has {known} and {size}", shapes,
                    "Check the equation.",
                )  # fmt: skip
            sizes[name] = max(known, size) if size != 0 else 0


def _with_single_names(x: Tensor, names: Axes) -> tuple[Tensor, Axes]:
    """The diagonal along axes of one name."""
    names = list(names)
    while (twice := next((n for n, times in Counter(names).items() if times > 1), None)) is not None:
        first = names.index(twice)
        second = names.index(twice, first + 1)
        x = x.diagonal(0, first, second)
        names = [name for i, name in enumerate(names) if i not in (first, second)] + [twice]
    return x, names


def _summed(x: Tensor, names: Axes, kept: set[str]) -> tuple[Tensor, Axes]:
    over = [i for i, name in enumerate(names) if name not in kept]
    return (x.sum(over), [name for name in names if name in kept]) if over else (x, names)


def _product(x: Tensor, a: Axes, y: Tensor, b: Axes, later: set[str]) -> tuple[Tensor, Axes]:
    """Two operands as one batch of products of matrices; axes that only one has, and nobody later, are summed before."""
    x, a = _summed(x, a, later | set(b))
    y, b = _summed(y, b, later | set(a))
    shared = [name for name in a if name in b]
    stretched = [n for n in shared if x.shape[a.index(n)] != y.shape[b.index(n)]]
    for name in stretched:  # an axis of size 1 stands for all
        size = max(x.shape[a.index(name)], y.shape[b.index(name)])
        x, y = (t.expand([size if n == name else -1 for n in names]) for t, names in ((x, a), (y, b)))
    batch, inner = [n for n in shared if n in later], [n for n in shared if n not in later]
    rows, columns = [n for n in a if n not in shared], [n for n in b if n not in shared]
    sizes = {**dict(zip(b, y.shape, strict=True)), **dict(zip(a, x.shape, strict=True))}
    names = [*batch, *rows, *columns]
    if not inner:
        left = _laid(x, a, [*batch, *rows]).reshape([sizes[n] for n in (*batch, *rows)] + [1] * len(columns))
        right = _laid(y, b, [*batch, *columns])
        return left * right.reshape([sizes[n] for n in batch] + [1] * len(rows) + [sizes[n] for n in columns]), names
    m, k, n = (math.prod(sizes[name] for name in group) for group in (rows, inner, columns))
    front = [sizes[name] for name in batch]
    left = _laid(x, a, [*batch, *rows, *inner]).reshape([*front, m, k])
    right = _laid(y, b, [*batch, *inner, *columns]).reshape([*front, k, n])
    return (left @ right).reshape([sizes[name] for name in names]), names


def _laid(x: Tensor, names: Axes, order: Axes) -> Tensor:
    return x.permute([names.index(name) for name in order]) if order else x
