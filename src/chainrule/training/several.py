"""Several inputs, outputs and targets: trees (tuples and dicts) whose leaves have one row each for an example.

A dict of arrays is several, and a tuple of arrays where the model's ``forward`` takes so many; a list is rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.autodiff import trees
from chainrule.data.checks import as_array, as_integers, in_dtype, shapes_in
from chainrule.errors import ChainruleError, DataError, SettingError, ShapeError
from chainrule.nn import Module, loss_by_name
from chainrule.nn.compiled import CompiledModule
from chainrule.nn.meaning import meaning_of, name_of
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor, zeros
from chainrule.tensor.functions import no_grad
from chainrule.training.exact import is_exact, is_ranked, statistics_of
from chainrule.training.metrics import Metric, resolve

Array = np.ndarray[Any, Any]
Loss = Callable[..., Tensor]


def is_several(value: object) -> bool:
    """Is it a tuple or dict of arrays?"""
    if isinstance(value, dict):
        return True
    return isinstance(value, tuple) and len(value) > 0 and all(map(_is_array, value))


def are_inputs(model: Callable[..., Any], X: object) -> bool:
    """Are these several inputs for the model, and not the rows of one?"""
    if isinstance(X, dict):
        return True
    if not is_several(X) or not isinstance(X, tuple):
        return False
    kinds = _signature(model).parameters.values()
    if any(one.kind is one.VAR_POSITIONAL for one in kinds):
        return True
    positional = [one for one in kinds if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    needed = sum(one.default is one.empty for one in positional)
    return len(positional) > 1 and needed <= len(X) <= len(positional)


def _signature(model: Callable[..., Any]) -> inspect.Signature:
    inner = model._function if isinstance(model, CompiledModule) else model
    return inspect.signature(inner.forward if isinstance(inner, Module) else inner)


def check_inputs(model: Callable[..., Any], x: Any, who: str) -> None:
    """Raise unless the model's ``forward`` takes these inputs.

    Raises:
        DataError: it has other names, or another number of arguments.
    """
    signature = _signature(model)
    try:
        signature.bind(
            *(() if isinstance(x, dict) else x if isinstance(x, tuple) else (x,)), **(x if isinstance(x, dict) else {})
        )
    except TypeError as error:
        came = (
            f"a dict of {_names(x) or 'nothing'}"
            if isinstance(x, dict)
            else f"{len(x) if isinstance(x, tuple) else 1} arrays"
        )
        hint = "" if isinstance(x, (dict, tuple)) else ", or pass a tuple in their order (a list is rows, not inputs)"
        raise DataError(
            f"{who}: X goes to forward({', '.join(signature.parameters)}), which does not take {came}: {error}. Name the inputs as "
            f"forward does{hint}; or join the arrays along the columns (numpy.concatenate(..., axis=1)) for a model of one."
        ) from None


def _is_array(value: object) -> bool:
    return hasattr(value, "__array__") or isinstance(value, Tensor) or is_several(value)


def labelled(tree: Any, name: str) -> list[tuple[str, Any]]:
    """The leaves of a tree, each with what to call it: ``X['age']``, ``y[0]``."""
    if isinstance(tree, dict):
        return [found for key, item in tree.items() for found in labelled(item, f"{name}[{key!r}]")]
    if is_several(tree):
        return [found for i, item in enumerate(tree) for found in labelled(item, f"{name}[{i}]")]
    return [(name, tree)]


def called(model: Callable[..., Any], x: Any) -> Any:
    """The model of one input, of several by position (a tuple), or by name (a dict)."""
    if isinstance(x, dict):
        return model(**x)
    return model(*x) if isinstance(x, tuple) else model(x)


def as_arrays(given: Mapping[str, Any], dtype: np.dtype[Any], who: str) -> dict[str, Any]:
    """Trees by name, with every leaf as an array: floats and booleans in `dtype`, integers as integers.

    Raises:
        DataError: a leaf is no array of finite numbers, or they have not all as many rows.
    """
    found = []
    for name, tree in given.items():
        leaves = [(label, as_array(leaf, f"{who}: {label}")) for label, leaf in labelled(tree, name)]
        if not leaves:
            raise DataError(f"{who}: {name} must hold at least one array, got an empty {type(tree).__name__}.")
        found += leaves
    first, rows = found[0][0], len(found[0][1])
    for label, array in found:
        if len(array) != rows:
            shapes = shapes_in(given.get(label))
            raise DataError(
                f"{who}: {label} must have a row for each of {first}, which has {rows}, got {len(array)}. "
                + (
                    f"It is a list of arrays of shapes {shapes}, and a list is rows: several go as a tuple (a, b) or a dict."
                    if shapes
                    else "Check that they belong together."
                )
            )
    arrays = iter([_converted(array, dtype, f"{who}: {label}") for label, array in found])
    return {name: _filled(tree, arrays) for name, tree in given.items()}


def _converted(array: Array, dtype: np.dtype[Any], who: str) -> Array:
    if array.dtype.kind in "iu":
        return as_integers(array, who)
    return in_dtype(array, dtype, who)


def _filled(tree: Any, arrays: Iterator[Array]) -> Any:
    """The tree with these arrays as its leaves (a list is one of them, whatever is in it)."""
    if isinstance(tree, dict):
        return {key: _filled(item, arrays) for key, item in tree.items()}
    return tuple(_filled(item, arrays) for item in tree) if is_several(tree) else next(arrays)


def few(tree: Any, count: int) -> Any:
    """Tensors of the first rows."""
    return trees.mapped(lambda array: tensor(array[:count]), tree)


def taken(tree: Any, rows: Any) -> Any:
    """These rows of every leaf."""
    return trees.mapped(lambda array: array[rows], tree)


def count_of(tree: Any) -> int:
    """How many rows there are."""
    return len(trees.leaves(tree)[0])


class Losses:
    """A loss for each output, by name or position; together ``sum of weight * loss``.

    Args:
        losses: a dict or tuple of losses, functions or names.
        weights: of some of the losses by name or position; 1 for the others.

    Example:
        >>> import chainrule as cr
        >>> both = Losses({"price": "mse", "sold": "binary_cross_entropy_with_logits"}, {"sold": 2.0})
        >>> outputs = {"price": cr.tensor([1.0]), "sold": cr.tensor([0.0])}
        >>> both(outputs, {"price": cr.tensor([3.0]), "sold": cr.tensor([1.0])})
        tensor(5.3863)
    """

    def __init__(self, losses: Any, weights: Mapping[Any, float] | Sequence[float] | None = None) -> None:
        items = losses.items() if isinstance(losses, dict) else enumerate(losses)
        self.losses = {key: loss_by_name(loss) if isinstance(loss, str) else loss for key, loss in items}
        for key, loss in self.losses.items():
            if not callable(loss) or isinstance(loss, type):
                raise SettingError(f"Trainer: loss[{key!r}] must be a loss or the name of one, got {loss!r}.")
        given = dict(weights.items() if isinstance(weights, Mapping) else enumerate(weights or ()))
        strange = [key for key in given if key not in self.losses]
        if strange:
            raise SettingError(
                f"Trainer: loss_weights names {strange[0]!r}, and there are losses for {_names(self.losses)}."
            )
        self.weights = {key: float(given.get(key, 1.0)) for key in self.losses}

    def __call__(self, output: Any, target: Any) -> Tensor:
        return self.total(lambda loss, one, of: loss(one, of), output, target)

    def total(self, made: Callable[[Loss, Any, Any], Tensor], output: Any, target: Any) -> Tensor:
        """The weighted sum of what `made(loss, output, target)` makes of each part."""
        terms = [weight * self.part(key, made, output, target) for key, weight in self.weights.items()]
        total: Tensor = sum(terms[1:], terms[0])
        return total

    def part(self, key: Any, made: Callable[[Loss, Any, Any], Tensor], output: Any, target: Any) -> Tensor:
        """What `made` makes of one part."""
        return made(self.losses[key], self._of(output, key, "outputs"), self._of(target, key, "targets"))

    def _of(self, tree: Any, key: Any, what: str) -> Any:
        self.check(tree, what)
        return tree[key]

    def check(self, tree: Any, what: str) -> None:
        """Raise `ShapeError` unless these outputs or targets are of the same keys or places as the losses."""
        keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, tuple) else None
        if keys is None or set(keys) != set(self.losses):
            came = f"{_names(keys)}" if keys is not None else f"one {type(tree).__name__}"
            raise ShapeError(
                f"fit: there are losses for {_names(self.losses)}, so there must be {what} for the same, got {came}. "
                f"Return a dict from forward, and pass y as a dict with the same names (or tuples for both)."
            )


def _names(keys: Any) -> str:
    return ", ".join(map(repr, keys))


def check(model: Module, loss: Loss, metrics: Mapping[str, Loss], x: Any, y: Any, who: str, own: Loss) -> None:
    """One small eager pass: the model takes these rows, and loss and metrics its outputs and these targets.

    Args:
        own: the loss as the user gave it.

    Raises:
        ShapeError: an output has not a row for each row, or a loss or metric is no tensor without axes.
    """
    rows = min(2, count_of(x))
    check_inputs(model, x, who)
    with no_grad():
        output = called(model, few(x, rows))
        check_outputs(output, rows, who)
        _check_losses(own, output, x, y, rows, who)
        for what, function in {"loss": loss, **metrics}.items():
            asked = statistics_of(function)
            check_scalar(what, function, asked(output) if y is None else asked(output, few(y, rows)), who)


def check_without_targets(functions: Mapping[str, Any], who: str) -> None:
    """Raise where there are no targets, and the loss or a metric takes one.

    Raises:
        DataError: it names it.
    """
    for what, function in functions.items():
        for one in function.losses.values() if isinstance(function, Losses) else (function,):
            try:
                inspect.signature(getattr(one, "forward", one)).bind(None)
            except TypeError:
                raise DataError(
                    f"{who}: y is None, and {what} ({name_of(one)}) takes a target, too. Pass y (of a file or frame the name "
                    f"of its column), or give a function of the output alone: loss(output)."
                ) from None
            except ValueError:  # nobody knows what it takes
                continue


def check_outputs(output: Any, rows: int, who: str) -> None:
    """Raise `ShapeError` unless each output has a row for each row that went in."""
    for i, leaf in enumerate(trees.leaves(output)):
        if not isinstance(leaf, Tensor) or leaf.ndim == 0 or len(leaf) != rows:
            came = f"shape {leaf.shape} for {rows}" if isinstance(leaf, Tensor) else type(leaf).__name__
            raise ShapeError(
                f"{who}: each output of the model must be a tensor with a row for each row of X, got {came} (output "
                f"{i}). Keep the first axis for the rows."
            )


def check_scalar(what: str, function: Loss, value: object, who: str) -> None:
    """Raise unless this is what a loss or metric may give for a batch.

    Raises:
        ShapeError: it is no tensor, or has axes.
    """
    if isinstance(value, Tensor) and value.ndim < (2 if is_exact(function) else 1):
        return
    came = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
    raise ShapeError(
        f"{who}: {what} must be a tensor without axes (the mean over the batch), got {came}. "
        f"Reduce it, for example with .mean() or reduction='mean'."
    )


def _check_losses(loss: Loss, output: Any, x: Any, y: Any, rows: int, who: str) -> None:
    """Each loss takes its output and its target; where one does not, the message speaks of the user's shapes.

    Raises:
        ShapeError: it names the output.
    """
    if y is None:
        return
    if not isinstance(loss, Losses):
        if _is_ours(loss) and (isinstance(output, (dict, tuple)) or isinstance(y, (dict, tuple))):
            raise ShapeError(
                f"{who}: the loss {name_of(loss)} takes one output and one target, and the model gives "
                f"{_shapes(output, 'output', count_of(x))} with {_shapes(y, 'y', count_of(x))}. Give a loss for each output, "
                f"as a tuple or dict like the model's outputs, or a function of all outputs and all targets."
            )
        return
    loss.check(output, "outputs")
    loss.check(few(y, rows), "targets")
    for key, one in loss.losses.items():
        try:
            loss.part(key, lambda function, *of: function(*of), output, few(y, rows))
        except (ChainruleError, TypeError) as error:
            whole = trees.mapped(lambda leaf: zeros(count_of(x), *leaf.shape[1:], dtype=leaf.dtype), output)
            parts = [whole, trees.mapped(tensor, y)]
            if not _has(parts, key):
                raise
            label = f"[{key!r}]"
            raise ShapeError(
                f"{who}: the loss of output {key!r}, {name_of(one)}, does not take "
                f"{_shapes(parts[0][key], f'output{label}', count_of(x))} with {_shapes(parts[1][key], f'y{label}', count_of(x))}: "
                f"{_said(one, [part[key] for part in parts], error)} Check that outputs, losses and targets have one order."
            ) from error


def _has(trees_: list[Any], key: Any) -> bool:
    return all(
        key in tree if isinstance(tree, dict) else isinstance(tree, tuple) and key < len(tree) for tree in trees_
    )


def _said(loss: Loss, parts: list[Any], error: Exception) -> str:
    """What the loss says of all rows, so that its numbers are the user's; of a few, where it takes them all."""
    try:
        loss(*parts)
    except (ChainruleError, TypeError) as whole:
        return str(whole)
    return str(error)


