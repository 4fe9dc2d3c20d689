"""What the full RealMLP recipe has beyond the simple one: layers, how they begin, and how dropout and weight decay fade."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.dtypes import float64, int64
from chainrule.nn.functional.layers import probability
from chainrule.optim.state import Group
from chainrule.tensor import Tensor
from chainrule.tensor.creation import arange, tensor, zeros
from chainrule.tensor.functions import cat, no_grad
from chainrule.tensor.random import rand, rand_like, randn

Array = np.ndarray[Any, Any]
VARIES = 1e-6  # of its size: a unit whose outputs differ by less gives all rows the same
HALF = 0.5  # of a training, from where on dropout and decay fade


def faded(done: Any) -> Any:
    """1 in the first half of a training, then down to 0 along half a cosine; `done` goes from 0 to 1 (``flat_cos``)."""
    later = ((done - HALF) / (1 - HALF)).clamp(0.0, 1.0)
    return 0.5 + 0.5 * (math.pi * later).cos()


class Arranged(nn.Module):
    """Columns in the order that `Inputs` wants: some as they are, then the class number of each group of columns a level.

    The class number is that of the column that is 1, counted from 1; 0 where none is.

    Args:
        kept: the numbers of the columns that stay as they are.
        starts, sizes: the first column of each group, and how many it has.
    """

    def __init__(self, kept: Sequence[int], starts: Sequence[int] = (), sizes: Sequence[int] = ()) -> None:
        super().__init__()
        self.kept, self.starts, self.sizes = list(kept), list(starts), list(sizes)

    def forward(self, input: Tensor) -> Tensor:
        """Rows of one column a level become rows of one column a group."""
        parts = [input[:, self.kept]] if self.kept else []
        for start, size in zip(self.starts, self.sizes, strict=True):
            levels = input[:, start : start + size]
            parts.append((levels * arange(1, size + 1, dtype=input.dtype)).sum(1).unsqueeze(1))
        return cat(parts, 1)


class Inputs(nn.Module):
    """Columns as the first layer of the full recipe sees them: each number with three waves of itself, categories as vectors.

    A number x becomes ``W2 cos(2 pi w1 x + b1) + b2``, three outputs of 16 waves, and x itself (the PBLD embedding). The columns
    behind the numbers pass as they are, but for the last ones, which hold class numbers and become learned vectors.

    Args:
        numbers: how many columns, from the first on, are numbers.
        plain: how many columns follow.
        sizes: how many categories each of the last columns has.
        waves, outputs, length: of each number and of the vectors.
        sigma: the deviation of the waves' frequencies at first.
        dtype: of the parameters.

    Source: Holzmueller, Grinsztajn, Steinwart, arXiv 2407.04491, after Gorishniy, Rubachev, Babenko, "On embeddings for
    numerical features in tabular deep learning", NeurIPS 2022.
    """

    def __init__(
        self, numbers: int, plain: int, sizes: Sequence[int] = (), waves: int = 16, outputs: int = 3, length: int = 8,
        sigma: float = 0.1, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.numbers, self.plain, self.sizes = numbers, plain, tuple(sizes)
        self.waves, self.outputs, self.length, self.sigma = waves, outputs, length, sigma
        self.features = numbers * (outputs + 1) + plain + len(sizes) * length
        bound = 1 / math.sqrt(waves)
        self.frequency = nn.Parameter(randn(numbers, waves, dtype=dtype) * sigma)
        self.phase = nn.Parameter((rand(numbers, waves, dtype=dtype) * 2 - 1) * math.pi)
        self.weight = nn.Parameter((rand(numbers, waves, outputs, dtype=dtype) * 2 - 1) * bound)
        self.shift = nn.Parameter((rand(numbers, outputs, dtype=dtype) * 2 - 1) * bound)
        self.vectors = nn.ModuleList([nn.Embedding(size, length, dtype=dtype) for size in sizes])

    def forward(self, input: Tensor) -> Tensor:
        """Rows of ``numbers + plain + len(sizes)`` columns become rows of ``features``."""
        x, parts = input[:, : self.numbers], []
        if self.numbers:
            waves = (x.unsqueeze(2) * (self.frequency * (2 * math.pi)) + self.phase).cos()
            mixed = (waves.unsqueeze(3) * self.weight).sum(2) + self.shift
            parts.append(mixed.flatten(1))
        parts.append(input[:, : self.numbers + self.plain])
        for place, vectors in enumerate(self.vectors, self.numbers + self.plain):
            parts.append(vectors(input[:, place].to(int64)))
        return cat(parts, 1)


class Blend(nn.Module):
    """``x + a (f(x) - x)``: an activation that each unit learns how much of to take; `a` is 1 at first.

    Args:
        activation: f.
        features: how many units.
        dtype: of a.
    """

    def __init__(self, activation: nn.Module, features: int, dtype: Any = None) -> None:
        super().__init__()
        self.activation, self.features = activation, features
        self.share = nn.Parameter(zeros(features, dtype=dtype) + 1.0)

    def forward(self, input: Tensor) -> Tensor:
        """Bend each unit by its share."""
        found: Tensor = input + (self.activation(input) - input) * self.share
        return found


class FadingDropout(nn.Module):
    """Dropout whose share p fades to 0 in the second half of a training.

    Args:
        p: the share at first.
        steps: of the training.
    """

    done: Tensor

    def __init__(self, p: float, steps: int) -> None:
        super().__init__()
        self.p, self.steps = probability("FadingDropout", p), steps
        self.register_buffer("done", zeros(dtype=int64))

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training, pass the input through in evaluation."""
        if not self.training or not self.p:
            return input
        share = (faded(self.done.to(float64) / self.steps) * self.p).to(input.dtype)
        with no_grad():
            self.done.add_(1)
        kept: Tensor = input * (rand_like(input) >= share).to(input.dtype) / (1 - share)
        return kept


