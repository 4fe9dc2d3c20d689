"""Draw the pictures of docs/gallery.md, each of a training that runs here: python docs/make_gallery.py

Needs matplotlib. One seed gives one picture; colours are such that they can be read on light and on dark ground.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

import chainrule as cr
from chainrule import nn

FOLDER = Path(__file__).with_name("images") / "gallery"
GREY, BLUE, ORANGE, GREEN = "#888888", "#4c8dd6", "#e07b39", "#3fa66a"
STYLE = {
    "axes.edgecolor": GREY, "axes.labelcolor": GREY, "axes.spines.right": False, "axes.spines.top": False,
    "axes.titlecolor": GREY, "axes.titlesize": 10, "figure.constrained_layout.use": True, "font.size": 9,
    "legend.frameon": False, "legend.labelcolor": GREY, "savefig.transparent": True, "svg.hashsalt": "chainrule",
    "text.color": GREY, "xtick.color": GREY, "ytick.color": GREY,
}  # fmt: skip


def network(*sizes: int, activation: Callable[[], nn.Module] = nn.ReLU, dropout: float = 0.0) -> nn.Sequential:
    """A multilayer perceptron; the same weights each time."""
    cr.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers[: -2 if dropout else -1])


def curves() -> Figure:
    """Training and validation loss, with dropout and without."""
    X, y = cr.data.load("digits").train
    figure, axes = pyplot.subplots(1, 2, figsize=(7, 2.8), sharey=True)
    for axis, dropout in zip(axes, (0.0, 0.5), strict=True):
        trainer = cr.Trainer(network(64, 128, 128, 10, dropout=dropout), "cross_entropy", "adam", lr=2e-3)
        history = trainer.fit(X, y, epochs=60, validation_split=0.3, progress=False)
        epochs = range(1, history.epochs + 1)
        axis.semilogy(epochs, history["loss"], color=BLUE, label="training")
        axis.semilogy(epochs, history["val_loss"], color=ORANGE, label="validation")
        axis.set(title=f"dropout {dropout:g}", xlabel="epoch")
    axes[0].set_ylabel("loss")
    axes[0].legend()
    return figure


def boundary() -> Figure:
    """What a network of 2-32-32-2 says of each point of the plane, as it trains."""
    X, y = moons(400)
    trainer = cr.Trainer(network(2, 32, 32, 2), "cross_entropy", "adam", lr=5e-3)
    side = np.linspace(-1.8, 2.8, 120, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    figure, axes = pyplot.subplots(1, 3, figsize=(7, 2.5))
    for axis, epochs in zip(axes, (2, 10, 100), strict=True):
        trainer.fit(X, y, epochs=epochs, batch_size=32, progress=False, resume=epochs > 2)
        yes = trainer.predict_proba(grid)[:, 1].reshape(len(side), len(side))
        extent = (side[0], side[-1], side[0], side[-1])
        axis.imshow(yes, extent=extent, origin="lower", cmap="RdYlBu", alpha=0.55, vmin=0, vmax=1, aspect="auto")
        axis.contour(yes, levels=[0.5], extent=extent, colors="#333333", linewidths=1)
        axis.scatter(*X.T, c=np.where(y == 1, "#1f4e9c", "#a63d12"), s=4)
        axis.set(title=f"epoch {epochs}", xticks=[], yticks=[])
    return figure


def moons(rows: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Two half circles that reach into one another."""
    rng = np.random.default_rng(0)
    angle, y = rng.uniform(0, np.pi, rows), np.arange(rows) % 2
    X = np.where(y == 0, [np.cos(angle), np.sin(angle)], [1 - np.cos(angle), 0.5 - np.sin(angle)])
    return (X.T + 0.15 * rng.normal(size=(rows, 2))).astype(np.float32), y


