"""The forward pass over many rows, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.compiler.compile import compile
from chainrule.data.checks import check_batch_size
from chainrule.nn import Module
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.training import inputs

Array = np.ndarray[Any, Any]
_BATCHES = 64  # in one native call: Ctrl-C gets through between two


class Predictor:
    """``model(X)`` in evaluation mode, in native loops over batches.

    Few programs serve every number of rows: batches have `batch_size` rows, or for less data the next power
    of two, and the last is filled up with copies of its last row.
    """

    def __init__(self, model: Module) -> None:
        self.model = model
        self.forward = compile(self._forward)

    def _forward(self, rows: Tensor) -> Tensor:
        with no_grad():
            output: Tensor = self.model(rows)
            return output

    def __call__(self, X: object, batch_size: int) -> Array:
        most = check_batch_size(batch_size, "predict")
        with inputs.mode(self.model, False):
            with no_grad():
                x, _ = inputs.features(self.model, X, "predict")
            count = len(x)
            size = min(most, 1 << (count - 1).bit_length())
            parts = [self._loop(x[start : start + size * _BATCHES], size) for start in range(0, count, size * _BATCHES)]
        return np.concatenate(parts)

    def _loop(self, x: Array, size: int) -> Array:
        missing = -len(x) % size
        filled = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x
        stacked = self.forward.loop(tensor(filled.reshape(-1, size, *x.shape[1:]))).numpy()
        return np.asarray(stacked.reshape(-1, *stacked.shape[2:])[: len(x)])
