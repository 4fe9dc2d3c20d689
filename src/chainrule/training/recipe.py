"""The tabular recipe: one dict of settings that were tuned once, on many tables, so that yours need no tuning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.data.scaling import ONE_HOT
from chainrule.errors import SettingError, unknown_name
from chainrule.nn import Module
from chainrule.optim.lr_scheduler import CosLogLR
from chainrule.tensor.random import Generator, drawing_from
from chainrule.training.callbacks import EarlyStopping
from chainrule.training.monitor import as_count, as_number
from chainrule.training.realmlp import Arranged, Blend, FadingAdamW, FadingDropout, Inputs, initialize
from chainrule.training.trainer import Trainer

TASKS = ("classification", "regression")
EPOCHS = 256  # as published, and the fewest that were tried with an early end


@dataclass(frozen=True)
class Layout:
    """What the columns of the inputs are: `numbers` first, then others (`plain`), then the class numbers of categories.

    Attributes:
        sizes: how many categories each of the last columns has.
        arranged: brings the rows into that order first, where they come in another one.
    """

    numbers: int
    plain: int = 0
    sizes: tuple[int, ...] = ()
    arranged: Arranged | None = None

    @property
    def columns(self) -> int:
        """All of them."""
        return self.numbers + self.plain + len(self.sizes)


@dataclass(frozen=True)
class Recipe:
    """RealMLP-TD-S, or the full RealMLP-TD: what it sets, for one task.

    Attributes:
        task: ``"classification"`` or ``"regression"``.
        activation: of the hidden layers.
        lr: of the weights; `scale_rate` and `bias_rate` multiply it for the scaling layer and the biases.
        label_smoothing: the share of each target that goes to all classes alike.
        monitor: the measure of validation by which the best epoch is kept.
        hidden: the units of each hidden layer.
        epochs, batch_size: an epoch leaves its last batch out where it is short.
        waves: of the schedule, `CosLogLR`.
        betas: of Adam.
        full: RealMLP-TD: numbers with waves of their own and categories of more than `one_hot` levels as vectors (`Inputs`),
            activations that blend in (`Blend`), weights and biases that begin as the rows say (`initialize`); what fades in the
            second half: dropout and weight decay; predictions that stay within the range of the targets.
        dropout, decay: of the full one, before they fade.
        wave_rate, blend_rate, decay_of_scale: factors for the waves, the blending, and the decay of the scaling layer.
        one_hot: levels at most that become a column each.

    Source: Holzmueller, Grinsztajn, Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular data",
    NeurIPS 2024, arXiv 2407.04491, table A.1.
    """

    task: str
    activation: str
    lr: float
    label_smoothing: float
    monitor: str
    hidden: tuple[int, ...] = (256, 256, 256)
    epochs: int = EPOCHS
    batch_size: int = 256
    waves: int = 4
    scale_rate: float = 6.0
    bias_rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    full: bool = False
    dropout: float = 0.0
    decay: float = 0.0
    wave_rate: float = 0.1
    blend_rate: float = 0.1
    decay_of_scale: float = 6.0
    one_hot: int = ONE_HOT

    def __post_init__(self) -> None:
        nn.activation_by_name(self.activation)
        for name in ("epochs", "batch_size", "waves"):
            as_count(getattr(self, name), "preset", name, 1)
        for units in self.hidden:
            as_count(units, "preset", "hidden", 1)
        for name in ("lr", "scale_rate", "bias_rate", "label_smoothing", "dropout", "decay"):
            as_number(getattr(self, name), "preset", name)
        if self.label_smoothing and self.task == "regression":
            raise SettingError(f"preset: label_smoothing is of classes, got {self.label_smoothing!r} for regression.")

    def changed(self, **settings: Any) -> Recipe:
        """The same with other settings; None leaves one as it is."""
        return replace(self, **{name: value for name, value in settings.items() if value is not None})

    # ---------------------------------------------------------------- what it makes

    def network(self, layout: Layout, outputs: int, rows: int, dtype: Any = None) -> nn.Sequential:
        """The untrained network for so many rows to train on; its random weights come from the stream in force."""
        seen = Inputs(layout.numbers, layout.plain, layout.sizes, dtype=dtype) if self.full else None
        inputs = layout.columns if seen is None else seen.features
        first = [] if layout.arranged is None else [layout.arranged]
        layers: list[Module] = [*first, *([] if seen is None else [seen]), nn.Scale(inputs, dtype=dtype)]
        for units in self.hidden:
            layers += [nn.NTKLinear(inputs, units, dtype=dtype), *self._bent(units, rows, dtype)]
            inputs = units
        return nn.Sequential(*layers, nn.NTKLinear(inputs, outputs, zero=not self.full, dtype=dtype))

    def _bent(self, units: int, rows: int, dtype: Any) -> list[Module]:
        """What follows a layer of so many units."""
        activation = nn.activation_by_name(self.activation)()
        if not self.full:
            return [activation]
        return [Blend(activation, units, dtype), FadingDropout(self.dropout, self.epochs * self.steps(rows))]

    def optimizer(self, model: Module, rows: int) -> optim.Optimizer:
        """Adam over the parameters of a network of this recipe, each kind with its rate and its decay."""
        kinds: dict[tuple[float, float], list[Any]] = {}
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                kinds.setdefault((self._rate(module, name), self._decay(module, name)), []).append(parameter)
        groups = [
            {"params": parameters, "lr": self.lr * rate, "weight_decay": self.decay * decay}
            for (rate, decay), parameters in kinds.items()
        ]
        if not self.full:
            return optim.Adam(groups, betas=self.betas)
        return FadingAdamW(groups, self.epochs * self.steps(rows), betas=self.betas)

    def _rate(self, module: Module, name: str) -> float:
        """By what the rate of a parameter is multiplied."""
        if isinstance(module, nn.Scale):
            return self.scale_rate
        if isinstance(module, (Inputs, Blend)):
            return self.wave_rate if isinstance(module, Inputs) else self.blend_rate
        return self.bias_rate if name == "bias" else 1.0

    def _decay(self, module: Module, name: str) -> float:
        """By what the decay of a parameter is multiplied, beside its rate: no bias decays, others as much as they learn."""
        if not self.full:
            return 0.0
        if isinstance(module, nn.Scale):
            return self.decay_of_scale
        return 0.0 if name == "bias" else self._rate(module, name)

    def loss(self) -> Callable[..., Any]:
        """What is minimised."""
        if self.task == "regression":
            return F.mse_loss
        return partial(F.cross_entropy, label_smoothing=self.label_smoothing)

    def trainer(self, model: Module, rows: int, metrics: tuple[Any, ...] = ()) -> Trainer:
        """A trainer of the network for so many rows to train on: its schedule goes by their steps."""
        optimizer = self.optimizer(model, rows)
        waves = CosLogLR(optimizer, self.epochs * self.steps(rows), self.waves)
        measured = self.monitor.removeprefix("val_")
        wanted = (measured, *metrics) if measured != "loss" else metrics
        return Trainer(model, self.loss(), optimizer, tuple(dict.fromkeys(wanted)), scheduler={"step": waves})

    def steps(self, rows: int) -> int:
        """Of an epoch."""
        return max(1, rows // self.batch_size)

    def stopping(self, held_out: int, early: bool = True) -> EarlyStopping:
        """Keeps the best epoch by so many rows, of equally good ones the last.

        `early`: it ends with a wave that brought no better epoch; one more right answer is none, as the best of twice as
        many epochs has that by chance. Not where there are fewer epochs than the recipe's own: on few rows, a short wave is
        some steps that nobody can judge.
        """
        early = early and self.epochs >= EPOCHS
        by_row = 1.5 / held_out if self.monitor == "val_accuracy" and early else 0.0
        ends = [self.epochs * (2**wave - 1) / (2**self.waves - 1) for wave in range(1, self.waves)] if early else []
        return EarlyStopping(self.monitor, by_row, restore_best_weights=True, ties=True, stop_at=map(math.ceil, ends))


_CLASSES = Recipe("classification", "selu", 0.04, 0.1, "val_accuracy")
_VALUES = Recipe("regression", "mish", 0.07, 0.0, "val_loss")

#: By the preset's name, then by the task.
PRESETS: Mapping[str, Mapping[str, Recipe]] = {
    "tabular": {"classification": _CLASSES, "regression": _VALUES},
    # Of probabilities more is asked than the right class: smoothed targets would bend them, and the best epoch is that of
    # the best probabilities.
    "tabular_full": {
        "classification": replace(_CLASSES, full=True, dropout=0.15, decay=0.02),
        "regression": replace(_VALUES, full=True, dropout=0.15, decay=0.02, lr=0.2),
    },
    "tabular_log_loss": {"classification": replace(_CLASSES, label_smoothing=0.0, monitor="val_loss")},
}
SETTINGS = tuple(field.name for field in fields(Recipe) if field.name != "task")


def recipe(preset: str, task: str) -> Recipe:
    """The recipe of a preset for ``"classification"`` or ``"regression"``.

    Raises:
        UnknownNameError: no preset or task of that name.

    Example:
        >>> recipe("tabular", "regression").lr
        0.07
    """
    if task not in TASKS:
        raise unknown_name("task", task, list(TASKS))
    known = {name: tasks[task] for name, tasks in PRESETS.items() if task in tasks}
    if preset not in known:
        raise unknown_name("preset", preset, list(known))
    return known[preset]


def built(
    chosen: Recipe, layout: Layout, outputs: int, X: Any, seed: int, dtype: Any = None, metrics: tuple[Any, ...] = ()
) -> Trainer:
    """An untrained network of a recipe and its trainer; the generator of the process stays as it is.

    Args:
        chosen: the recipe.
        layout: what the columns of X are.
        outputs: of the network.
        X: the rows to train on, encoded.
        seed: of the weights.
        dtype: of the weights (float32).
        metrics: what is measured beside the loss.
    """
    rows = len(X)
    with drawing_from(Generator(seed)):
        model = chosen.network(layout, outputs, rows, dtype)
    if chosen.full and rows:
        picked = np.random.default_rng(seed).permutation(rows)[: chosen.batch_size]
        initialize(model, np.asarray(X)[picked], seed)
    return chosen.trainer(model, rows, metrics)
