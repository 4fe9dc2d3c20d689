"""The pages that are made when the site is built: the API, and the changes (a hook of MkDocs; mkdocs.yml names it).

Nothing is written into the tree. Every public name of a module's ``__all__`` has a place on the module's page, by the file that it
comes from; mkdocstrings puts its docstring there.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import chainrule as cr


@dataclass(frozen=True)
class Room:
    """A place that users import from, and what its page says at the top."""

    module: str
    title: str
    text: str
    results: tuple[str, ...] = ()  # what functions and methods of the room give back, by where it stands

    @property
    def path(self) -> str:
        return f"api/{self.module.removeprefix('chainrule.')}.md"


ROOMS = (
    Room("chainrule", "chainrule", "`import chainrule as cr`: tensors and their functions, derivatives, compiling, training.",
         ("training.swept.Sweep", "deploy.bundle.Bundle", "explain.check.GradientReport", "explain.flow.Flow")),
    Room("chainrule.nn", "nn", "`from chainrule import nn`: layers, losses and containers."),
    Room("chainrule.nn.functional", "nn.functional", "`import chainrule.nn.functional as F`: the formulas behind the layers."),
    Room("chainrule.nn.init", "nn.init", "`from chainrule.nn import init`: starting values of parameters."),
    Room("chainrule.nn.utils", "nn.utils", "`from chainrule.nn import utils`: what is done to all parameters at once."),
    Room("chainrule.nn.utils.rnn", "nn.utils.rnn", "`from chainrule.nn.utils import rnn`: sequences of several lengths."),
    Room("chainrule.optim", "optim", "`from chainrule import optim`: the optimizers."),
    Room("chainrule.optim.lr_scheduler", "optim.lr_scheduler", "`from chainrule.optim import lr_scheduler`: learning rates over time."),
    Room("chainrule.training", "training", "`from chainrule import training`: the trainer, what it measures, what it keeps.", ("training.exact.Exact", "training.recipe.Recipe", "training.recipe.recipe", "training.recipe.built")),
    Room("chainrule.callbacks", "callbacks", "`from chainrule.callbacks import EarlyStopping`: what runs beside a training."),
    Room("chainrule.data", "data", "`cr.data`: sources, tables and the bundled set."),
    Room("chainrule.data.table", "data.table", "`from chainrule.data import table`: what columns are, splits, columns that give the target away."),
    Room("chainrule.utils.data", "utils.data", "`from chainrule.utils.data import DataLoader`: PyTorch's datasets and loaders."),
    Room("chainrule.sklearn", "sklearn", "`from chainrule.sklearn import MLPClassifier`: estimators (`pip install 'chainrule[sklearn]'`)."),
    Room("chainrule.onnx", "onnx", "`cr.onnx`: models for other runtimes (`pip install 'chainrule[onnx]'`)."),
    Room("chainrule.explain", "explain", "`from chainrule import explain`: looking back at a training that was recorded.",
         ("explain.derivation.Derivation", "explain.ledger.Ledger", "explain.whatif.WhatIf", "explain.difference.Difference",
          "explain.birth.Birth", "explain.diagnosis.Diagnosis", "explain.diagnosis.Finding", "explain.diagnosis.Experiment",
          "explain.verify.Verification")),
    Room("chainrule.errors", "errors", "`from chainrule import errors`: what is raised; all of them are `ChainruleError`."),
)  # fmt: skip

# What the names of a file have in common; a file that is not named here gives its own name.
TITLES = {
    "chainrule.autodiff.custom": "A derivative of your own",
    "chainrule.autodiff.transforms": "Derivatives of functions",
    "chainrule.compiler.compile": "Compiling",
    "chainrule.compiler.runtime.threads": "Threads",
    "chainrule.control.scan": "Loops",
    "chainrule.deploy.bundle": "Saving and deploying",
    "chainrule.deploy.making": "Saving and deploying",
    "chainrule.deploy.model": "Saving and deploying",
    "chainrule.deploy.saving": "Saving and deploying",
    "chainrule.devices": "Devices",
    "chainrule.dtypes": "Types of numbers",
    "chainrule.errors": "Errors",
    "chainrule.explain.check": "Checking gradients",
    "chainrule.explain.flow": "The flow of gradients",
    "chainrule.explain.runs": "Explaining",
    "chainrule.graph": "The graph",
    "chainrule.nn.functional.activations": "Activations",
    "chainrule.nn.functional.classification": "Losses of classes",
    "chainrule.nn.functional.pieces": "More activations",
    "chainrule.nn.likelihoods": "Likelihoods and distances",
    "chainrule.nn.margins": "Losses with margins",
    "chainrule.nn.functional.margins": "Losses with margins",
    "chainrule.nn.module": "The module",
    "chainrule.nn.recurrent": "Recurrent layers",
    "chainrule.nn.scaled": "Scaled layers",
    "chainrule.tensor.arithmetic": "Arithmetic",
    "chainrule.tensor.creation": "Making tensors",
    "chainrule.tensor.functions": "Joining tensors",
    "chainrule.tensor.grad_mode": "Gradients on and off",
    "chainrule.tensor.indexing": "Picking and placing",
    "chainrule.tensor.pointwise": "Functions of each element",
    "chainrule.tensor.products": "Products",
    "chainrule.tensor.random": "Random numbers",
    "chainrule.tensor.reductions": "Reductions",
    "chainrule.tensor.shaping": "Shapes",
    "chainrule.tensor.tensor": "The tensor",
    "chainrule.training.halving": "Many trainings at once",
    "chainrule.training.sweeping": "Many trainings at once",
    "chainrule.training.trainer": "Training",
}
FIRST = ("Training", "Many trainings at once", "Saving and deploying", "Compiling", "Derivatives of functions")
# Modules without a list of their own that show the classes of a file; the functions beside them are helpers.
FRONTS = {"chainrule.callbacks": "chainrule.training.callbacks", "chainrule.errors": "chainrule.errors"}
LARGE = 30  # from so many names on, a page has headings
FULL = {"Callback", "Tensor", "Trainer"}  # with what they inherit, which is theirs to a reader


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs: the pages join those that are files."""
    for room in ROOMS:
        files.append(File.generated(config, room.path, content=page(room)))
    changes = (Path(config.config_file_path).parent / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changes.md", content=changes.replace("](docs/", "](")))
    return files


def page(room: Room) -> str:
    """A room's page as Markdown, with a directive of mkdocstrings for each name that has a text."""
    module = importlib.import_module(room.module)
    found = {name: getattr(module, name) for name in names(module)}
    told = {name: value for name, value in found.items() if documented(value)}
    plain = [f"| `{name}` | {row(value)} |" for name, value in found.items() if name not in told]
    parts = [f"# {room.title}", room.text]
    if plain:
        parts.append("\n".join(["| name | is |", "|---|---|", *plain]))
    for heading, members in grouped(told).items():
        parts += [f"## {heading}"] if len(told) >= LARGE else []
        parts += [directive(f"{room.module}.{name}") for name in members]
    parts += ["## What comes back"] if room.results else []
    parts += [directive(f"chainrule.{name}") for name in room.results]
    return "\n\n".join(parts) + "\n"


def names(module: ModuleType) -> list[str]:
    """The public names: of ``__all__``, or of the file that the module is or stands for."""
    shown = importlib.import_module(FRONTS.get(module.__name__, module.__name__))
    if hasattr(shown, "__all__"):
        return list(shown.__all__)
    own = [name for name, value in vars(shown).items() if getattr(value, "__module__", "") == shown.__name__]
    helpers = dict(inspect.getmembers(shown, inspect.isfunction)) if module.__name__ in FRONTS else ()
    return [name for name in own if not name.startswith("_") and name not in helpers]


def documented(value: Any) -> bool:
    return inspect.isfunction(value) or inspect.isclass(value)


def grouped(found: dict[str, Any]) -> dict[str, list[str]]:
    """The names by what those of a file have in common, the most asked for first."""
    groups: dict[str, list[str]] = {}
    for name, value in found.items():
        groups.setdefault(title(value.__module__), []).append(name)
    return dict(
        sorted(groups.items(), key=lambda group: (FIRST.index(group[0]) if group[0] in FIRST else len(FIRST), group[0]))
    )


def title(home: str) -> str:
    return TITLES.get(home, home.rpartition(".")[2].replace("_", " ").capitalize())


def row(value: Any) -> str:
    """What a name is that has no docstring of its own: a number, a type of numbers, another room."""
    if isinstance(value, ModuleType):
        page = next((room.path.removeprefix("api/") for room in ROOMS if room.module == value.__name__), None)
        return f"the module [{value.__name__}]({page})" if page else f"the module `{value.__name__}`"
    if isinstance(value, dict):
        return ", ".join(f"`{key}`" for key in value)
    return f"a `{type(value).__name__}`" if isinstance(value, cr.Generator) else f"`{value!r}`"


def directive(path: str) -> str:
    lines = [f"::: {path}"]
    if path.rpartition(".")[2] in FULL:
        lines += ["    options:", "      inherited_members: true"]
    return "\n".join(lines)