def flow() -> Figure:
    """The norm of each layer's gradient at the first step, from the last layer back to the first."""
    X, y = cr.data.load("digits").train
    kinds = {"sigmoid": (nn.Sigmoid, BLUE), "tanh": (nn.Tanh, GREEN), "ReLU": (nn.ReLU, ORANGE)}
    figure, axis = pyplot.subplots(figsize=(7, 2.8))
    for name, (activation, colour) in kinds.items():
        trainer = cr.Trainer(network(64, *[64] * 9, 10, activation=activation), "cross_entropy", "adam")
        trainer.fit(X, y, epochs=1, progress=False, record=True)
        gradients = trainer.run.at(0).gradients
        norms = [float(np.linalg.norm(found)) for key, found in gradients.items() if key.endswith("weight")]
        axis.semilogy(range(1, len(norms) + 1), norms, color=colour, marker="o", markersize=4, label=name)
    axis.set(xlabel="layer", ylabel="norm of the gradient", xticks=range(1, 11))
    axis.legend()
    return figure


def first_layer() -> Figure:
    """The weights of sixteen units of the first layer of a network that reads digits, as images."""
    model = network(64, 16, 10)
    trainer = cr.Trainer(model, "cross_entropy", "adam", lr=5e-3)
    trainer.fit(*cr.data.load("digits").train, epochs=60, progress=False)
    weights = model.state_dict()["0.weight"].numpy()
    figure, axes = pyplot.subplots(2, 8, figsize=(7, 1.9))
    for axis, unit in zip(axes.flat, weights, strict=True):
        top = float(abs(unit).max())
        axis.imshow(unit.reshape(8, 8), cmap="RdBu", vmin=-top, vmax=top)
        axis.set_axis_off()
    return figure


def rates() -> Figure:
    """The validation loss of five seeds at each of nine learning rates: 45 trainings of one sweep."""

    def build(lr: float, seed: int) -> cr.Trainer:
        cr.manual_seed(seed)
        return cr.Trainer(
            nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), "cross_entropy", "adam", lr=lr
        )

    tried = [float(rate) for rate in np.logspace(-4, -0.5, 9)]
    X, y = cr.data.load("digits").train
    sweep = cr.sweep(build, {"lr": tried, "seed": [*range(5)]}, X, y, epochs=20, validation_split=0.3, threads=1)
    losses = np.array([history["val_loss"][-1] for history in sweep.histories]).reshape(len(tried), -1)
    figure, axis = pyplot.subplots(figsize=(7, 2.8))
    axis.loglog(tried, losses, ".", color=BLUE, markersize=5)
    axis.loglog(tried, np.median(losses, axis=1), color=ORANGE, label="median of 5 seeds")
    axis.set(xlabel="learning rate", ylabel="validation loss")
    axis.legend()
    return figure


def quantiles() -> Figure:
    """Three quantiles of a target whose spread grows, by a loss of one's own."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 6, (1500, 1)), axis=0).astype(np.float32)
    y = (np.sin(x) + (0.05 + 0.12 * x) * rng.normal(size=x.shape)).astype(np.float32)
    shares = cr.tensor([0.1, 0.5, 0.9])

    def pinball(output: cr.Tensor, target: cr.Tensor) -> cr.Tensor:
        error = target - output  # (rows, 3): one output for each quantile
        return cr.maximum(shares * error, (shares - 1) * error).mean()

    trainer = cr.Trainer(network(1, 64, 64, 3, activation=nn.Tanh), pinball, "adam", lr=5e-3, output="values")
    trainer.fit(x, y, epochs=200, progress=False)
    low, middle, high = trainer.predict(x).T
    figure, axis = pyplot.subplots(figsize=(7, 2.8))
    axis.plot(x, y, ".", color=GREY, markersize=2, alpha=0.6)
    axis.fill_between(x[:, 0], low, high, color=BLUE, alpha=0.35, label="80 % of the rows, predicted")
    axis.plot(x, middle, color=ORANGE, label="median, predicted")
    axis.legend()
    return figure


PICTURES = {
    "curves.svg": curves, "boundary.png": boundary, "flow.svg": flow, "first_layer.png": first_layer, "rates.svg": rates,
    "quantiles.png": quantiles,
}  # fmt: skip


def draw(folder: Path, names: Iterable[str] = tuple(PICTURES)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with pyplot.rc_context(STYLE):
            figure = PICTURES[name]()
            dated = {"metadata": {"Date": None}} if name.endswith("svg") else {"metadata": {"Software": None}}
            figure.savefig(folder / name, dpi=130, **dated)
            pyplot.close(figure)


if __name__ == "__main__":
    draw(FOLDER)
