"""From the user's arrays to what a step can gather from, with every complaint made before the first step."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.compiler.frontend.trace import trace_function
from chainrule.data.checks import (
    as_array,
    as_integers,
    as_labels,
    check_same_length,
    check_shares,
    check_some_count,
    in_dtype,
    shapes_in,
)
from chainrule.dtypes import DType
from chainrule.errors import ChainruleError, DataError, DtypeError, SettingError, ShapeError
from chainrule.lines import user_line
from chainrule.nn import Module, Sequential, Sigmoid
from chainrule.nn.compiled import bare
from chainrule.nn.meaning import (
    BINARY_LOGITS,
    BINARY_PROBABILITIES,
    CLASSES,
    LOGITS,
    Meaning,
    meaning_of,
    name_of,
    option_of,
)
from chainrule.tensor import Tensor
from chainrule.tensor.core import numbers, wrap
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.training.exact import is_ranked, statistics_of
from chainrule.training.objective import weighing
from chainrule.training.several import check_outputs, check_scalar

Array = np.ndarray[Any, Any]
Function = Callable[[Tensor, Tensor], Tensor]
PROBED = 2  # rows that go through the model before a training begins
MANY_PROBED = (
    256  # rows where a loss sees only in their values that the model lacks its last layer (BCELoss: a sigmoid)
)


SUM = 1e-5  # how far from 1 the probabilities of a row, in float32, may add up
_said: dict[str, dict[Any, int]] = {}  # which warnings were given where, by file, as Python keeps it of a module


class _Hold:
    """How many are predicting by a layer that is in training mode else, and whether programs were told of its mode."""

    def __init__(self) -> None:
        self.count, self.told = 0, False


_holds: dict[int, _Hold] = {}  # by layer, while somebody predicts by it: the last one that leaves puts its mode back
_turn = threading.RLock()


@contextmanager
def evaluating(model: Module, quiet: bool = False) -> Iterator[None]:
    """The model in evaluation mode inside the block; each of its layers as it was, once nobody in any thread needs that.

    Args:
        quiet: no program is told, for calls of one that nobody else calls, and that is called in this mode alone. To tell
            them costs a microsecond a layer and, at their next call, a look at everything that they read.
    """
    held: list[Module] = []
    try:
        with _turn:
            for module in map(bare, model.modules()):
                if module.training or id(module) in _holds:
                    _take(module, held, quiet)
        yield
    finally:
        with _turn:
            for module in held:
                _leave(module)


def _take(module: Module, held: list[Module], quiet: bool) -> None:
    hold = _holds.setdefault(id(module), _Hold())
    held.append(module)
    hold.count += 1
    hold.told |= not quiet
    _put(module, False, quiet)


def _leave(module: Module) -> None:
    hold = _holds[id(module)]
    hold.count -= 1
    if not hold.count:
        del _holds[id(module)]
        _put(module, True, not hold.told)


def _put(module: Module, training: bool, quiet: bool) -> None:
    if module.training is training:
        return
    if quiet:
        object.__setattr__(module, "training", training)
    else:
        module.training = training


def model_dtype(model: Module) -> DType:
    """The dtype of the first floating parameter (float32 for a model without any, or that begins in bfloat16): that of rows."""
    for module in model.modules():  # the first of `parameters()`, in a third of the time
        for parameter in module._parameters.values():
            if parameter is not None and parameter.dtype.is_floating_point:
                return dtypes.computed(parameter.dtype)
    return dtypes.float32


def features(
    model: Module, X: object, who: str, name: str = "X", probed: int = PROBED, one: bool = True
) -> tuple[Array, Any]:
    """X in a dtype that the model takes, and what the model makes of its first rows: one tensor, or several unless `one`.

    Floating-point and boolean values are given in the model's dtype. Integers are given as integers (of 32 bits or more) to
    a model that takes them (it looks something up by them), and in its dtype to every other.
    """
    array = as_array(X, f"{who}: {name}")
    if not array.size:
        raise DataError(
            f"{who}: {name} must have a number in each row, got shape {array.shape}. Check how the data was loaded."
        )
    refused: DtypeError | None = None
    if array.dtype.kind in "iu" and (array.dtype != np.uint64 or array.max() <= np.uint64(2**63 - 1)):
        whole = as_integers(array, f"{who}: {name}")
        try:
            return whole, _output(model, whole, who, name, probed, one)
        except DtypeError as error:
            refused = error
    floats = in_dtype(array, model_dtype(model).numpy, f"{who}: {name}")
    try:
        return floats, _output(model, floats, who, name, probed, one)
    except DtypeError:
        if refused is not None:
            raise refused from None  # neither will do, and integers are what was given
        raise


def rows(
    model: Module, loss: Function, metrics: Mapping[str, Function], X: object, y: object, who: str,
    names: tuple[str, str] = ("X", "y"), meaning: Meaning | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """X and y checked against each other and, by one small eager pass, against the model, loss and metrics.

    Args:
        meaning: of the outputs, where the loss does not say it.
    """
    return tried(model, loss, metrics, *arrays(X, y, who, names), who, names, meaning)


def arrays(X: object, y: object, who: str, names: tuple[str, str]) -> tuple[Array, Array]:
    """X and y as arrays of numbers with as many rows."""
    _check_not_several(X, y, who, names[0])
    _check_not_several(y, X, who, names[1])
    x_array, y_array = as_array(X, f"{who}: {names[0]}"), as_array(y, f"{who}: {names[1]}")
    check_same_length(x_array, y_array, who, *names)
    return x_array, y_array


def tried(
    model: Module, loss: Function, metrics: Mapping[str, Function], x: Array, y: Array, who: str,
    names: tuple[str, str], meaning: Meaning | None, weighed: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """Arrays checked by one small eager pass of model, loss and metrics.

    Args:
        weighed: rows will have weights in the loss.
    """
    with evaluating(model), no_grad():
        probed = MANY_PROBED if (meaning or meaning_of(loss)) == BINARY_PROBABILITIES else PROBED
        x, output = features(model, x, who, names[0], probed)
        y = _read_by_loss(model, loss, output, y, who, names[1], meaning)
        _check_scalars(weighing(loss) if weighed else loss, metrics, output, y, who, names[1])
        _check_reduced(loss, who)
        _warn_of_broadcasting(loss, output, y, who, names[1])
        if who == "fit":
            _warn_of_probabilities(model, loss, output)
    return x, y


def known(
    model: Module, loss: Function, output: Tensor, x: Array, y: Array, who: str, names: tuple[str, str],
    meaning: Meaning | None,
) -> tuple[Array, Array]:  # fmt: skip
    """Arrays of a kind that model, loss and metrics take, as `tried` gives them: what depends on values is looked at.

    Args:
        output: what the model makes of such rows; its values are not read.
    """
    x = in_dtype(x, model_dtype(model).numpy, f"{who}: {names[0]}")
    y = _read_by_loss(model, loss, output, y, who, names[1], meaning)
    _check_reduced(loss, who)
    _warn_of_broadcasting(loss, output, y, who, names[1])
    return x, y


def _read_by_loss(
    model: Module, loss: Function, output: Tensor, y: Array, who: str, name: str, meaning: Meaning | None
) -> Array:
    ignored, what = option_of(loss, "ignore_index"), f"{who}: {name}"
    y = _targets(model, loss, meaning or meaning_of(loss), output, y, what, ignored)
    check_some_count(y, ignored, what)
    return y


def target(model: Module, loss: Function, meaning: Meaning | None, x: Array, y: object, who: str) -> Array:
    """The target of one row, converted and checked as those of a training are.

    Args:
        x: the row, with its axis: (1, ...).
        y: its target, without.
    """
    with evaluating(model), no_grad():
        output = _output(model, x, who, "X")
    ignored = option_of(loss, "ignore_index")
    return np.asarray(_targets(model, loss, meaning, output, as_array([y], who), who, ignored)[0])


def _check_not_several(data: object, other: object, who: str, name: str) -> None:
    """A list of inputs or targets has one entry for each of them, and not for each row, of which `other` tells the number."""
    if not isinstance(data, list):
        return
    shapes = shapes_in(data)
    rows = (len(other),) if isinstance(other, (list, tuple)) else tuple(getattr(other, "shape", ()))[:1]
    if not shapes or not rows or len(data) == rows[0]:
        return
    if all(tuple(part.shape)[:1] == rows for part in data):
        one = " One array is given as it is, without the list." if len(data) == 1 else ""
        raise DataError(
            f"{who}: {name} must be one array with a row for each example, got a list of {len(data)} arrays of shapes "
            f"{shapes}: a list is rows.{one} Several inputs or targets go as a tuple (a, b) or a dict of arrays, to a "
            f"model whose forward takes or gives so many; for a model of one, join them along the columns "
            f"(numpy.concatenate(..., axis=1))."
        )


def _output(model: Module, x: Array, who: str, name: str, probed: int = PROBED, one: bool = True) -> Any:
    """What the model makes of the first rows: one tensor, or a tree of several unless `one`.

    Raises:
        ShapeError: the rows do not fit the model, or it does not give tensors with a row for each.
    """
    few = x[:probed]
    try:
        output = model(tensor(few))
    except DtypeError as error:
        if not any(parameter.dtype.only_stores for parameter in model.parameters()):
            raise
        raise DtypeError(
            f"{who}: {name} reaches the model as {x.dtype}, and a layer in bfloat16 takes bfloat16. Convert in the model's "
            f"forward: x.bfloat16() before such a layer, .float() behind it (around nn.Sequential: in a module that holds it). {error}"
        ) from error
    except ShapeError as error:
        said = _for_all_rows(model, [x]) or (f"Tried with {len(few)} rows: {error}" if x.ndim > 1 else "")
        one_row = (
            f"These are {len(x)} rows of one number each: a table of one column is x[:, None], one row of a table x[None]. "
            if x.ndim == 1
            else ""
        )
        raise ShapeError(
            f"{who}: {name} of shape {x.shape} does not fit the model. {one_row}{said}".rstrip()
        ) from error
    if not one and not isinstance(output, Tensor):
        check_outputs(output, len(few), who)
    elif not isinstance(output, Tensor) or output.ndim == 0 or output.shape[0] != len(few):
        came = f"shape {output.shape} for {len(few)}" if isinstance(output, Tensor) else type(output).__name__
        raise ShapeError(
            f"{who}: the model must return one tensor with a row for each row of {name}, got {came}. "
            f"Keep the first axis for the rows."
        )
    return output


def _for_all_rows(function: Callable[..., Any], arrays: Sequence[Array]) -> ShapeError | None:
    """What the function has to say of the shapes of whole arrays."""
    try:
        _traced(function, arrays)
    except ShapeError as error:
        return error
    except ChainruleError:  # it asks for values, which a trace does not have
        return None
    return None


def broadcasts(loss: Function, outputs: Array, y: Array) -> bool:
    """Does this loss make a square, one row for each row and one column for each, of outputs and targets?"""
    try:
        value = _traced(loss, [outputs, y])
    except ChainruleError:
        return False
    nodes = graph.toposort([value._node]) if isinstance(value, Tensor) else []
    return any(node.shape[:2] == (len(y), len(y)) for node in nodes)


def _traced(function: Callable[..., Any], arrays: Sequence[Array]) -> Any:
    """The function's result for arrays of these shapes: nothing is computed."""
    types = [graph.Type(array.shape, dtypes.as_dtype(array.dtype)) for array in arrays]
    given = [wrap(graph.Node(graph.LEAF, (), {}, kind)) for kind in types]
    return trace_function(function, list(given), lambda tensors: (tuple(tensors), {}))[1]


