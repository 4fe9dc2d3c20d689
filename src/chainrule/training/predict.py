"""The forward pass over many rows, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.compiler.compile import compile
from chainrule.compiler.trace import guard
from chainrule.data.checks import check_batch_size
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.training import inputs
from chainrule.training.session import Session

Array = np.ndarray[Any, Any]
_BATCHES = 64  # in one native call: Ctrl-C gets through between two


class Predictor:
    """The session's model of X in evaluation mode, in native loops over batches.

    Few programs serve every number of rows: batches have `batch_size` rows, or for less data the next power
    of two, and the last is filled up with copies of its last row.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.forward = compile(self._forward)

    def _forward(self, rows: Tensor) -> Tensor:
        model = guard(lambda: self.session.model)
        with no_grad():
            output: Tensor = model(rows)
            return output

    def __call__(self, X: object, batch_size: int) -> Array:
        most = check_batch_size(batch_size, "predict")
        with self.session.mode(False):
            with no_grad():
                x, _ = inputs.features(self.session.model, X, "predict")
            count = len(x)
            size = min(most, 1 << (count - 1).bit_length())
            parts = [self._loop(x[start : start + size * _BATCHES], size) for start in range(0, count, size * _BATCHES)]
        return np.concatenate(parts)

    def _loop(self, x: Array, size: int) -> Array:
        missing = -len(x) % size
        filled = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x
        stacked = self.forward.loop(tensor(filled.reshape(-1, size, *x.shape[1:]))).numpy()
        return np.asarray(stacked.reshape(-1, *stacked.shape[2:])[: len(x)])
