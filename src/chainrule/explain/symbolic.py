"""The local derivative of an op in symbols, read off the rule that runs.

A derivative rule is a formula over Tensors, linear in dY; called on symbols it leaves a graph behind. What stands
there beside dY is the derivative of one output element by one input element, and is written here as text.
"""

from __future__ import annotations

import math
from types import CodeType
from typing import Any, NamedTuple

from chainrule import graph
from chainrule.compiler.frontend.trace import Trace
from chainrule.graph import CONST, INPUT, Node, Rule
from chainrule.tensor.core import wrap

# How strongly a sign binds: the left operand is asked for that, the right one for one more.
_INFIX = {
    "add": ("+", 10), "sub": ("-", 10), "mul": ("*", 20), "floor_divide": ("//", 20), "remainder": ("%", 20),
    "eq": ("==", 5), "ne": ("!=", 5), "lt": ("<", 5), "le": ("<=", 5), "gt": (">", 5), "ge": (">=", 5),
    "bitwise_and": ("and", 3), "bitwise_or": ("or", 2),
}  # fmt: skip
_CHOICE, _NOT, _POWER, _ATOM = 1, 4, 30, 40  # the same of `if`, `not`, `**`, and of what nothing takes apart
_KNOWN = {2 / math.sqrt(math.pi): "2 / sqrt(pi)"}  # numbers that are better known by how they come about


class Words(NamedTuple):
    """A text, and how strongly what holds it together binds."""

    text: str
    binds: int = _ATOM
    under: str = ""  # of one divided by something: that, as a divisor

    def inside(self, outer: int) -> str:
        """The text where something around it binds so strongly: in parentheses if it must."""
        return f"({self.text})" if self.binds < outer else self.text


_ONE, _LESS = Words("1"), Words("-1", 20)  # what stands beside dY and -dY


def local(node: Node, argument: int) -> str:
    """The derivative of one element of a node by one element of an input, over the names in the rule and Y.

    >>> import chainrule as cr
    >>> x = cr.tensor([1.0], requires_grad=True)
    >>> local((x * x)._node, 0), local(x.tanh()._node, 0)
    ('b', 'sigmoid(2 * x) * sigmoid(-2 * x) * 4')
    """
    rule = node.op.rule(argument)
    if rule is None:
        return "0"
    trace, count = Trace(), len(node.inputs)
    with graph.recording(trace), graph.grad_mode(False):
        types = [node.type, node.type, *(source.type for source in node.inputs)]
        dY, *symbols = (Node(INPUT, (), {}, type, trace=trace) for type in types)
        product = rule(*map(wrap, (dY, *symbols)), **node.params)
    if product is None:  # of numbers that have no derivative
        return "0"
    words = {made: Words(name) for made, name in zip(symbols, ["Y", *_names(rule, count)], strict=True)}
    return _Writer(dY, words, product._node).beside(product._node).text


def _names(rule: Rule, count: int) -> list[str]:
    """What a rule calls its inputs; where it takes any number of them, they are numbered."""
    code: CodeType = rule.__code__
    names = code.co_varnames[2 : min(code.co_argcount, 2 + count)]
    return [*names, *(f"x{i + 1}" for i in range(len(names), count))]


class _Writer:
    """Writes the nodes of a rule: those that depend on dY without it, as what stands beside it."""

    def __init__(self, dY: Node, words: dict[Node, Words], product: Node) -> None:
        self.dY, self.words = dY, words
        self.linear = {dY}
        for node in graph.toposort([product]):
            if not self.linear.isdisjoint(node.inputs):
                self.linear.add(node)

    def beside(self, node: Node) -> Words:
        """The factor of dY in a node; nothing is added where there is none."""
        if node is self.dY:
            return _ONE
        if node not in self.linear:
            return self.written(node)
        name, inputs = node.op.name, node.inputs
        if name == "where":
            return _chosen(self.written(inputs[0]), self.beside(inputs[1]), self.beside(inputs[2]))
        if name in ("mul", "matmul", "conv"):
            return _times(*map(self.beside, inputs))
        if name == "div":
            return _divided(self.beside(inputs[0]), self.written(inputs[1]))
        if name in ("add", "sub"):
            return _joined(self.beside(inputs[0]), *_INFIX[name], self.beside(inputs[1]))
        if name == "neg":
            return _minus(self.beside(inputs[0]))
        (moved,) = self.linear.intersection(inputs)  # it moves, retypes or gathers the elements of dY
        return self.beside(moved)

    def written(self, node: Node) -> Words:
        """A node that does not depend on dY."""
        name = node.op.name
        if node in self.words:
            return self.words[node]
        if node.op is CONST:
            return _number(node.params["value"])
        words = [self.written(source) for source in node.inputs]
        if node.op.kind == "view" or name in ("cast", "alias", "detach"):
            return words[0]
        if name == "div":
            return _divided(*words)
        if name in _INFIX:
            return _joined(words[0], *_INFIX[name], words[1])
        if name == "neg":
            return _minus(words[0])
        if name == "pow":
            return Words(f"{words[0].inside(_POWER + 1)} ** {words[1].inside(_POWER)}", _POWER)
        if name == "where":
            return _chosen(*words)
        if name == "bitwise_not":
            return Words(f"not {words[0].inside(_NOT)}", _NOT)
        return Words(f"{name}({', '.join(word.text for word in words)})")


def _joined(a: Words, sign: str, binds: int, b: Words) -> Words:
    return Words(f"{a.inside(binds)} {sign} {b.inside(binds + 1)}", binds)


def _times(a: Words, b: Words) -> Words:
    """A product; of 1 and what it is multiplied with the latter."""
    if a == _ONE or b == _ONE:
        return b if a == _ONE else a
    if a == _LESS:
        return _minus(b)
    return Words(f"{a.inside(20)} / {b.under}", 20) if b.under else _joined(a, "*", 20, b)


def _divided(a: Words, b: Words) -> Words:
    return _joined(a, "/", 20, b)._replace(under=b.inside(21) if a == _ONE else "")


def _minus(a: Words) -> Words:
    if a == _ONE:
        return _LESS
    whole = "//" in a.text or "%" in a.text  # the sign does not go into what rounds down
    return Words(f"-{a.inside(_ATOM if whole else 20)}", 20)


def _chosen(condition: Words, a: Words, b: Words) -> Words:
    return Words(f"{a.inside(_CHOICE + 1)} if {condition.inside(_CHOICE + 1)} else {b.inside(_CHOICE)}", _CHOICE)


def _number(value: Any) -> Words:
    number = float(value)
    for known, text in _KNOWN.items():
        if math.isclose(abs(number), known, rel_tol=1e-6):
            return Words(text if number > 0 else f"-{text}", 20)
    text = f"{number:.9g}"
    return Words(text, 25 if number < 0 else _ATOM)
