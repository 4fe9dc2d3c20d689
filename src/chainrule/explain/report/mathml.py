"""Formulas as MathML, read off the ops' own declarations.

A derivative rule is a formula over Tensors; called on symbols it leaves a graph behind, and that graph
is what is typeset here. So the formula on the page is the rule that runs, not a copy of it. MathML is
kept as nested lists (``["mrow", child, ...]``, text in ``mi``, ``mn``, ``mo``), which the page turns into
elements without ever parsing markup, and `markup` writes as text.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Union

from chainrule import graph
from chainrule.compiler.frontend.trace import Trace
from chainrule.errors import ChainruleError
from chainrule.graph import CONST, INPUT, Node, Op
from chainrule.several import RESULT, name_of, sources
from chainrule.tensor.core import wrap

MINUS = "\u2212"

Math = Union[str, "list[Any]"]

# A sign and how strongly it binds; the left operand is asked for that, the right one for one more.
_INFIX = {"add": ("+", 10), "sub": (MINUS, 10), "mul": ("·", 20), "matmul": ("", 20), "eq": ("=", 0), "ne": ("≠", 0),
          "lt": ("<", 0), "le": ("≤", 0), "gt": (">", 0), "ge": ("≥", 0), "bitwise_and": ("∧", 0),
          "bitwise_or": ("\u2228", 0), "remainder": ("mod", 20)}  # fmt: skip
_SAME = {"expand", "reshape", "cast", "alias", "detach", "check_index"}  # they move or retype a value
_FUNCTIONS = {"log": "ln", "maximum": "max", "minimum": "min", "amax": "max", "amin": "min", "sigmoid": "\u03c3"}


def mi(text: str) -> Math:
    """A name."""
    return ["mi", text]


def mn(text: str) -> Math:
    """A number."""
    return ["mn", text]


def mo(text: str) -> Math:
    """An operator."""
    return ["mo", text]


def row(*parts: Math) -> Math:
    """Parts side by side."""
    return ["mrow", *parts]


def symbol(name: str) -> Math:
    """A value of the rule that the page may replace by its number: dY, Y, x, a, b."""
    return ["mi", {"class": "value", "data-name": name}, name]


def derivative(of: str, by: Math) -> Math:
    """The derivative of `of` by something."""
    return ["mfrac", row(mo("∂"), mi(of)), row(mo("∂"), by)]


def of_weight(transposed: bool) -> Math:
    """A weight's gradient as a sum over the samples s of the batch, Y being the product that reads the weight."""
    unit, feature = mi("i"), mi("j")
    place = row(unit, feature) if transposed else row(feature, unit)
    return row(
        derivative("L", ["msub", mi("W"), place]), mo("="), ["munder", ["mo", {"largeop": "true"}, "∑"], mi("s")],
        derivative("L", ["msub", mi("Y"), row(mi("s"), unit)]), mo("·"), ["msub", mi("x"), row(mi("s"), feature)],
    )  # fmt: skip


def markup(tree: Math) -> str:
    """A formula as MathML text, for a document that is not the page.

    >>> markup(row(mi("a<b"), mo("="), mn("2")))
    '<mrow><mi>a&lt;b</mi><mo>=</mo><mn>2</mn></mrow>'
    """
    if isinstance(tree, str):
        return html.escape(tree)
    tag, *rest = tree
    attributes = rest.pop(0) if rest and isinstance(rest[0], dict) else {}
    head = "".join(f' {key}="{html.escape(str(value))}"' for key, value in attributes.items())
    return f"<{tag}{head}>{''.join(map(markup, rest))}</{tag}>"


# -- from rules to formulas -----------------------------------------------------------------------


def names_of(count: int) -> list[str]:
    """What the inputs of an op are called: x alone, a and b for two, numbered otherwise."""
    if count == 1:
        return ["x"]
    return ["a", "b"] if count == 2 else [f"x{i + 1}" for i in range(count)]


class Formula:
    """A formula, and which of the values it mentions it reads."""

    def __init__(self, tree: Math, reads: list[str]) -> None:
        self.tree, self.reads = tree, reads


def forward(node: Node) -> Formula:
    """``Y = op(...)`` of a node."""
    names = names_of(len(sources(node)))
    known = {
        source: _number(source.params["value"]) if source.op is CONST else symbol(name)
        for source, name in zip(sources(node), names, strict=True)
    }
    return Formula(row(symbol("Y"), mo("="), _typeset(node, known, 0)), names)


