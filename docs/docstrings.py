"""How the docstrings become pages: an extension of griffe, which reads them for mkdocstrings (mkdocs.yml).

Examples stand below ``Example:`` or simply at the end, where Markdown would take ``>>>`` for a quotation; of ``a, b: as there`` the
parser would take b for a's type; and functions that `_function` makes of a method have a text only once they run.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
ATTRIBUTES = re.compile(r"^Attributes:\n(?:    .*\n?|\n)+", re.MULTILINE)
ENTRY = re.compile(r"^    (\w+(?:,\u00a0\w+)*): ", re.MULTILINE)
SHARED = re.compile(r"^ +\w+(?:, \w+)+: ", re.MULTILINE)
BARE = re.compile(r"(?:^>>> .*(?:\n.+)*\n*)+", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Docstrings as the source has them, made readable for the parser of Google's style."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            text = readable(obj.docstring.value)
            obj.docstring.value = ATTRIBUTES.sub(lambda found: untyped(found[0], obj), text)

    def on_module_members(self, *, mod: griffe.Module, **kwargs: Any) -> None:
        for name, member in list(mod.members.items()):
            if isinstance(member, griffe.Attribute) and str(member.value).startswith("_function("):
                mod.set_member(name, function(member, mod))


def readable(text: str) -> str:
    """Every example under ``Examples:``, and attributes that share a line joined by a space that does not part them."""
    text = BARE.sub(_indented, EXAMPLE.sub(r"\1Examples:", inspect.cleandoc(text)))
    return SHARED.sub(lambda found: found[0].replace(", ", ",\u00a0"), text)


def untyped(section: str, obj: griffe.Object) -> str:
    """The section with an empty type for what the class does not declare: the parser would give it the type before it."""
    return ENTRY.sub(lambda found: found[0] if found[1] in obj.members else f"    {found[1]} (): ", section)


def _indented(found: re.Match[str]) -> str:
    return "Examples:\n" + "".join(f"    {line}\n" for line in found[0].splitlines())


def function(made: griffe.Attribute, module: griffe.Module) -> griffe.Function:
    """The function that the name stands for once the module is imported, with its parameters and its text."""
    value = getattr(importlib.import_module(module.path), made.name)
    signature = inspect.signature(value)
    parameters = griffe.Parameters(*map(parameter, signature.parameters.values()))
    found = griffe.Function(
        made.name, lineno=made.lineno, parameters=parameters, returns=str(signature.return_annotation)
    )
    found.docstring = griffe.Docstring(readable(inspect.getdoc(value) or ""), parent=found)
    return found


def parameter(found: inspect.Parameter) -> griffe.Parameter:
    """A method's first parameter is the function's input."""
    method = found.name == "self"
    return griffe.Parameter(
        "input" if method else found.name,
        kind=griffe.ParameterKind[found.kind.name.lower()],
        default=None if found.default is found.empty else repr(found.default),
        annotation="Operand" if method else str(found.annotation),
    )
