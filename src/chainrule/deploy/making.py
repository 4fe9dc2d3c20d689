"""Bundles of what was trained: a trainer, an estimator of scikit-learn's, a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from chainrule.data.named import listed
from chainrule.data.sources import load
from chainrule.deploy.bundle import Bundle, labels_of
from chainrule.deploy.mixed import Mixed
from chainrule.deploy.rows import Columns, OfTable, RowEncoder
from chainrule.errors import SettingError
from chainrule.names import takes_keywords
from chainrule.nn import Module
from chainrule.nn.meaning import VALUES, Meaning
from chainrule.tensor.functions import no_grad
from chainrule.training import columns as learned
from chainrule.training import inputs, rebuilt
from chainrule.training.metrics import told
from chainrule.training.trainer import Trainer

if TYPE_CHECKING:
    from chainrule.data.table import TablePipeline

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Fitted:
    """What an estimator of `chainrule.sklearn` consists of, which it gives as ``_bundled()``."""

    model: Module
    meaning: Meaning
    classes: Sequence[Any] | None
    names: Sequence[str] | None
    columns: learned.Columns | None = None  # what they become, where that was learned
    center: Sequence[float] | None = None
    scale: Sequence[float] | None = None
    range: tuple[Sequence[float], Sequence[float]] | None = None  # within which values are cut off


@takes_keywords("torch")
def bundle(
    source: Any, *, pipeline: TablePipeline | None = None, columns: Sequence[str] | None = None,
    classes: Sequence[Any] | None = None,
) -> Bundle:  # fmt: skip
    """What was trained as one thing that predicts from plain rows, ``bundle.predict({"age": 31, "city": "Bern"})``.

    Args:
        source: a `Trainer`; a fitted estimator of `chainrule.sklearn`, a scikit-learn ``Pipeline`` of scalers that ends in
            one, or a search that has found one of these; the folder of a run of ``chainrule train``.
        pipeline: of a trainer on a table, the fitted `TablePipeline` that its rows came from.
        columns: of a trainer, the names of the columns of its rows, where those are plain numbers and it was fitted on arrays;
            of frames and files it knows them.
        classes: of a trainer, the label of each class, in order.

    Returns:
        A `Bundle`, which shares the model with the source: train on, and it predicts by the new weights.

    Raises:
        SettingError: the source is none of these, a step of a pipeline is none that a bundle can hold, or the model has other
            numbers of columns or classes.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> _ = cr.manual_seed(0)
        >>> trainer = cr.Trainer(nn.Linear(2, 2), "cross_entropy", "adam")
        >>> _ = trainer.fit([[0.0, 1.0], [1.0, 0.0]] * 8, [0, 1] * 8, epochs=200, seed=0, progress=False)
        >>> made = cr.bundle(trainer, columns=["left", "right"], classes=["no", "yes"])
        >>> made.predict({"left": 3.0, "right": 0.0})
        'yes'
    """
    if isinstance(source, Trainer):
        return _of_trainer(source, pipeline, columns, classes)
    if pipeline is not None or columns is not None or classes is not None:
        raise SettingError(
            "bundle: pipeline, columns and classes are for a Trainer; others know theirs. Leave them out."
        )
    if isinstance(source, (str, os.PathLike)):
        return _of_run(Path(source))
    if hasattr(source, "best_estimator_"):
        return bundle(source.best_estimator_)
    if hasattr(source, "steps") or hasattr(source, "_bundled"):
        return _of_estimator(source)
    raise SettingError(
        f"bundle: source must be a Trainer, an estimator of chainrule.sklearn or the folder of a run, got "
        f"{type(source).__name__}. Give one of them."
    )


def _of_trainer(
    trainer: Trainer, pipeline: TablePipeline | None, columns: Sequence[str] | None, classes: Sequence[Any] | None
) -> Bundle:
    meaning = told(trainer.loss, trainer.session.meaning, "bundle")
    if pipeline is not None:
        if columns is not None or classes is not None:
            raise SettingError("bundle: the pipeline knows columns and classes. Leave them out.")
        return _on_table(trainer.model, meaning, pipeline, {})
    names = _names(trainer, columns)
    if classes is not None and meaning == VALUES:
        raise SettingError("bundle: the outputs are values and have no classes. Leave classes out.")
    made = Bundle(trainer.model, Columns(names), meaning, labels_of(classes, "bundle"))
    if names is not None:
        _check_fit(made, names)
    return made


def _names(trainer: Trainer, columns: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of the columns: those that were given, or that the trainer was fitted on."""
    session = trainer.session
    own = None if session.columns is None else session.columns.parts.get("X")
    names = own if columns is None else tuple(map(str, columns))
    if names is not None and (not names or len(set(names)) < len(names)):
        raise SettingError(f"bundle: columns must be names, each once, got {list(names)!r}.")
    if own is not None and names != own:
        raise SettingError(
            f"bundle: columns must be those that the trainer was fitted on, {listed(own)}, in their order, got {listed(names or ())}. "
            f"Leave columns out: the trainer knows them."
        )
    return names