class FadingAdamW(optim.AdamW):
    """AdamW whose weight decay fades to 0 in the second half of a training.

    Args:
        params: tensors, or groups of them.
        steps: of the training.
        options: as for `AdamW`.
    """

    def __init__(self, params: Any, steps: int, **options: Any) -> None:
        self.steps = steps
        super().__init__(params, **options)

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        found = super().settings(group, step)
        if "weight_decay" in found:
            found["weight_decay"] = found["weight_decay"] * faded((step - 1) / self.steps)
        return found


def initialize(model: nn.Sequential, X: Array, seed: int) -> None:
    """Let weights and biases begin as rows of the training say.

    The weights of each hidden layer are scaled so that every unit's output has deviation 1; its bias is minus the mean, with
    random shares, of the outputs of five rows, so that each unit bends somewhere among them.

    Args:
        model: `Inputs`, then `NTKLinear` layers among others; the last of them begins likewise.
        X: rows, some hundreds are enough.
        seed: of the draws.

    Source: Holzmueller, Grinsztajn, Steinwart, arXiv 2407.04491 (``std`` and ``he+5``).
    """
    random = np.random.default_rng(seed)
    with no_grad():
        x = tensor(X)
        for layer in model:
            if isinstance(layer, nn.NTKLinear):
                out = F.linear(x, layer.weight).numpy(force=True) / math.sqrt(max(1, layer.in_features))
                spread = out.std(axis=0)
                spread = np.where(spread > VARIES * np.abs(out).max(axis=0), spread, 1)  # of constant rows: as drawn
                layer.weight.mul_(tensor((1 / spread)[:, None].astype(out.dtype)))
                rows, shares = (
                    random.integers(0, len(out), (5, out.shape[1])),
                    random.exponential(size=(5, out.shape[1])),
                )
                chosen = np.take_along_axis(out / spread, rows, axis=0)
                if layer.bias is not None:
                    layer.bias.copy_(tensor((-(chosen * shares).sum(0) / shares.sum(0)).astype(out.dtype)))
            x = layer(x) if not isinstance(layer, FadingDropout) else x
