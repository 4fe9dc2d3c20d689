"""What is measured beside the loss, by name or as a function ``(output, target) -> Tensor`` without axes.

A metric is the mean over the rows of a batch; an epoch's value is the mean over its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chainrule.errors import SettingError, ShapeError, unknown_name
from chainrule.graph import who
from chainrule.tensor import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """The share of rows whose largest output is the target's class; for one logit a row, ``(logit > 0) == target``.

    Args:
        output: logits or probabilities (N, C), (N, C, ...); or one logit for each target, of the target's shape.
        target: class numbers (N,), (N, ...), or 0 and 1.

    Raises:
        ShapeError: the shapes do not fit.

    Example:
        >>> import chainrule as cr
        >>> accuracy(cr.tensor([[1.0, 2.0], [3.0, 0.0]]), cr.tensor([1, 1]))
        tensor(0.5000)
    """
    if output.shape == target.shape:
        return ((output > 0) == (target > 0.5)).float().mean()
    if output.shape[:1] + output.shape[2:] != target.shape:
        raise ShapeError(
            f"{who('accuracy')}: output must be (N, C, ...) for a target (N, ...), or have the target's shape, got "
            f"{output.shape} and {target.shape}. Reshape one of them, or measure with a function of your own."
        )
    return (output.argmax(1) == target).float().mean()


def mse(output: Tensor, target: Tensor) -> Tensor:
    """The mean of ``(output - target)^2``; both of one shape.

    Example:
        >>> import chainrule as cr
        >>> mse(cr.tensor([1.0, 3.0]), cr.tensor([1.0, 1.0]))
        tensor(2.)
    """
    _same_shape("mse", output, target)
    return ((output - target) ** 2).mean()


def mae(output: Tensor, target: Tensor) -> Tensor:
    """The mean of ``|output - target|``; both of one shape.

    Example:
        >>> import chainrule as cr
        >>> mae(cr.tensor([1.0, 3.0]), cr.tensor([1.0, 1.0]))
        tensor(1.)
    """
    _same_shape("mae", output, target)
    return (output - target).abs().mean()


METRICS: dict[str, Metric] = {"accuracy": accuracy, "mse": mse, "mae": mae}


def resolve(metrics: Iterable[str | Metric]) -> dict[str, Metric]:
    """The metrics under the names they have in the history.

    Raises:
        UnknownNameError: no metric of that name.
        SettingError: two of one name, or something that is neither a name nor a function.
    """
    found: dict[str, Metric] = {}
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        if isinstance(metric, str):
            if metric not in METRICS:
                raise unknown_name("metric", metric, list(METRICS))
            name, function = metric, METRICS[metric]
        elif callable(metric):
            name, function = getattr(metric, "__name__", type(metric).__name__), metric
        else:
            raise SettingError(
                f"Trainer: a metric must be a name or a function (output, target) -> Tensor, got {metric!r}. "
                f"Names: {', '.join(sorted(METRICS))}."
            )
        if name in found or name in {"loss", "lr", "seconds"}:
            raise SettingError(f"Trainer: the name {name!r} is taken in the history. Give the metric another __name__.")
        found[name] = function
    return found


def _same_shape(name: str, output: Tensor, target: Tensor) -> None:
    if output.shape != target.shape:
        raise ShapeError(
            f"{who(name)}: output and target must have the same shape, got {output.shape} and {target.shape}. "
            f"Reshape one of them: broadcasting would compare every row with every other."
        )