def _targets(
    model: Module, loss: Function, meaning: Meaning | None, output: Tensor, y: Array, who: str, ignored: int | None
) -> Array:
    """The targets as this loss reads them: class numbers (and `ignored`) as int64, everything else in the model's dtype."""
    if meaning is not None and meaning.over_classes:
        if not _are_probabilities(output, y, who):
            return as_labels(y, output.shape[CLASSES], who, ignored)
        if option_of(loss, "reads_numbers", False):
            raise ShapeError(
                f"{who} must be class numbers of shape {y.shape[:CLASSES] + y.shape[CLASSES + 1 :]} for {name_of(loss)}, got a "
                f"number for each class, shape {y.shape}. Use y.argmax({CLASSES}), or F.cross_entropy with logits."
            )
    elif y.dtype.kind != "f" and y.shape[1:] != output.shape[1:]:
        return as_integers(y, who).astype(np.int64, copy=False)  # for a loss of the user's own to make sense of
    if option_of(loss, "reads_shares", False):
        check_shares(y, who)
    return in_dtype(y, model_dtype(model).numpy, who)


def _are_probabilities(output: Tensor, y: Array, who: str) -> bool:
    """Targets over classes are probabilities if they have the outputs' shape, class numbers if they lack the axis of classes.

    Raises:
        ShapeError: they have neither shape.
    """
    outputs = (len(y), *output.shape[1:])
    if output.ndim <= CLASSES:
        raise ShapeError(
            f"{who}: the loss is over classes along axis 1, so the model must give outputs of shape (N, C), got "
            f"{outputs}. Give the last layer an output for each class, or use F.binary_cross_entropy_with_logits."
        )
    numbers = outputs[:CLASSES] + outputs[CLASSES + 1 :]
    if y.shape in (outputs, numbers):
        return bool(y.shape == outputs)
    remedy = "Check that they belong to these rows."
    if y.size == math.prod(numbers):
        remedy = f"Reshape them: y.reshape({', '.join(map(str, numbers))})."
    raise ShapeError(
        f"{who} must be class numbers of shape {numbers} or class probabilities of shape {outputs}, because the model gives "
        f"{outputs[CLASSES]} outputs a row, got shape {y.shape}. {remedy}"
    )


