"""Twenty-one small trainings whose bits are known; `python -m tests.bits.trainings` compares, and names those that differ.

Their rows are whole numbers and quotients of them, so that nothing but chainrule decides a bit. Where bits were meant to
change, `python -m tests.bits.trainings --write` notes the new ones.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.optim import lr_scheduler
from chainrule.tensor.core import stored

KNOWN = Path(__file__).with_name("trainings.json")
ROWS = 150  # batches of 32 and a last one of 22; of 64 and a last one of 22

Make = Callable[[], tuple[cr.Trainer, Any, Any, dict[str, Any]]]
TRAININGS: dict[str, Make] = {}


def training(make: Make) -> Make:
    """One of the trainings, by its function's name."""
    TRAININGS[make.__name__] = make
    return make


def rows(width: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Numbers from -1 to 1 in an order of no pattern, and none of them rounded by NumPy's functions."""
    count = ROWS * width
    return ((np.arange(count) * 7919 % 1009 - 504) / 512).reshape(ROWS, width).astype(dtype)


def classes(count: int) -> np.ndarray[Any, Any]:
    return np.arange(ROWS) * 31 % count


def values(width: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return rows(width, dtype)[::-1].copy()


def mlp(
    *widths: int, act: type[nn.Module] = nn.ReLU, between: Callable[[int], nn.Module] | None = None
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), *([between(b)] if between else []), act()]
    return nn.Sequential(*layers[: -2 if between else -1])


@training
def a_line_by_gradient_descent() -> Any:
    model = nn.Linear(5, 1)
    return cr.Trainer(model, "mse", optim.SGD(model.parameters(), lr=0.05)), rows(5), values(1), {}


@training
def logistic_regression_with_decay() -> Any:
    model = nn.Linear(9, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01, momentum=0.9)
    return cr.Trainer(model, "binary_cross_entropy_with_logits", optimizer), rows(9), values(1) > 0, {}


@training
def a_perceptron_by_adam() -> Any:
    return cr.Trainer(mlp(4, 32, 32, 2), "cross_entropy", "adam", lr=1e-2), rows(4), classes(2), {}


@training
def odd_widths() -> Any:
    return cr.Trainer(mlp(13, 33, 17, 7), "cross_entropy", "adam", lr=1e-2), rows(13), classes(7), {}


@training
def wide_layers() -> Any:
    options = {"batch_size": 64, "epochs": 2}
    return cr.Trainer(mlp(64, 200, 130, 10), "cross_entropy", "adamw"), rows(64), classes(10), options


@training
def float64() -> Any:
    model = mlp(6, 20, 11, 3, act=nn.Tanh).double()
    return cr.Trainer(model, "mse", "adam", lr=1e-2), rows(6, np.float64), values(3, np.float64), {}


@training
def sigmoids_by_rmsprop() -> Any:
    return cr.Trainer(mlp(6, 20, 3, act=nn.Sigmoid), "mse", "rmsprop", lr=1e-2), rows(6), values(3), {}


@training
def gelu_and_dropout() -> Any:
    model = mlp(8, 24, 24, 4, act=nn.GELU, between=lambda _: nn.Dropout(0.3))
    return cr.Trainer(model, "cross_entropy", "adam", lr=1e-2), rows(8), classes(4), {}


@training
def silu_and_batch_normalization() -> Any:
    model = mlp(8, 24, 24, 4, act=nn.SiLU, between=nn.BatchNorm1d)
    return cr.Trainer(model, "cross_entropy", "adam", lr=1e-2), rows(8), classes(4), {}


@training
def elu_and_layer_normalization() -> Any:
    model = mlp(8, 40, 24, 4, act=nn.ELU, between=nn.LayerNorm)
    return cr.Trainer(model, "cross_entropy", "adam", lr=1e-2), rows(8), classes(4), {}


@training
def softplus_and_huber() -> Any:
    return cr.Trainer(mlp(5, 16, 2, act=nn.Softplus), "huber", "adagrad", lr=1e-2), rows(5), values(2), {}


@training
def clipped_gradients() -> Any:
    model = mlp(5, 16, 2, act=nn.LeakyReLU)
    return cr.Trainer(model, "l1", optim.Adam(model.parameters(), lr=1e-2), max_norm=0.1), rows(5), values(2), {}


@training
def a_schedule_of_every_step() -> Any:
    model = mlp(5, 16, 2, act=nn.Tanh)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedule = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=10)
    return cr.Trainer(model, "mse", optimizer, scheduler={"step": schedule}), rows(5), values(2), {}


