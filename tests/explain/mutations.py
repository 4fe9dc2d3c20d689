"""Mutations of the derivative rules' own source: what a slip of the pen makes of them.

Every operator, comparison, number, name, method and branch of a rule (and of the helpers it calls) is exchanged for
others in turn, one at a time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any

from tests.explain.wrong_rules import Wrong

from chainrule import ops
from chainrule.ops import contraction, convolution, elementwise, indexing, reduction, shaping

OPERATORS = [ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.FloorDiv]
COMPARISONS = [ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq]
METHODS = {
    "sin": ["cos"], "cos": ["sin"], "exp": ["expm1"], "log": ["log1p", "exp"], "sign": ["abs"], "sum": ["amax", "mean"],
    "where": ["masked_fill"], "masked_fill": ["where"], "_put_add": ["_put"], "_put": ["_put_add"],
}  # fmt: skip
HELPERS = {
    reduction: ["_spread", "_share"], shaping: ["_unslice", "inverse_permutation", "_fold"],
    convolution: ["_by_input", "_by_weight", "_exchanged"],
}  # fmt: skip
# Rules that stand behind a choice of argument: the function they stand in, and whose they are.
CHOSEN = {indexing: ("_rule", [("put", 1), ("put_add", 1)]), shaping: ("_part", [("cat", 1), ("cat", 2)])}


def mutations() -> Iterator[Wrong]:
    """All of them; `what` is the mutated source."""
    for module in (elementwise, reduction, shaping, contraction, convolution, indexing):
        with open(module.__file__) as file:
            tree = ast.parse(file.read())
        names = HELPERS.get(module, [])
        functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in names}
        helpers = {helper: ast.unparse(function) for helper, function in functions.items()}
        for name, argument, rule in _declared(module, tree):
            right = ast.unparse(rule)
            for changed in _mutated(rule):
                yield _made(module, name, argument, changed, helpers, changed)
            for helper, function in functions.items():
                if helper in right or (helper == "_spread" and "_share" in right):
                    for changed in _mutated(function):
                        yield _made(module, name, argument, right, {**helpers, helper: changed}, changed)


def _declared(module: ModuleType, tree: ast.Module) -> Iterator[tuple[str, int, ast.Lambda]]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("Op", "_op"):
            name = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
            if name in ops.ALL:
                rules = call.args[3:] if call.func.id == "_op" else _of_keyword(call)
                yield from ((name, i, r) for i, r in enumerate(rules) if isinstance(r, ast.Lambda))
    function, users = CHOSEN.get(module, ("", []))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            rule = next(n for n in ast.walk(node) if isinstance(n, ast.Lambda))
            yield from ((name, argument, rule) for name, argument in users)


def _of_keyword(call: ast.Call) -> list[ast.expr]:
    value = next((keyword.value for keyword in call.keywords if keyword.arg == "vjp"), None)
    if isinstance(value, ast.Tuple):
        return value.elts
    if isinstance(value, ast.Call):  # _rule(for_base)
        return value.args
    if isinstance(value, ast.Lambda) and isinstance(value.body, ast.IfExp):  # lambda i: rule if i == 0 else None
        return [value.body.body]
    return []


def _mutated(tree: Any) -> Iterator[str]:
    """The source with one node exchanged, each time another."""
    names = [argument.arg for argument in tree.args.args]
    for parent in list(ast.walk(tree)):
        for field, value in list(ast.iter_fields(parent)):
            for place, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(node, ast.AST):
                    for new in list(_variants(node, names)):
                        yield _exchanged(tree, parent, field, place, new)


def _exchanged(tree: ast.AST, parent: ast.AST, field: str, place: int | None, new: ast.AST) -> str:
    """The source of the tree with `new` in this place; afterwards the tree is as it was."""
    held, key = (vars(parent), field) if place is None else (getattr(parent, field), place)
    old, held[key] = held[key], new
    try:
        return ast.unparse(tree)
    finally:
        held[key] = old


def _variants(node: ast.AST, names: list[str]) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp):
        yield from (ast.BinOp(node.left, op(), node.right) for op in OPERATORS if not isinstance(node.op, op))
        yield from (node.left, node.right, ast.BinOp(node.right, node.op, node.left))
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BoolOp):
        yield from node.values
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.Compare):
        others = (op for op in COMPARISONS if not isinstance(node.ops[0], op))
        yield from (ast.Compare(node.left, [op()], node.comparators) for op in others)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        numbers = {node.value + 1, node.value - 1, node.value * (1 + 1e-6), -node.value} - {node.value}
        yield from map(ast.Constant, sorted(numbers))
    elif isinstance(node, ast.Name) and node.id in names:
        yield from (ast.Name(name, ast.Load()) for name in names if name != node.id)
    elif isinstance(node, ast.Attribute) and node.attr == "mT":
        yield node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield node.func.value
        for method in METHODS.get(node.func.attr, []):
            yield ast.Call(ast.Attribute(node.func.value, method, ast.Load()), node.args, node.keywords)
        if len(node.args) == 2:
            yield ast.Call(node.func, node.args[::-1], node.keywords)


def _made(module: ModuleType, name: str, argument: int, rule: str, helpers: dict[str, str], shown: str) -> Wrong:
    """The rule, in a copy of its module that has these helpers."""
    around: dict[str, Any] = {**vars(module), "i": argument}
    for function in helpers.values():
        exec(_code(function, "exec"), around)
    return Wrong(name, argument, shown, eval(_code(rule, "eval"), around))


@lru_cache(maxsize=64)
def _code(source: str, mode: str) -> CodeType:
    return compile(source, "<a slip of the pen>", mode)