def _check_scalars(
    loss: Function, metrics: Mapping[str, Function], output: Tensor, y: Array, who: str, name: str
) -> None:
    for what, function in {"loss": loss, **{k: m for k, m in metrics.items() if not is_ranked(m)}}.items():
        check_scalar(what, function, _measured(statistics_of(function), output, y, who, name), who)


def _check_reduced(loss: Function, who: str) -> None:
    if option_of(loss, "reduction", "mean") == "none":
        raise SettingError(f"{who}: the loss must be reduced over the batch, got reduction='none'. Use 'mean'.")


def _measured(function: Function, output: Tensor, y: Array, who: str, name: str) -> Any:
    """What a loss or metric makes of the first rows; its complaint about shapes is about all of them."""
    try:
        return function(output, tensor(y[: output.shape[0]]))
    except ShapeError as error:
        outputs = (len(y), *output.shape[1:])
        whole = np.broadcast_to(numbers(output)[:1], outputs)
        said = _for_all_rows(function, [whole, y]) or error
        column = {outputs, y.shape} == {(len(y),), (len(y), 1)}
        remedy = f" Of arrays and tables' columns alike: np.reshape({name.split()[-1]}, {outputs})." if column else ""
        raise ShapeError(
            f"{who}: {name} of shape {y.shape} does not fit the outputs, of shape {outputs}. {said}{remedy}"
        ) from error