def _is_ours(loss: Loss) -> bool:
    where = getattr(loss, "__module__", None) if inspect.isfunction(loss) else type(loss).__module__
    return str(where).startswith("chainrule.nn")


def _shapes(tree: Any, name: str, rows: int) -> str:
    """The leaves with their shapes, as they are for all rows."""
    return " and ".join(f"{label} of shape {(rows, *leaf.shape[1:])}" for label, leaf in labelled(tree, name))


def metrics_of(losses: Losses, given: Any) -> dict[str, Metric]:
    """The metrics under the names they have in the history: the loss of each output, and what was given for it.

    Args:
        given: a dict from the name or position of an output to its metrics, or functions of all outputs and targets.

    Raises:
        SettingError: a metric by name without its output, or an output that there is none of.
    """
    found: dict[str, Metric] = {f"{key}_loss": _Part(losses, key, loss) for key, loss in losses.losses.items()}
    if not isinstance(given, Mapping):
        named = [one for metric in given for one in (metric if isinstance(metric, (list, tuple)) else [metric])]
        named = [one for one in named if isinstance(one, str)]
        if named:
            raise SettingError(
                f"Trainer: with a loss for each output, say which one the metric {named[0]!r} is of: "
                f"metrics={{{next(iter(losses.losses))!r}: [{named[0]!r}]}}."
            )
        return {**found, **resolve(given, losses, None)}
    for key, some in given.items():
        if key not in losses.losses:
            raise SettingError(
                f"Trainer: metrics names the output {key!r}, and there are losses for {_names(losses.losses)}."
            )
        loss = losses.losses[key]
        for name, metric in resolve([some] if callable(some) else some, loss, meaning_of(loss)).items():
            if is_ranked(metric):
                raise SettingError(
                    f"Trainer: the metric {name!r} puts all rows in order, which it cannot for one of several outputs yet. "
                    f"Take another for the output {key!r}."
                )
            found[f"{key}_{name}"] = (_ExactPart if is_exact(metric) else _Part)(losses, key, metric)
    return found


class _Part:
    """A loss or metric of one of several outputs."""

    def __init__(self, losses: Losses, key: Any, function: Metric) -> None:
        self.losses, self.key, self.function = losses, key, function

    def __call__(self, output: Any, target: Any) -> Tensor:
        return self.losses.part(self.key, lambda _, one, of: self.function(one, of), output, target)


class _ExactPart(_Part):
    """A metric of one of several outputs that is made of means over the rows."""

    def statistics(self, output: Any, target: Any) -> Tensor:
        """Those of that output."""
        return self.losses.part(self.key, lambda _, one, of: statistics_of(self.function)(one, of), output, target)

    def result(self, means: Array) -> float:
        """The metric, of the means over all rows."""
        metric: Any = self.function
        return float(metric.result(means))
