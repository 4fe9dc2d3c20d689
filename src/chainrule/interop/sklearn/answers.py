"""What the estimators around modules ask of what they are given, and answer, alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from chainrule.errors import SettingError
from chainrule.nn.meaning import BINARY_LOGITS, LOGITS, MEANINGS, VALUES, Meaning, name_of
from chainrule.training import Trainer

Array = np.ndarray[Any, Any]


def check_dense(X: Any, who: str, instead: str = "") -> None:
    """Raise for rows that are a sparse array of SciPy's.

    Args:
        who: the estimator.
        instead: a better way than to write them out, where there is one.
    """
    if not sparse.issparse(X):
        return
    raise TypeError(
        f"{who}: X must be a dense array, got a sparse one, {type(X).__name__} of shape {X.shape}. {instead}Write it out by "
        f"X.toarray(); in a pipeline let what makes it do so: OneHotEncoder(sparse_output=False), ColumnTransformer(..., "
        f"sparse_threshold=0). (MLPClassifier and MLPRegressor take sparse arrays.)"
    )


def check_no_words(X: Any, who: str) -> None:
    """Raise for an array of objects or texts with texts in it that are no numbers, where none of its columns is said to be a category."""
    array = X if isinstance(X, np.ndarray) else np.array(X, object)
    if array.ndim != 2 or array.dtype.kind not in "OUS":
        return
    words = {number: word for number, column in enumerate(array.T) if (word := _word(column.tolist())) is not None}
    if words:
        number, word = next(iter(words.items()))
        raise ValueError(
            f"{who}: X holds texts that are no numbers, such as {word!r} in column {number}. Say which columns are categories, "
            f"categorical_features={[*words]}, or give a data frame, which says it by its dtypes (in a pipeline: "
            f"ColumnTransformer(...).set_output(transform='pandas'))."
        )


def _word(values: Sequence[object]) -> str | None:
    """The first text that is no number."""
    for value in values:
        try:
            if isinstance(value, str):
                float(value)
        except ValueError:
            return str(value)
    return None


def check_class_weight(estimator: Any) -> None:
    """Raise where ``class_weight`` is neither a dict, nor ``"balanced"``, nor None."""
    given = estimator.class_weight
    if given is None or isinstance(given, Mapping) or (isinstance(given, str) and given == "balanced"):
        return
    raise SettingError(
        f"{type(estimator).__name__}: class_weight must be 'balanced', a dict with a factor for each class, or None, got "
        f"{given!r}."
    )


def check_of_classes(who: str, meaning: Meaning | None, loss: Any) -> None:
    """Raise before a classifier trains whose outputs could not be taken for classes afterwards."""
    if meaning is None:
        raise SettingError(
            f"{who}: to give classes it must know what the outputs mean, and the loss {name_of(loss)} does not say. Pass "
            f"output='logits', or another of: {', '.join(m for m in MEANINGS if m != VALUES.name)}."
        )
    if meaning == VALUES:
        raise SettingError(
            f"{who}: under {name_of(loss)} the outputs are values and no classes. Take a loss for classes, such as "
            f"'cross_entropy', or NetworkRegressor."
        )


def warn_if_interrupted(estimator: Any) -> None:
    """Say, as scikit-learn's networks do, that Ctrl-C ended a fit: a search or a cross-validation would count it as a whole one."""
    history = estimator.history_
    if history.interrupted:
        warnings.warn(
            f"{type(estimator).__name__}: training interrupted by user after {history.epochs} epochs. The model has the weights "
            f"of then.",
            stacklevel=3,
        )


def log_probabilities(trainer: Trainer, X: Array, probabilities: Callable[[Array], Array]) -> Array:
    """The logarithm of the probability of each class, (N, classes): finite also where a float cannot hold the probability.

    Args:
        trainer: its model and loss.
        X: checked rows.
        probabilities: of each class for such rows.
    """
    meaning = trainer.session.meaning
    if meaning in (LOGITS, BINARY_LOGITS):
        z = trainer.predict(X)
        if meaning == BINARY_LOGITS:
            z = np.stack([np.zeros_like(z.reshape(-1)), z.reshape(-1)], axis=1)
        if np.isfinite(z).all():
            wide = z.astype(
                np.float64
            )  # of a probability of nearly 1 the logarithm has digits that float32 loses on the way
            wide -= wide.max(axis=1, keepdims=True)
            return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)), z.dtype)
    with np.errstate(divide="ignore"):  # of 0
        return np.asarray(np.log(probabilities(X)))


def log_mean(logarithms: Sequence[Array]) -> Array:
    """The logarithm of the mean of what these are logarithms of."""
    return np.asarray(np.logaddexp.reduce(logarithms, axis=0) - np.log(len(logarithms)), logarithms[0].dtype)