@training
def amsgrad_and_a_cosine() -> Any:
    model = mlp(5, 16, 2, act=nn.Mish)
    optimizer = optim.Adam(model.parameters(), lr=0.02, amsgrad=True)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    return cr.Trainer(model, "mse", optimizer, scheduler=schedule), rows(5), values(2), {}


@training
def embedded_numbers() -> Any:
    model = nn.Sequential(nn.Embedding(20, 6), nn.Flatten(), nn.Linear(18, 12), nn.ReLU(), nn.Linear(12, 3))
    nn.init.uniform_(model[0].weight, -1, 1)  # normal numbers come from NumPy's log, whose last bits depend on the CPU
    numbers = np.arange(ROWS * 3).reshape(ROWS, 3) * 7 % 20
    return cr.Trainer(model, "cross_entropy", "adam", lr=1e-2), numbers, classes(3), {}


@training
def an_autoencoder() -> Any:
    x = rows(50)
    model = nn.Sequential(*mlp(50, 16, 5), *mlp(5, 16, 50), nn.Sigmoid())
    return cr.Trainer(model, "mse", "adam", lr=1e-2), x, (x + 1) / 2, {}


@training
def weighed_rows_and_smoothed_labels() -> Any:
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    return cr.Trainer(mlp(5, 16, 4), loss, "adam", lr=1e-2), rows(5), classes(4), {"sample_weight": 1 + classes(3)}


@training
def attention_over_four_places() -> Any:
    return cr.Trainer(_Attention(), "cross_entropy", "adam", lr=1e-2), rows(32), classes(5), {}


@training
def one_row_at_a_time() -> Any:
    return cr.Trainer(mlp(4, 8, 2, act=nn.Tanh), "mse", "sgd", lr=1e-2), rows(4), values(2), {"batch_size": 1}


@training
def all_rows_at_once() -> Any:
    return cr.Trainer(mlp(40, 24, 1), "mse", "adam", lr=1e-2), rows(40), values(1), {"batch_size": ROWS, "epochs": 8}


@training
def a_layer_in_bfloat16() -> Any:
    return cr.Trainer(_Half(), "cross_entropy", "adam", lr=1e-2), rows(13), classes(7), {}


class _Half(nn.Module):
    """A layer in two bytes a number, between two of four; the rows of its batches are of no whole vector."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(13, 33), nn.Linear(17, 7)
        self.middle = nn.Linear(33, 17, dtype=cr.bfloat16)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        found: cr.Tensor = self.last(self.middle(self.first(x).relu().bfloat16()).relu().float())
        return found


class _Attention(nn.Module):
    """Each row is four places of eight numbers that look at each other."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(8, n) for n in (8, 8, 8, 5))

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        x = x.reshape(-1, 4, 8)
        scores = self.query(x) @ self.key(x).mT / 8**0.5
        found: cr.Tensor = self.out((scores.softmax(-1) @ self.value(x)).mean(1))
        return found


def bits(name: str) -> str:
    """A hash of the weights, buffers and losses that a training ends with."""
    cr.manual_seed(0)
    trainer, x, y, options = TRAININGS[name]()
    history = trainer.fit(x, y, **{"epochs": 3, "batch_size": 32, "progress": False, "seed": 1, **options})
    digest = hashlib.sha256()
    for key, value in trainer.model.state_dict().items():
        array = np.ascontiguousarray(stored(value))
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    digest.update(np.asarray(history["loss"], np.float64).tobytes())
    return digest.hexdigest()[:16]


def different(found: dict[str, str]) -> list[str]:
    """Those whose bits are not the known ones."""
    known = json.loads(KNOWN.read_text())
    return [name for name in found if found[name] != known.get(name)]


def main() -> None:
    found = {name: bits(name) for name in TRAININGS}
    if sys.argv[1:] == ["--write"]:
        KNOWN.write_text(json.dumps(found, indent=2) + "\n")
        return
    others = different(found)
    print(f"{len(found) - len(others)} of {len(found)} trainings have the known bits", *others, sep="\n")
    sys.exit(bool(others))


if __name__ == "__main__":
    main()