def _check_fit(made: Bundle, names: tuple[str, ...]) -> None:
    """Try one row: does the model take so many columns, and give an output for each label?"""
    with inputs.evaluating(made.model), no_grad():
        row = np.zeros((1, len(names)), np.int64)
        _, output = inputs.features(made.model, row, "bundle", f"of the columns {listed(names)}, a row")
    made.check_labels(output.shape)


def _on_table(model: Module, meaning: Meaning, pipeline: TablePipeline, reading: dict[str, Any]) -> Bundle:
    rows: RowEncoder = OfTable(pipeline, reading)
    if pipeline.task_ == "classification":
        return Bundle(model, rows, meaning, labels_of(pipeline.classes_, "bundle"))  # type: ignore[arg-type]
    center, scale = (tuple(getattr(target, name) for target in pipeline.targets_) for name in ("center", "scale"))
    return Bundle(model, rows, meaning, None, center, scale)


def _of_run(folder: Path) -> Bundle:
    trainer, config = rebuilt.trained(folder)
    meaning = told(trainer.loss, trainer.session.meaning, "bundle")
    if rebuilt.on_table(config):
        from chainrule.training import tabular

        return _on_table(trainer.model, meaning, tabular.kept_pipeline(folder), dict(config["table"]["reading"]))
    return Bundle(trainer.model, Columns(tuple(load(config["dataset"]).feature_names)), meaning)


# -- estimators --------------------------------------------------------------------------------------------


def _of_estimator(source: Any) -> Bundle:
    steps = [step for _, step in source.steps] if hasattr(source, "steps") else [source]
    steps = [step for step in steps if step is not None and step != "passthrough"]
    *scalers, last = steps
    if not hasattr(last, "_bundled"):
        _refuse(last, "is no estimator of chainrule.sklearn")
    fitted: Fitted = last._bundled()
    rows = _rows_of(scalers, fitted, getattr(steps[0], "feature_names_in_", fitted.names))
    center, scale = (None if v is None else tuple(map(float, v)) for v in (fitted.center, fitted.scale))
    return Bundle(
        fitted.model, rows, fitted.meaning, labels_of(fitted.classes, "bundle"), center, scale, _range(fitted)
    )


def _rows_of(scalers: list[Any], fitted: Fitted, given: Sequence[str] | None) -> RowEncoder:
    names = None if given is None else tuple(map(str, given))
    if fitted.columns is None:
        return Columns(names, *_joined([_affine(scaler) for scaler in scalers]))
    if scalers:
        _refuse(scalers[0], "stands in front of an estimator that scales its columns itself: leave it out")
    return Mixed(names, fitted.columns)


def _range(fitted: Fitted) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if fitted.range is None:
        return None
    low, high = (tuple(map(float, values)) for values in fitted.range)
    return low, high


#: scikit-learn's transformers that multiply each column by a number and add one.
_SCALERS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "StandardScaler": lambda s: (s.mean_ if s.with_mean else 0.0, 1 / s.scale_ if s.with_std else 1.0),
    "RobustScaler": lambda s: (s.center_ if s.with_centering else 0.0, 1 / s.scale_ if s.with_scaling else 1.0),
    "MaxAbsScaler": lambda s: (0.0, 1 / s.scale_),
    "MinMaxScaler": lambda s: (-s.min_ / s.scale_, s.scale_),
}


def _affine(scaler: Any) -> tuple[Array, Array]:
    """The shift and the scale of ``(x - shift) * scale``."""
    kind = type(scaler)
    if kind.__name__ not in _SCALERS or not kind.__module__.startswith("sklearn.") or getattr(scaler, "clip", False):
        _refuse(scaler, "is no scaler that a bundle can hold")
    shift, scale = _SCALERS[kind.__name__](scaler)
    count = scaler.n_features_in_
    return np.broadcast_to(np.asarray(shift, np.float64), count), np.broadcast_to(np.asarray(scale, np.float64), count)


def _joined(steps: list[tuple[Array, Array]]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """One shift and scale for several, the first of them first."""
    if not steps:
        return None, None
    shift, scale = steps[0]
    for after, factor in steps[1:]:
        shift, scale = shift + after / scale, scale * factor
    return tuple(shift.tolist()), tuple(scale.tolist())


def _refuse(step: Any, why: str) -> NoReturn:
    raise SettingError(
        f"bundle: the step {type(step).__name__} {why}. It can hold {', '.join(_SCALERS)} in front of an estimator of "
        f"chainrule.sklearn; for tables with categories and missing values use a TablePipeline and a Trainer."
    )
