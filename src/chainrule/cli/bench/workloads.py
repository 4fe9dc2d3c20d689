"""What is trained: a dense network on rotating batches of random numbers, the same for every implementation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BATCHES = 16  # rotating
LEARNING_RATE = 1e-5  # so small that random labels are not learnt by heart: dead weights would fake a win
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Workload:
    """A network with ReLU between its layers, trained with softmax, cross-entropy and Adam.

    >>> Workload("mlp_tiny", (4, 32, 32, 2), 32)
    mlp_tiny: 4-32-32-2, batch 32
    """

    name: str
    sizes: tuple[int, ...]
    batch: int

    def __repr__(self) -> str:
        return f"{self.name}: {self.network}, batch {self.batch}"

    @property
    def network(self) -> str:
        """The sizes as text; a long run of equal ones in short."""
        if len(self.sizes) > 6 and len(set(self.sizes[1:-1])) == 1:
            return f"{self.sizes[0]}-{self.sizes[1]} x {len(self.sizes) - 2}-{self.sizes[-1]}"
        return "-".join(map(str, self.sizes))

    def weights(self) -> list[Array]:
        """W0 (inputs, outputs), b0, W1, b1, ...: He's uniform initialisation, so that a deep network keeps its scale."""
        rng = np.random.default_rng(1)
        made: list[Array] = []
        for inputs, outputs in pairwise(self.sizes):
            W = rng.random((inputs, outputs), np.float32)
            W -= np.float32(0.5)
            W *= np.float32(2 * (6 / inputs) ** 0.5)
            made += [W, np.zeros(outputs, np.float32)]
        return made

    def batches(self) -> tuple[Array, Array]:
        """X float32 (`BATCHES`, batch, inputs), labels int64 (`BATCHES`, batch)."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal((BATCHES, self.batch, self.sizes[0]), np.float32)
        return X, rng.integers(0, self.sizes[-1], (BATCHES, self.batch))

    @property
    def parameters(self) -> int:
        return sum((inputs + 1) * outputs for inputs, outputs in pairwise(self.sizes))

    @property
    def flops(self) -> int:
        """Multiplications and additions of a step's matrix products.

        ``x W^T`` and ``dY^T x`` for every layer, ``dY W`` for all but the first. Biases, activations, the loss
        and Adam are not counted: they are no work for the units whose peak this is compared with.

        >>> Workload("", (3, 5), 2).flops == 2 * (2 * 3 * 5) * 2
        True
        """
        products = [2 * self.batch * inputs * outputs for inputs, outputs in pairwise(self.sizes)]
        return 3 * sum(products) - products[0]

    @property
    def bytes(self) -> int:
        """What a step cannot but move: weights and both moments read and written once, the batch read once.

        Gradients and activations are not counted: a fused step could keep them near.
        """
        return 4 * (6 * self.parameters + self.batch * self.sizes[0]) + 8 * self.batch


DENSE = {
    workload.name: workload
    for workload in (
        Workload("mlp_tiny", (4, 32, 32, 2), 32),
        Workload("mlp_tab", (30, 128, 128, 2), 64),
        Workload("mlp_mnist", (784, 256, 128, 10), 128),
        Workload("mlp_big", (1024, 4096, 4096, 1000), 256),
    )
}
