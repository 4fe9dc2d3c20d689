"""What the outputs of a model mean. The loss tells, and whoever measures, predicts or explains asks here.

A loss declares it in its attribute ``reads``, by name: `MEANINGS`. Nothing is concluded from a shape.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from chainrule.errors import SettingError, ShapeError, unknown_name

Array = np.ndarray[Any, Any]
Loss = TypeVar("Loss", bound=Callable[..., Any])
CLASSES = 1  # the axis of the classes in outputs (N, C, ...), as in `nn.functional.cross_entropy`
LOOSE = 1e-3  # how far probabilities in float32 may be from a sum of 1 over some thousand classes


@dataclass(frozen=True)
class Meaning:
    """What one output is.

    Attributes:
        name: as a loss declares it.
        words: the same for a reader.
        binary: each output is about one yes-or-no question of its own.
    """

    name: str
    words: str
    binary: bool = False

    @property
    def over_classes(self) -> bool:
        """The outputs along axis 1 are about the classes of one choice."""
        return not self.binary and self.name != "values"

    def probabilities(self, output: Array) -> Array:
        """The probability of each class, shaped like the outputs; for yes-or-no questions that of yes.

        Exact in the tails: where a float can hold the probability, it is not 0.

        Raises:
            SettingError: the outputs are values, or scores.
            ShapeError: they have no axis of classes where there must be one.
        """
        self._check_axis(output)
        with np.errstate(under="ignore"):  # a probability below the smallest float is 0
            if self.name == "values":
                raise SettingError("values are not probabilities. This is a bug in chainrule.")
            if self.name == "scores":
                raise SettingError(
                    "the outputs are scores of classes, which have an order and no probabilities. Take the classes, or train "
                    "with a loss of logits such as F.cross_entropy."
                )
            if self.name == "log_probabilities":
                return np.asarray(np.exp(output))
            if "logits" not in self.name:
                return output
            return _sigmoid(output) if self.binary else _softmax(output)

    def both(self, output: Array) -> Array:
        """The probabilities of no and of yes, (N, 2), of one yes-or-no question a row.

        Of logits neither is 1 less the other, which has no digits left where that is nearly 1.
        """
        output = output.reshape(len(output), 1)
        if self.name == "binary_logits":
            return self.probabilities(np.concatenate([-output, output], axis=1))
        yes = self.probabilities(output)
        return np.concatenate([1 - yes, yes], axis=1)

    def classes(self, output: Array) -> Array:
        """The class of each output, int64: the likeliest along axis 1, or 1 where yes is likelier than no."""
        self._check_axis(output)
        if self.over_classes:
            return np.asarray(output.argmax(axis=CLASSES))
        if not self.binary:
            raise SettingError("values are no classes. This is a bug in chainrule.")
        return np.asarray(output > (0 if self.name == "binary_logits" else 0.5), np.int64)

    def _check_axis(self, output: Array) -> None:
        if self.over_classes and output.ndim <= CLASSES:
            raise ShapeError(
                f"the outputs are {self.words}, so they must have the shape (N, C, ...), got {output.shape}. Give the last "
                f"layer an output for each class, or take a loss for yes or no (F.binary_cross_entropy_with_logits)."
            )

    def confidence(self, output: Array) -> Array | None:
        """The probability of the class of each output, one axis; None where these are no probabilities."""
        if self.name == "scores":
            return None
        p = self.probabilities(output)
        if self.broken(p):
            return None
        return np.asarray(np.maximum(p, 1 - p) if self.binary else p.max(axis=CLASSES)).reshape(-1)

    def labels(self, target: Array) -> Array:
        """The class that each target names: class numbers as they are, probabilities by the largest of them."""
        if self.binary:
            return np.asarray(target > 0.5, np.int64)
        return np.asarray(target.argmax(axis=CLASSES) if target.dtype.kind == "f" else target)

    def broken(self, probabilities: Array) -> str:
        """Why these cannot be the probabilities that they are said to be; empty where they can."""
        with np.errstate(all="ignore"):
            outside = ~((probabilities >= 0) & (probabilities <= 1 + LOOSE))
            if outside.any():
                return f"{probabilities[outside].flat[0]:.4g} is not in [0, 1]"
            if not self.over_classes:
                return ""
            sums = probabilities.sum(axis=CLASSES)
        worst = sums.flat[int(np.abs(sums - 1).argmax())] if sums.size else 1.0
        return f"those of one row sum to {worst:.4g}" if abs(worst - 1) > LOOSE else ""


LOGITS = Meaning("logits", "logits over the classes of axis 1")
PROBABILITIES = Meaning("probabilities", "probabilities of the classes of axis 1")
LOG_PROBABILITIES = Meaning("log_probabilities", "log-probabilities of the classes of axis 1")
BINARY_LOGITS = Meaning("binary_logits", "one logit for each yes-or-no question", binary=True)
BINARY_PROBABILITIES = Meaning("binary_probabilities", "one probability for each yes-or-no question", binary=True)
SCORES = Meaning("scores", "scores of the classes of axis 1, of which the highest counts")
VALUES = Meaning("values", "values, as in a regression")
MEANINGS = {
    meaning.name: meaning
    for meaning in (LOGITS, PROBABILITIES, LOG_PROBABILITIES, BINARY_LOGITS, BINARY_PROBABILITIES, SCORES, VALUES)
}


def reads(meaning: Meaning, **about: Any) -> Callable[[Loss], Loss]:
    """Declare what the loss below reads, and more about it as attributes: ``@reads(BINARY_LOGITS, reads_shares=True)``.

    ``reads_shares``: its targets are probabilities, so that a number outside [0, 1] is none; ``reads_numbers``: over
    classes, its targets are class numbers and never probabilities. A loss declared so weighs its rows where it is asked
    to (`reduction.weighing_rows`), and says that in ``weighs_rows``.
    """

    def declared(loss: Loss) -> Loss:
        for name, value in {"reads": meaning.name, "weighs_rows": True, **about}.items():
            setattr(loss, name, value)
        return loss

    return declared


def named(name: object, who: str) -> Meaning:
    """The meaning of this name.

    Raises:
        UnknownNameError: there is none.
    """
    if not isinstance(name, str) or name not in MEANINGS:
        raise unknown_name(f"meaning of outputs in {who}", name, list(MEANINGS))
    return MEANINGS[name]


def meaning_of(loss: Any) -> Meaning | None:
    """What the loss says that it reads; None where it says nothing.

    A `functools.partial` speaks for the loss inside, a subclass of a loss module for that, unless it has its own
    ``reads``.

    Example:
        >>> from functools import partial
        >>> import chainrule.nn.functional as F
        >>> meaning_of(partial(F.cross_entropy, label_smoothing=0.1)).name
        'logits'
        >>> meaning_of(lambda output, target: (output - target).abs().max()) is None
        True
    """
    told = getattr(loss, "reads", None)
    if isinstance(told, str):
        return named(told, "the loss's attribute reads")
    return meaning_of(loss.func) if isinstance(loss, functools.partial) else None


def option_of(loss: Any, name: str, default: Any = None) -> Any:
    """A setting of a loss: an attribute of a loss module, an argument that a function has a value for."""
    if isinstance(loss, functools.partial):
        return loss.keywords[name] if name in loss.keywords else option_of(loss.func, name, default)
    if hasattr(loss, name):
        return getattr(loss, name)
    function = inspect.unwrap(loss) if hasattr(loss, "__wrapped__") else loss
    code = getattr(function, "__code__", None)
    if code is None:
        return default
    if name in (function.__kwdefaults__ or ()):
        return function.__kwdefaults__[name]
    values = function.__defaults__ or ()  # of the last arguments; inspect.signature takes a hundred times as long
    arguments = code.co_varnames[code.co_argcount - len(values) : code.co_argcount]
    return values[arguments.index(name)] if name in arguments else default


def name_of(loss: object) -> str:
    """What to call a loss: a function's name, or an object's class."""
    inner = getattr(loss, "func", loss)
    return str(getattr(inner, "__name__", type(inner).__name__))


def _softmax(logits: Array) -> Array:
    with np.errstate(invalid="ignore"):  # of an infinite one NaN, of which who asked is told
        powers = np.exp(logits - logits.max(axis=CLASSES, keepdims=True))
        return np.asarray(powers / powers.sum(axis=CLASSES, keepdims=True))


def _sigmoid(logits: Array) -> Array:
    power = np.exp(-np.abs(logits))  # at most 1: no overflow, and small probabilities keep their digits
    return np.asarray(np.where(logits >= 0, 1, power) / (1 + power))
