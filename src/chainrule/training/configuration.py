"""A training from its configuration: what `chainrule train` writes to config.json."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.available import SURE, available_bytes
from chainrule.data.sources import load
from chainrule.errors import DamagedFileError, NotEnoughMemoryError, SettingError
from chainrule.files.document import Fields, parse, short
from chainrule.files.reading import read_whole
from chainrule.tensor import Tensor
from chainrule.tensor.random import Generator, drawing_from, randn_like
from chainrule.training.stretch import Batching
from chainrule.training.trainer import Trainer

_NAMES = {
    "dataset", "epochs", "batch_size", "lr", "optimizer", "hidden", "dropout", "noise", "label_smoothing",
    "schedule", "activation", "seed", "drop_last",
}  # fmt: skip
SCHEDULES = ("cosine", "waves", "constant")
MOST = 1 << 20  # bytes of a config.json


class Noise(nn.Module):
    """While training: each input with normal noise of deviation ``std`` added, so that no exact pixel is learned.

    Source: C. M. Bishop, "Training with noise is equivalent to Tikhonov regularization", Neural Computation 7 (1995).
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, input: Tensor) -> Tensor:
        """Disturb in training, pass the input through in evaluation."""
        return input + randn_like(input) * self.std if self.training else input

    def extra_repr(self) -> str:
        return f"std={self.std}"


def build(config: dict[str, Any]) -> Trainer:
    """The untrained network, its optimizer, its schedule and its loss; the generator of the process stays as it is."""
    data = load(config["dataset"])
    kind: Any = optim.by_name(config["optimizer"])
    with drawing_from(Generator(config["seed"])):
        model = network(config, data.train.X.shape[1], len(data.class_names))
    optimizer = kind(model.parameters(), lr=config["lr"])
    loss = partial(F.cross_entropy, label_smoothing=config["label_smoothing"])
    return Trainer(model, loss, optimizer, ["accuracy"], scheduler=scheduled(config, optimizer, len(data.train.y)))


def scheduled(config: dict[str, Any], optimizer: optim.Optimizer, rows: int) -> Any:
    """The schedule that a configuration names, for so many rows to train on, as `Trainer` takes it."""
    if config["schedule"] == "constant":
        return None
    if config["schedule"] == "cosine":
        return optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config["epochs"])
    steps = Batching(rows, min(config["batch_size"], rows), config["drop_last"]).steps
    return {"step": optim.lr_scheduler.CosLogLR(optimizer, config["epochs"] * steps)}


def network(config: dict[str, Any], features: int, classes: int) -> nn.Sequential:
    """The layers that a configuration names, for so many inputs and outputs."""
    activation = nn.activation_by_name(config["activation"])
    sizes = [features, *hidden_units(str(config["hidden"]))]
    _check_room(config["hidden"], [*sizes, classes])
    layers: list[nn.Module] = [Noise(config["noise"])] if config["noise"] else []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation(), nn.Dropout(config["dropout"])]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))


def _check_room(hidden: str, sizes: list[int]) -> None:
    needed, room = 4 * sum((a + 1) * b for a, b in pairwise(sizes)), available_bytes()
    if needed > SURE and room is not None and needed > room:
        raise NotEnoughMemoryError(
            f"--hidden {hidden}: the weights need {needed:,} bytes, and {room:,} are available. Use fewer units."
        )


def hidden_units(text: str) -> list[int]:
    """The sizes in ``128,64``; none at all is a linear model."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdecimal() and len(part) < 10 and int(part) > 0 for part in parts):
        raise SettingError(f"--hidden must be whole numbers of 1 or more such as 128,64, got {short(text)}.")
    return [int(part) for part in parts]


def read_config(path: Path) -> dict[str, Any]:
    """A run's config.json; every setting is what it must be, and in its range.

    Raises:
        DamagedFileError: it cannot be read, or is not a configuration.
    """
    found = _parsed(path)
    found.value.setdefault("drop_last", False)  # runs of before it was an option
    missing = _NAMES - set(found.names())
    if missing:
        raise DamagedFileError(f"{path}: the configuration lacks {', '.join(sorted(missing))}. Train again.")
    for name in ("dataset", "optimizer", "hidden", "activation"):
        found.text(name)
    found.whole("epochs", 1)
    found.whole("batch_size", 1)
    found.whole("seed", 0, 2**64 - 1)
    found.number("lr")
    found.flag("drop_last")
    for name, most in (("dropout", 1.0), ("label_smoothing", 1.0), ("noise", math.inf)):
        if not 0 <= found.number(name) <= most:
            found.refuse(name, f"a number from 0 to {most:g}" if most < math.inf else "0 or more", found.number(name))
    if found.text("schedule") not in SCHEDULES:
        found.refuse("schedule", " or ".join(map(repr, SCHEDULES)), found.text("schedule"))
    return found.value


def _parsed(path: Path) -> Fields:
    try:
        return Fields(
            parse(read_whole(path, "a configuration", MOST), str(path)), str(path), "Correct it, or train again."
        )
    except DamagedFileError as error:
        why = str(error).removeprefix(f"{path}: ")
        raise DamagedFileError(f"{path}: not a readable configuration: {why}") from None
