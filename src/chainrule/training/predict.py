"""The forward pass over many rows, compiled."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from chainrule.autodiff import trees
from chainrule.compiler.compile import compile
from chainrule.compiler.frontend.trace import guard
from chainrule.data.checks import check_batch_size
from chainrule.dtypes import DType, numbers_of
from chainrule.errors import ChainruleError
from chainrule.graph import leaf
from chainrule.nn import Module
from chainrule.tensor import Tensor
from chainrule.tensor.core import numbers, wrap
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.training import inputs, several
from chainrule.training.several import called
from chainrule.training.steps import wraps

Array = np.ndarray[Any, Any]
_BATCHES = 64  # in one native call: Ctrl-C gets through between two
FEW = 1 << 16  # numbers that are looked through in less time than anything else takes


class Holder(Protocol):
    """What has the model that predicts, which may be another at each call."""

    @property
    def model(self) -> Module: ...


class Predictor:
    """The holder's model of X in evaluation mode, in native loops over batches.

    Few programs serve every number of rows: batches have `batch_size` rows, or for less data the next power
    of two, and the last is filled up with copies of its last row.
    """

    def __init__(self, session: Holder) -> None:
        self.session = session
        # Kinds of rows that went through as they were, the model that took them and what told its dtype.
        self._taken: dict[tuple[Any, ...], tuple[Module, Tensor | None, DType]] = {}

        def forward(rows: Any) -> Any:
            model = guard(lambda: session.model)
            with no_grad():
                return called(model, rows)

        self._function = forward
        self.forward = compile(forward)

    def __reduce__(self) -> Any:
        return Predictor, (self.session,)  # a copy predicts with the copy of the session

    def __call__(self, X: object, batch_size: int) -> Any:
        most = batch_size if type(batch_size) is int and batch_size > 0 else check_batch_size(batch_size, "predict")
        if type(X) is np.ndarray:
            few = self._of_few(X, most)
            if few is not None:
                return few
        if isinstance(X, (tuple, dict)) and several.are_inputs(self.session.model, X):
            return self._of_tree(X, most)
        return self._of_many(X, most)

    def _of_few(self, X: Array, most: int) -> Array | None:
        """For few rows of a kind that this model has taken before: one call. None where the long way has to be gone."""
        model = self.session.model
        wraps(self._function, (model,))
        if not X.ndim or not 0 < X.size <= FEW or len(X) > most or not X.flags.aligned:
            return None
        taken = self._taken.get((X.dtype, X.shape[1:]))
        if taken is None or taken[0] is not model or not _finite(X):
            return None
        _, parameter, dtype = taken
        if parameter is not None and parameter.dtype is not dtype:
            return None
        count = len(X)
        size = min(most, 1 << (count - 1).bit_length())
        filled = X if size == count else np.concatenate([X, np.repeat(X[-1:], size - count, axis=0)])
        rows = wrap(leaf(filled, dtype))
        output = self.forward.again(
            rows
        )  # whatever mode the layers are in now: nothing that the program read has changed
        if output is None:
            try:
                with inputs.evaluating(model, quiet=True):
                    output = self.forward(rows)
            except ChainruleError:  # the model has changed; the long way says what does not fit
                return None
        found = numbers_of(output._node.value)  # in memory of its own
        return found if size == count else np.array(found[:count])

    def _of_many(self, X: object, most: int) -> Any:
        model = self.session.model
        with inputs.evaluating(model):
            with no_grad():
                x, output = inputs.features(model, X, "predict", one=False)
            if x is X and x.dtype.kind == "f" and isinstance(output, Tensor):
                first = next((p for p in model.parameters() if p.dtype.is_floating_point), None)
                self._taken[x.dtype, x.shape[1:]] = model, first, inputs.model_dtype(model)
            return self._in_batches(x, most)

    def _of_tree(self, X: object, most: int) -> Any:
        """For several inputs."""
        model = self.session.model
        wraps(self._function, (model,))
        x = several.as_arrays({"X": X}, inputs.model_dtype(model).numpy, "predict")["X"]
        several.check_inputs(model, x, "predict")
        with inputs.evaluating(model):
            return self._in_batches(x, most)

    def _in_batches(self, x: Any, most: int) -> Any:
        count = several.count_of(x)
        size = min(most, 1 << (count - 1).bit_length())
        starts = range(0, count, size * _BATCHES)
        parts = [self._loop(several.taken(x, slice(start, start + size * _BATCHES)), size) for start in starts]
        leaves = [np.concatenate(pieces) for pieces in zip(*map(trees.leaves, parts), strict=True)]
        return trees.filled(parts[0], leaves)

    def _loop(self, x: Any, size: int) -> Any:
        """Of some whole batches, the last filled up."""
        count = several.count_of(x)
        batches = trees.mapped(lambda array: tensor(_filled(array, size)), x)
        return trees.mapped(lambda stacked: _unstacked(numbers(stacked), count), self.forward.loop(batches))


def _finite(X: Array) -> bool:
    """Are all numbers finite? Their squares' sum says so in a third of the time, where it does not overflow."""
    flat = X.reshape(-1)
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(X).all())


def _filled(array: Array, size: int) -> Array:
    """As whole batches, the last filled up with copies of the last row."""
    missing = -len(array) % size
    filled = np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array
    return filled.reshape(-1, size, *array.shape[1:])


def _unstacked(stacked: Array, count: int) -> Array:
    return np.asarray(stacked.reshape(-1, *stacked.shape[2:])[:count])