def _warn_of_broadcasting(loss: Function, output: Tensor, y: Array, who: str, name: str) -> None:
    """Say so where a loss of the user's own compares every row with every other, as (N, 1) against (N,) does."""
    rows, outputs = len(y), (len(y), *output.shape[1:])
    if rows < 2 or {outputs, y.shape} != {(rows,), (rows, 1)}:
        return
    if not broadcasts(loss, np.broadcast_to(np.zeros((), dtypes.computed(output.dtype).numpy), outputs), y):
        return
    text = (
        f"{who}: the loss {name_of(loss)} makes a square of {rows} x {rows} of outputs of shape {outputs} and {name} of "
        f"shape {y.shape}: it compares every row with every other. Give {name}.reshape{outputs}, unless that is meant."
    )
    _warn(text)


def _warn_of_probabilities(model: Module, loss: Function, output: Tensor) -> None:
    """Say so where a loss that reads logits is given probabilities: it makes probabilities of them once more."""
    meaning, last = meaning_of(loss), _last(model)
    if meaning not in (LOGITS, BINARY_LOGITS):
        return
    layer, why = type(last).__name__, f"the model ends in a {type(last).__name__}"
    if meaning == LOGITS and output.ndim > CLASSES and output.shape[CLASSES] > 1 and _are_shares(numbers(output)):
        layer, why = "Softmax", "every row of outputs is positive and sums to 1"
    elif not isinstance(last, Sigmoid):
        return
    _warn(
        f"fit: {why}, and {name_of(loss)}, which reads logits, makes probabilities of them once more: the loss cannot become "
        f"small, and learning is slow. Take the {layer} out of the model; predict_proba gives probabilities all the same."
    )


def _are_shares(output: Array) -> bool:
    return bool((output >= 0).all() and np.abs(output.sum(axis=CLASSES, dtype=np.float64) - 1).max() <= SUM)


def _last(model: Module) -> Module:
    """The layer that a sequence of layers, and of sequences, ends in."""
    last = bare(model)
    while isinstance(last, Sequential) and len(last):
        last = bare(last[-1])
    return last


def _warn(text: str) -> None:
    """At the user's line, once for each."""
    line = user_line()
    if line is None:
        warnings.warn(text, stacklevel=2)
    else:
        warnings.warn_explicit(text, UserWarning, line.file, line.number, registry=_said.setdefault(line.file, {}))
