"""The rows of a session, checked: model and loss are called with some of them only where their kind is new."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from chainrule import dtypes
from chainrule.autodiff import trees
from chainrule.compiler.frontend.reading import Reading
from chainrule.data.checks import as_array
from chainrule.errors import DataError
from chainrule.graph import LEAF, Node, Type
from chainrule.nn.meaning import BINARY_PROBABILITIES, CLASSES, option_of
from chainrule.tensor import Tensor
from chainrule.tensor.core import wrap
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.training import inputs, several
from chainrule.training.exact import is_ranked, statistics_of
from chainrule.training.objective import objective, weighing
from chainrule.training.session import Rows, Session
from chainrule.training.several import Losses, called
from chainrule.training.steps import wraps
from chainrule.training.stretch import Batching
from chainrule.training.weights import Classes, weights

Array = np.ndarray[Any, Any]
KINDS = 16  # of rows that are remembered
MODE = frozenset({"training"})  # rows are tried in evaluation mode, whatever the modules' own is


class Kind(NamedTuple):
    """Rows of one kind, as they came and as a step takes them, and what calling model, loss and metrics read."""

    x: np.dtype[Any]
    y: np.dtype[Any]
    output: Tensor
    reading: Reading


class Checked:
    """What `inputs.rows` makes of a session's rows."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._kinds: dict[tuple[Any, ...], Kind | None] = {}  # None: only a call tells

        def call(x: Tensor, y: Tensor) -> list[Any]:
            output = session.model(x)
            asked = [part for part in session.parts()[1:] if not is_ranked(part)]
            return [output, *(statistics_of(part)(output, y) for part in asked)]

        self._call = call

    def __reduce__(self) -> Any:
        return Checked, (self.session,)  # a copy checks with the copy of the session

    def __call__(
        self, X: object, y: object, who: str, names: tuple[str, str] = ("X", "y"), weighed: bool = False
    ) -> tuple[Array, Array]:
        """X and y as a step takes them; `weighed` where rows will have weights in the loss.

        Raises:
            DataError, ShapeError, DtypeError, SettingError: they cannot be trained on.
        """
        session, given = self.session, inputs.arrays(X, y, who, names)
        meaning = session.meaning
        key = (*map(_kind, given), session.shape(), meaning, weighed)
        kind = self._kinds.get(key)
        if kind is not None and kind.reading.holds():
            found = inputs.known(session.model, session.loss, kind.output, *given, who, names, meaning)
            if (kind.x, kind.y) == (found[0].dtype, found[1].dtype):
                return found
        with session.tried():
            found = inputs.tried(session.model, session.loss, session.metrics, *given, who, names, meaning, weighed)
            if kind is not None or key not in self._kinds:
                self._remember(key, given[0], *found)
        return found

    def rows(
        self, X: object, y: object, who: str, sample_weight: object = None, class_weight: Classes | None = None,
        names: tuple[str, str] = ("X", "y"), some: bool = True,
    ) -> Rows:  # fmt: skip
        """X and y with the weights of their rows in the loss; `some`: one of the weights at least must be above 0.

        Raises:
            DataError, ShapeError, DtypeError, SettingError: they cannot be trained on.
        """
        weighed = sample_weight is not None or class_weight is not None
        inputs_several, targets_several = self._several(X, y)
        if y is None or inputs_several or targets_several:
            x_array, y_array = self._tried(
                X if inputs_several else as_array(X, f"{who}: {names[0]}"),
                y if y is None or targets_several else as_array(y, f"{who}: {names[1]}"),
                who, names, weighed,
            )  # fmt: skip
        else:
            x_array, y_array = self(X, y, who, names, weighed)
        if not weighed:
            return Rows(x_array, y_array)
        session, count = self.session, several.count_of(x_array)
        dtype = inputs.model_dtype(session.model).numpy
        weight = weights(sample_weight, class_weight, count, y_array, session.loss, session.meaning, dtype, who, some)
        return Rows(x_array, y_array, weight=weight)

    def alone(self, rows: Rows, batching: Batching, modes: Mapping[str, bool] | None = None) -> None:
        """A batch of one row, where an epoch has one, goes through the model as in training.

        Args:
            modes: of the modules in the training that goes on; None for one that begins.

        Raises:
            DataError: a layer needs more rows.
        """
        if 1 not in (batching.batch_size, batching.rest):
            return
        session = self.session
        row = trees.mapped(lambda array: tensor(array[:1]), rows.x)
        with session.tried(), session.mode(True), no_grad():
            session.wear(modes or {})
            try:
                called(session.model, row)
            except DataError as error:
                raise DataError(f"fit: {_of_one_row(batching)} {error}") from error

    def _several(self, X: object, y: object) -> tuple[bool, bool]:
        """Are there several inputs? Several targets? A tuple is where the model or the loss take several."""
        session = self.session
        by_part = isinstance(session.loss, Losses)
        inputs_several = several.are_inputs(session.model, X)
        return inputs_several, by_part or isinstance(y, dict) or (inputs_several and several.is_several(y))

    def _tried(self, X: Any, y: Any, who: str, names: tuple[str, str], weighed: bool) -> tuple[Any, Any]:
        """Trees of arrays, tried by one small eager pass."""
        session, dtype = self.session, inputs.model_dtype(self.session.model).numpy
        given = {names[0]: X} if y is None else {names[0]: X, names[1]: y}
        found = several.as_arrays(given, dtype, who)
        x, y = found[names[0]], found.get(names[1])
        if y is None:
            several.check_without_targets({"the loss": session.loss, **session.metrics}, who)
        with session.tried():
            loss = weighing(session.loss) if weighed else partial(objective, session.loss)
            several.check(session.model, loss, session.metrics, x, y, who, session.loss)
        return x, y

    def _remember(self, key: tuple[Any, ...], given: Array, x: Array, y: Array) -> None:
        if len(self._kinds) >= KINDS:
            self._kinds.clear()
        self._kinds[key] = self._read(x, y) if given.dtype.kind in "fb" else None

    def _read(self, x: Array, y: Array) -> Kind | None:
        """What a call reads; None where its outcome may depend on values, too."""
        wraps(self._call, self.session.parts())
        types = [Type(a[: inputs.PROBED].shape, dtypes.as_dtype(a.dtype)) for a in (x, y)]
        try:
            with no_grad():
                reading = Reading(self._call, types, MODE)
        except Exception:  # most often it asks for values, which a trace does not have; the call itself went well
            return None
        kind = Kind(x.dtype, y.dtype, wrap(Node(LEAF, (), {}, reading.results[0])), reading)
        return kind if self._by_kind(kind) else None

    def _by_kind(self, kind: Kind) -> bool:
        """Is all that is looked at in values also looked at by `inputs.known`, in every row?"""
        session, meaning = self.session, self.session.meaning
        if meaning is not None and meaning.over_classes and kind.y.kind == "i":
            wanted = kind.output.shape[CLASSES], option_of(session.loss, "ignore_index")
            return all(what[0] is kind.reading.arguments[1] and what[1:] == wanted for what in kind.reading.unchecked)
        return kind.y.kind == "f" and meaning != BINARY_PROBABILITIES and not kind.reading.unchecked


def _of_one_row(batching: Batching) -> str:
    """Which batches have one row, and what to do where that is too few."""
    if batching.batch_size == 1:
        return "every batch has one row, which is too few for the model: choose a batch_size of 2 or more."
    return (
        f"{batching.rows} rows in batches of {batching.batch_size} leave one row for the last, which is too few for the model: leave it "
        f"out with drop_last=True, or choose another batch_size."
    )


def _kind(array: Array) -> tuple[Any, ...]:
    return array.dtype, array.shape[1:], len(array) >= inputs.PROBED
