"""What a model is made of: a table of its layers, their outputs and their parameters."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chainrule.control.loop import times
from chainrule.errors import SettingError, kind_of
from chainrule.graph import Node, subgraphs, toposort
from chainrule.names import takes_keywords
from chainrule.nn.module import Module
from chainrule.ops import convolution
from chainrule.tensor import Tensor
from chainrule.tensor.core import lifted
from chainrule.tensor.creation import zeros

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Row:
    """One layer of the table."""

    name: str  # dotted path; empty for the model itself
    kind: str
    depth: int
    output: str  # shape of what it returned last; a dash where it was not called
    parameters: int  # its own, not those of the layers inside it


@dataclass(frozen=True)
class Summary:
    """The table of `summary`: print it, or read its fields."""

    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    megabytes: float  # parameters and buffers
    multiply_adds: int  # of the matrix products of one forward pass

    def __rich__(self) -> Group:
        from rich import box
        from rich.console import Group
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("layer", no_wrap=True)
        table.add_column("output shape", no_wrap=True)
        table.add_column("parameters", justify="right", no_wrap=True)
        for row in self.rows:
            own = row.name.rpartition(".")[2]
            label = "  " * row.depth + (f"{own}: {row.kind}" if own else row.kind)
            table.add_row(label, row.output, f"{row.parameters:,}" if row.parameters else "")
        return Group(table, self._totals())

    def _totals(self) -> str:
        return (
            f"{self.parameters:,} parameters, {self.trainable:,} of them trainable, {self.megabytes:.3g} MB\n"
            f"{self.multiply_adds:,} multiply-adds in one forward pass"
        )

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=100, color_system=None).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").split("\n"))


@takes_keywords("nn")
def summary(model: Module, *inputs: Tensor | tuple[int, ...] | list[int]) -> Summary:
    """Run the model once, in evaluation mode, and describe its layers.

    Args:
        model: any module.
        inputs: for each argument of its forward a tensor, or a shape (batch included) to fill with zeros.

    Returns:
        A `Summary`; printing it shows the table.

    Raises:
        SettingError: no module; no input, or one that is neither a tensor nor a shape.

    Example:
        >>> from chainrule import nn
        >>> print(nn.summary(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), (5, 4)))
          layer         output shape   parameters
         ─────────────────────────────────────────
          Sequential    (5, 8)
            0: Linear   (5, 8)                 40
            1: ReLU     (5, 8)
        40 parameters, 40 of them trainable, 0.00016 MB
        160 multiply-adds in one forward pass
    """
    if not isinstance(model, Module):
        held = getattr(model, "model", None)
        remedy = "Pass its model" if isinstance(held, Module) else "Pass the module"
        raise SettingError(f"summary: model must be an nn.Module, got {kind_of(model)}. {remedy}.")
    if not inputs:
        raise SettingError("summary: needs an input or its shape, got none. Write summary(model, (1, 784)).")
    parameters = list(model.parameters())
    outputs: dict[Module, Any] = {}
    with _in_evaluation(model), recorded(model, outputs):
        result = model(*[_as_input(given, model) for given in inputs])
    held = [*parameters, *model.buffers()]
    return Summary(
        tuple(_row(name, module, outputs) for name, module in model.named_modules()),
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        megabytes=sum(t.numel() * t.dtype.itemsize for t in held) / 1e6,
        multiply_adds=_multiply_adds(result),
    )


def _as_input(given: Any, model: Module) -> Tensor:
    """A tensor without history that records what is computed from it, for the count of multiply-adds."""
    if isinstance(given, Tensor):
        tensor = given.detach().clone()
    elif isinstance(given, (tuple, list)) and all(isinstance(size, int) for size in given):
        floating = (p.dtype for p in model.parameters() if p.dtype.is_floating_point)
        tensor = zeros(*given, dtype=next(floating, None))
    else:
        raise SettingError(f"summary: an input must be a tensor or a shape, got {given!r}.")
    return tensor.requires_grad_() if tensor.dtype.is_floating_point else tensor


@contextmanager
def _in_evaluation(model: Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def recorded(model: Module, outputs: dict[Module, Any]) -> Iterator[None]:
    """Keep what every module's forward returns, by a forward of its own for the time being."""
    before = {module: module.__dict__.get("forward") for module in model.modules()}
    try:
        for module in before:
            object.__setattr__(module, "forward", _recording(module, module.forward, outputs))
        yield
    finally:
        for module, own in before.items():
            module.__dict__.pop("forward", None)
            if own is not None:
                object.__setattr__(module, "forward", own)


def _recording(module: Module, forward: Any, outputs: dict[Module, Any]) -> Any:
    def recorded(*args: Any, **kwargs: Any) -> Any:
        outputs[module] = forward(*args, **kwargs)
        return outputs[module]

    return recorded


def _row(name: str, module: Module, outputs: dict[Module, Any]) -> Row:
    own = sum(p.numel() for p in module.parameters(recurse=False))
    depth = name.count(".") + 1 if name else 0
    output = _shapes(outputs[module]) if module in outputs else "-"
    return Row(name, type(module).__name__, depth, output, own)


def _shapes(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(value.shape)
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_shapes, value))
    return type(value).__name__


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, (tuple, list)) else []


def _multiply_adds(result: Any) -> int:
    """Each element of a matrix product costs as many as the axis that is summed is long."""
    return _counted(toposort(map(lifted, _tensors(result))))


def _terms(node: Node) -> int:
    """How many products are summed for each element: along an axis, or over a window of all channels."""
    left, right = node.inputs
    return math.prod(right.shape[1:-1]) if node.op is convolution.conv else left.shape[-1]


def _counted(nodes: list[Node]) -> int:
    total = 0
    for node in nodes:
        if node.op.kind == "contraction":
            total += math.prod(node.shape) * _terms(node)
        total += sum(_counted(region.nodes()) for region in subgraphs(node)) * times(node)
    return total