def backward(node: Node, argument: int) -> Formula | None:
    """``dX = rule(dY, Y, ...)`` of a node for one input; None where it has no derivative, or shares one with others."""
    if node.op is RESULT:
        return None
    names = names_of(len(node.inputs))
    trace = Trace()
    with graph.recording(trace), graph.grad_mode(False):
        dY, Y = (Node(INPUT, (), {}, node.type, trace=trace) for _ in range(2))
        inputs = [
            graph.const(source.params["value"], source.dtype)
            if source.op is CONST
            else Node(INPUT, (), {}, source.type, trace=trace)
            for source in node.inputs
        ]
        product = _product(node.op, argument, dY, Y, inputs, node.params)
    if product is None:
        return None
    symbols = {"dY": dY, "Y": Y, **{n: i for n, i in zip(names, inputs, strict=True) if i.op is INPUT}}
    known: dict[Node, Math] = {made: symbol(name) for name, made in symbols.items()}
    used = set(graph.toposort([product]))
    left = symbol(f"d{names[argument]}")
    return Formula(
        row(left, mo("="), _typeset_known(product, known, 0)), [n for n, made in symbols.items() if made in used]
    )


def _product(op: Op, argument: int, dY: Node, Y: Node, inputs: Sequence[Node], params: dict[str, Any]) -> Node | None:
    tensors = [wrap(node) for node in (dY, Y, *inputs)]
    try:
        rule: Callable[..., Any] | None = op.joint or op.rule(argument)
        product = None if rule is None else rule(*tensors, **params)
    except ChainruleError:
        return None  # a rule of the user's that asks for values
    if op.joint is not None and product is not None:
        product = product[argument]
    return None if product is None else product._node


def _typeset_known(node: Node, known: dict[Node, Math], outer: int) -> Math:
    if node in known:
        return known[node]
    if node.op is CONST:
        return _number(node.params["value"])
    return _typeset(node, known, outer)


def _typeset(node: Node, known: dict[Node, Math], outer: int) -> Math:
    """The op on its operands, in parentheses where the precedence around it asks for them."""
    name = name_of(node)
    if name in _SAME and node.inputs:
        return _typeset_known(node.inputs[0], known, outer)
    if name in _INFIX:
        sign, precedence = _INFIX[name]
        a, b = (_typeset_known(x, known, precedence + i) for i, x in enumerate(node.inputs))
        inner = row(a, mo(sign), b) if sign else row(a, mo("\u2062"), b)
        return row(mo("("), inner, mo(")")) if precedence < outer else inner
    special = _SPECIAL.get(name)
    if special is not None:
        return special(node, [partial(_typeset_known, x, known) for x in node.inputs], outer)
    parts = [_typeset_known(x, known, 0) for x in sources(node)]
    if not parts:
        return mi(name)
    return call(_FUNCTIONS.get(name, name), *parts)


def call(name: str, *arguments: Math) -> Math:
    """A function applied to its arguments."""
    inside: list[Math] = []
    for position, argument in enumerate(arguments):
        inside += [mo(",")] * bool(position) + [argument]
    return row(mi(name), mo("\u2061"), mo("("), *inside, mo(")"))


def _number(value: Any) -> Math:
    return mn(f"{value:.6g}".replace("-", MINUS) if isinstance(value, (int, float)) else str(value))


Operands = list[Callable[[int], Math]]


def _negative(node: Node, parts: Operands, outer: int) -> Math:
    inner = row(mo(MINUS), parts[0](20))
    return row(mo("("), inner, mo(")")) if outer % 10 else inner  # at the left of a product it needs none


def _power(node: Node, parts: Operands, outer: int) -> Math:
    return ["msup", parts[0](30), parts[1](0)]


def _cases(node: Node, parts: Operands, outer: int) -> Math:
    lines = [
        ["mtr", ["mtd", parts[1](0)], ["mtd", row(["mtext", "if "], parts[0](0))]],
        ["mtr", ["mtd", parts[2](0)], ["mtd", ["mtext", "otherwise"]]],
    ]
    inner = row(mo("{"), ["mtable", *lines])
    return row(mo("("), inner, mo(")")) if outer > 10 else inner


def _transposed(node: Node, parts: Operands, outer: int) -> Math:
    return ["msup", parts[0](30), mi("T")]


def _summed(node: Node, parts: Operands, outer: int) -> Math:
    return row(["mo", {"largeop": "true"}, "∑"], parts[0](20))


_SPECIAL: dict[str, Callable[[Node, Operands, int], Math]] = {
    "neg": _negative,
    "pow": _power,
    "where": _cases,
    "permute": _transposed,
    "sum": _summed,
    "div": lambda node, parts, outer: ["mfrac", parts[0](0), parts[1](0)],
    "sqrt": lambda node, parts, outer: ["msqrt", parts[0](0)],
    "rsqrt": lambda node, parts, outer: ["mfrac", mn("1"), ["msqrt", parts[0](0)]],
    "exp": lambda node, parts, outer: ["msup", mi("e"), parts[0](0)],
    "abs": lambda node, parts, outer: row(mo("|"), parts[0](0), mo("|")),
    "bitwise_not": lambda node, parts, outer: row(mo("¬"), parts[0](30)),
    "take": lambda node, parts, outer: ["msub", parts[0](30), row(*[p(0) for p in parts[1:]])],
    "put_add": lambda node, parts, outer: call("scatter", parts[1](0)),
}
