"""No module imports itself on a way round, at import or inside a function: what two need stands below both."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import chainrule

SOURCE = Path(chainrule.__file__).parent.parent


def modules(folder: Path) -> dict[str, Path]:
    """The file of each module below a folder, by dotted name."""
    files = sorted(folder.rglob("*.py"))
    return {".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


parsed = cache(ast.parse)  # every file is looked at twice


def imports(tree: ast.AST, types: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import statement, however deep; those for the type checker alone if asked for."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif types or not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from imports(node, types)


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The names that a statement imports, each with its module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert not node.level, "imports name their module in full"
    return [f"{node.module}.{alias.name}" for alias in node.names]


def graph(folder: Path, types: bool = False) -> dict[str, set[str]]:
    """By module, the modules that it imports."""
    files = modules(folder)
    found: dict[str, set[str]] = {name: set() for name in files}
    for name, file in files.items():
        for node in imports(parsed(file.read_text(encoding="utf-8")), types):
            for target in imported(node):
                module = target if target in files else target.rpartition(".")[0]
                if module in files and module != name:
                    found[name].add(module)
    return found


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """One way round, if there is any."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_module_imports_itself_on_a_way_round():
    assert not circle(graph(SOURCE))


def may_name(module: str, other: str) -> bool:
    """May a module name, for the type checker alone, what imports it?

    The methods of Tensor are spread over the files of its room, and give tensors. A callback is handed the trainer.
    """
    within = module.startswith("chainrule.tensor.") and other.startswith("chainrule.tensor")
    callback = module == "chainrule.training.fitting" or module.startswith("chainrule.training.callbacks.")
    return within or (callback and other == "chainrule.training.trainer")


def test_nor_does_one_name_for_the_type_checker_what_imports_it():
    edges, named = graph(SOURCE), graph(SOURCE, types=True)
    assert not circle(
        {name: {to for to in named[name] if to in edges[name] or not may_name(name, to)} for name in named}
    )


@pytest.mark.parametrize(
    "back", ["from package import a", "def late():\n    from package.a import x", "class C:\n    import package.a"]
)
def test_a_way_round_is_found(tmp_path: Path, back: str):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("import package.b\nx = 1")
    (package / "b.py").write_text("from package.c import y")
    (package / "c.py").write_text(f"y = 1\n{back}")
    assert set(circle(graph(tmp_path))) == {"package.a", "package.b", "package.c"}
    (package / "c.py").write_text("from typing import TYPE_CHECKING\ny = 1\nif TYPE_CHECKING:\n    import package.a")
    assert not circle(graph(tmp_path))
    assert circle(graph(tmp_path, types=True))
