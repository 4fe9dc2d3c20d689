"""Bundles: a model with what it takes to predict from plain rows, and what its outputs mean, in one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.deploy import rows as rows_of
from chainrule.deploy.model import FORMAT, about, check_model, made_of, read
from chainrule.deploy.rows import RowEncoder, is_one, several
from chainrule.errors import SettingError
from chainrule.files.document import Fields, is_number, short
from chainrule.names import takes_keywords
from chainrule.nn import Module
from chainrule.nn.compiled import bare
from chainrule.nn.meaning import CLASSES, MEANINGS, VALUES, Meaning
from chainrule.training.checkpoints import save_file
from chainrule.training.inputs import model_dtype
from chainrule.training.predict import Predictor

Array = np.ndarray[Any, Any]
_BATCH = 256  # rows that a native call works on at once


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model that predicts from plain rows: dicts, lists of dicts, pandas or polars tables, arrays.

    Made by `cr.bundle`, kept by `save`, read by `cr.load_bundle`. Several threads may predict with one that was read.

    Attributes:
        model: the network.
        rows: how rows become what it takes (`Columns` of numbers, `Mixed` ones as an estimator has learned them, or what a
            table's pipeline has learned).
        meaning: of its outputs.
        classes: the labels, in order; None for values, and for classes that are numbers from 0.
        center, scale: by which values are scaled back.
        range: the lowest and the highest that they can be; None: no bounds.
    """

    model: Module
    rows: RowEncoder
    meaning: Meaning
    classes: tuple[Any, ...] | None = None
    center: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    range: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    _predictor: Predictor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_predictor", Predictor(self))

    # ---------------------------------------------------------------- predicting

    def outputs(self, rows: Any) -> Array:
        """What the network gives for each row, in evaluation mode."""
        return self.run(self.rows.encode(several(rows)))

    def run(self, X: Array) -> Array:
        """The same of rows that are encoded."""
        given = X.astype(model_dtype(self.model).numpy, copy=False) if X.dtype.kind == "f" else X
        found: Array = self._predictor(given, _BATCH)
        self.check_labels(found.shape)
        return found

    def check_labels(self, shape: tuple[int, ...]) -> None:
        """Raise `SettingError` where outputs of this shape have not one for each label."""
        if self.classes is None or self.meaning == VALUES:
            return
        outputs = 2 if self.meaning.binary else shape[CLASSES] if len(shape) > CLASSES else 1
        if outputs != len(self.classes):
            raise SettingError(
                f"bundle: classes must be a label for each of the {outputs} classes that the model tells apart, got "
                f"{len(self.classes)}, {short(self.classes)}."
            )

    def predict(self, rows: Any) -> Any:
        """The label, or the value, of each row.

        Args:
            rows: a dict for one row, ``{"age": 31, "city": "Bern"}``; a list of dicts, a dict of columns, a pandas or polars
                table or an array for several.

        Returns:
            One label or number for one row; an array of them for several. Of several values: an array for each row.

        Raises:
            DataError: a column is missing or no number, or the rows have another number of columns.
        """
        one = is_one(rows)
        found = self.answers(self.run(self.rows.encode(several(rows))))
        if not one:
            return found
        return found[0].item() if isinstance(found[0], np.generic) else found[0]

    def predict_proba(self, rows: Any) -> Any:
        """The probability of each class: for one row a dict by label, for several an array (N, classes).

        Raises:
            SettingError: the outputs are values, or scores.
            DataError: as `predict`.
        """
        found = self.probabilities(self.outputs(rows))
        if not is_one(rows):
            return found
        labels = self.classes if self.classes is not None else range(found.shape[1])
        return dict(zip(labels, found[0].tolist(), strict=True))

    def answers(self, outputs: Array) -> Array:
        """The labels or values that outputs of the network say."""
        return self._values(outputs) if self.meaning == VALUES else self._labels(outputs)

    def probabilities(self, outputs: Array) -> Array:
        """The probability of each class, likewise: (N, classes)."""
        if self.meaning == VALUES:
            raise SettingError(
                "bundle.predict_proba: the outputs are values, which have no probabilities. Use predict."
            )
        one = self.meaning.binary and outputs.size == len(outputs)
        return self.meaning.both(outputs) if one else self.meaning.probabilities(outputs)

    def differences(self, rows: Any) -> list[str]:
        """How rows differ from those of the training: columns that are missing or not used, levels never seen."""
        return self.rows.differences(several(rows))

    def _values(self, output: Array) -> Array:
        values = output.reshape(len(output)) if output.size == len(output) else output
        if self.center is None or self.scale is None:
            return values
        center, scale = (np.array(v) if values.ndim > 1 else v[0] for v in (self.center, self.scale))
        found = np.asarray(values, np.float64) * scale + center
        return found if self.range is None else np.clip(found, *self.range)

    def _labels(self, output: Array) -> Array:
        numbers = self.meaning.classes(output)
        numbers = numbers.reshape(len(numbers)) if numbers.size == len(numbers) else numbers
        return numbers if self.classes is None or numbers.ndim > 1 else self._labelled()[numbers]

    def _labelled(self) -> Array:
        return np.array(self.classes, dtype=object if isinstance((self.classes or ("",))[0], str) else None)

    def __repr__(self) -> str:
        kind = type(self.rows).__name__
        what = f"{len(self.classes)} classes" if self.classes is not None else self.meaning.words
        return (
            f"<Bundle: {type(bare(self.model)).__name__} over {'a table' if kind == 'OfTable' else 'numbers'}, {what}>"
        )

    # ---------------------------------------------------------------- out and in

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to one file, whole or not at all; it is a model file, too, which `cr.load_model` reads, in evaluation mode.

        Raises:
            UnwritableFileError: the folder or the disk does not take it.
        """
        bundle = {
            "rows": self.rows.as_dict(), "meaning": self.meaning.name,
            "classes": None if self.classes is None else list(self.classes),
            "center": None if self.center is None else list(self.center),
            "scale": None if self.scale is None else list(self.scale),
            **({} if self.range is None else {"range": list(map(list, self.range))}),
        }  # fmt: skip
        meta = {"format": FORMAT, **about(self.model, predicting=True), "bundle": bundle}
        save_file(dict(bare(self.model).state_dict()), path, meta)


@takes_keywords("torch")
def load_bundle(path: str | os.PathLike[str], model: Module | None = None) -> Bundle:
    """The bundle that `Bundle.save` or ``chainrule export`` wrote; no code of the file is run.

    Args:
        path: the file.
        model: as for `load_model`: load the weights into this one.

    Raises:
        DamagedFileError: the file is missing, cut off, changed or of another kind.
        SettingError: the model has a class of your own in it, and no `model` was given.
        StateDictError: the weights do not fit `model`.

    Example:
        >>> import os, tempfile
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> X, y = cr.data.load("digits").train
        >>> trainer = cr.Trainer(nn.Linear(64, 10), "cross_entropy", "adam", lr=0.01)
        >>> _ = trainer.fit(X, y, epochs=3, seed=0, progress=False)
        >>> path = os.path.join(tempfile.mkdtemp(), "digits.bundle")
        >>> cr.bundle(trainer).save(path)
        >>> bundle = cr.load_bundle(path)
        >>> bool((bundle.predict(X) == trainer.predict_classes(X)).all())
        True
    """
    check_model("load_bundle", model)
    tensors, saved = read(path, "a bundle")
    if not saved.has("bundle"):
        saved.refuse("bundle", "there: this file has a model alone, which cr.load_model reads", None)
    found = saved.fields("bundle")
    meaning = found.text("meaning")
    if meaning not in MEANINGS:
        found.refuse("meaning", f"one of {', '.join(MEANINGS)}", meaning)
    classes = found.items("classes", _is_label, "a list of labels") if found.has("classes") else None
    if classes is not None and (
        len(classes) < 2 or len({type(c) for c in classes}) > 1 or len(set(classes)) < len(classes)
    ):
        found.refuse("classes", "two labels or more, each once, of one type", classes)
    center, scale = (_numbers(found, name) for name in ("center", "scale"))
    if (center is None) != (scale is None) or len(center or ()) != len(scale or ()) or center == ():
        found.refuse("center", "as many numbers as scale has", center)
    rows = rows_of.read(found.fields("rows"))
    made = made_of("load_bundle", saved, tensors, model)
    labels = None if classes is None else tuple(classes)
    return Bundle(made, rows, MEANINGS[meaning], labels, center, scale, _range(found, center))


def _range(found: Fields, center: tuple[float, ...] | None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if not found.has("range"):
        return None
    count = len(center or ())
    low, high = found.items("range", lambda v: _is_numbers(v, count), f"two lists of {count} numbers")[:2] or ((), ())
    if len(found.value["range"]) != 2 or not count or any(a > b for a, b in zip(low, high, strict=True)):
        found.refuse("range", f"two lists of {count} numbers, the lower ones first", found.value["range"])
    return tuple(low), tuple(high)


def _is_numbers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(is_number, value))


def _numbers(found: Fields, name: str) -> tuple[float, ...] | None:
    if not found.has(name):
        return None
    return tuple(
        found.items(name, lambda v: isinstance(v, (int, float)) and not isinstance(v, bool), "a list of numbers")
    )


def _is_label(value: object) -> bool:
    return isinstance(value, (str, bool, int, float))


def labels_of(classes: Sequence[Any] | None, who: str) -> tuple[Any, ...] | None:
    """Labels as a file holds them.

    Raises:
        SettingError: they are fewer than two, of several types, or no texts, numbers or booleans.
    """
    if classes is None:
        return None
    found = tuple(label.item() if isinstance(label, np.generic) else label for label in classes)
    if (
        len(found) < 2
        or len(set(found)) < len(found)
        or len({type(v) for v in found}) > 1
        or not all(map(_is_label, found))
    ):
        raise SettingError(
            f"{who}: classes must be two labels or more, each once, of one type (text, number, boolean), got {short(found)}. "
            f"Give one for each output."
        )
    return found
