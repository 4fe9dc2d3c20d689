"""What a training is given, arrays or a source, as rows that steps can take."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.available import available_bytes
from chainrule.data.checks import check_batch_size
from chainrule.data.named import has_names
from chainrule.errors import DataError, SettingError, ShapeError
from chainrule.nn.functional.reduction import RESHAPE
from chainrule.tensor import Tensor
from chainrule.training.checked import Checked
from chainrule.training.named import Named, check_source, of_source, taken, target_in_order, with_classes
from chainrule.training.position import Position, is_power_of_two
from chainrule.training.session import Rows, Session
from chainrule.training.source_rows import BATCH, Epochs, SourceRows, parts
from chainrule.training.weights import Classes

if TYPE_CHECKING:
    from chainrule.data.windows import Source
    from chainrule.training.windowed import Windowed

_ARRAYS = np.ndarray, Tensor, list, tuple, dict


def share(split: object) -> float | None:
    """The share of the rows to validate on; None where there is none, as Keras's 0.0 says."""
    if split is None:
        return None
    if isinstance(split, (int, float, np.integer, np.floating)) and not isinstance(split, bool):
        if split == 0:
            return None
        if 0 < split < 1:
            return float(split)
    raise SettingError(f"fit: validation_split must be a share between 0 and 1, got {split!r}.")


@contextmanager
def by_name(y: object) -> Iterator[None]:
    """Whoever names one column is told how to have it as a column, and not to reshape what is in a file."""
    try:
        yield
    except ShapeError as error:
        said, reshape, _ = str(error).partition(RESHAPE)
        if not reshape or not isinstance(y, str):
            raise
        raise ShapeError(
            f"{said}The name of one column gives targets (N,), a list of names (N, number of names): write [{y!r}]."
        ) from error


def source_of(
    X: Any, y: object, who: str, named: Named | None = None, strict: bool = True, labelled: bool = True
) -> Source | None:
    """The source that X is or is read as; None for arrays, and for what becomes one.

    Args:
        named: the columns that the training had.
        strict: False: columns of other names are those of a training that begins.
        labelled: the classes of its images are read, too.

    Raises:
        DataError: a source cannot be made of it, or has its targets in itself, or has not the columns of the training.
    """
    told = isinstance(y, (str, list, tuple)) or (named is not None and named.windows and has_names(X))
    if isinstance(X, _ARRAYS) or (hasattr(X, "__array__") and not told):
        return None
    from chainrule.data.windows import opened  # only for whoever gives a source: it takes 25 ms

    known = None if named is None else named.known("X", strict)
    source = opened(X, target_in_order(y, named), who, known)
    if source is not None and strict:
        check_source(source, named, who)
        return with_classes(source, named, who) if labelled else source
    return source


def rows(
    checked: Checked, X: object, y: object, epochs: Epochs | None = None, sample_weight: object = None,
    class_weight: Classes | None = None, names: tuple[str, str] = ("X", "y"), named: Named | None = None,
    strict: bool = True,
) -> Rows:  # fmt: skip
    """What `fit` is given, checked: arrays, or the rows of a source.

    Args:
        epochs: of the training; None for rows to validate on.
        named: the columns that the training had so far.
        strict: False: columns of other names are those of a training that begins.

    Raises:
        DataError, ShapeError, DtypeError, SettingError: it cannot be trained on.
    """
    source = None if type(X) is np.ndarray else _source(X, y, f"fit: {names[0]}", epochs, named, strict)
    if source is None and (epochs is None or epochs.steps is None):
        if isinstance(y, str):
            remedy = "Give the targets as an array."
            if isinstance(X, dict) and type(X) is not dict and X:  # such as a DatasetDict
                remedy = f"Pass one that it holds, [{next(iter(X))!r}]."
            raise DataError(
                f"fit: {names[1]}={y!r} names a column, which files, tables and frames have, and no {type(X).__name__}. {remedy}"
            )
        if isinstance(X, np.memmap):
            _warn_of_size(X, names[0])
        (X, y), own = taken({"X": X, "y": y}, named, "fit", {"X": names[0], "y": names[1]}, strict)
        return _with_names(checked.rows(X, y, "fit", sample_weight, class_weight, names), own)
    from chainrule.training import windowed

    if source is None:
        raise SettingError(windowed.NO_STEPS)
    arrays = windowed.whole(source) if epochs is None or epochs.steps is None else None
    if arrays is not None:
        x, target, weight = parts(arrays)
        with by_name(y):
            found = checked.rows(x, target, "fit", _weight(sample_weight, weight), class_weight, names)
        return _with_names(found, of_source(source))
    if sample_weight is not None or class_weight is not None:
        which = "sample_weight" if sample_weight is not None else "class_weight"
        raise SettingError(
            f"fit: {which} is for arrays, and {names[0]} is read window by window. Give the weights with the rows: batches (x, y, "
            f"weight), or as_source(..., weight='column')."
        )
    with by_name(y):
        return _with_names(windowed.described(checked, source, names, epochs), of_source(source))


def _with_names(rows: Rows, named: Named | None) -> Rows:
    return rows if named is None else replace(rows, named=named)


def _warn_of_size(mapped: np.memmap[Any, Any], name: str) -> None:
    """Say so where a memory map is larger than memory: it can be trained on where it lies, and slowly."""
    room = available_bytes()
    if room is not None and mapped.nbytes > room:
        warnings.warn(
            f"fit: {name} is a memory map of {mapped.nbytes:,} bytes, and {room:,} of memory are available: its rows are read in a "
            f"random order, each from the disk. cr.data.as_source((X, y)) in its place is read window by window.",
            stacklevel=5,
        )


def _weight(given: object, own: object) -> object:
    if given is not None and own is not None:
        raise SettingError(
            "fit: sample_weight was given, and the source has weights of its own. Leave one of them out."
        )
    return own if given is None else given


def _source(X: Any, y: object, who: str, epochs: Epochs | None, named: Named | None, strict: bool) -> Source | None:
    """A source of what is read by windows; that of the training that goes on where it is the same iterator."""
    if epochs is not None and epochs.resumes and hasattr(X, "__next__"):
        known = epochs.fed.source if isinstance(epochs.fed, SourceRows) else None
        if known is not None and getattr(known, "stream", None) is X:
            return known
        if inspect.isgenerator(X) and inspect.getgeneratorstate(X) != inspect.GEN_CREATED:
            raise DataError(
                f"{who}: this generator has given batches already, so that those which the training goes on with cannot be told. "
                f"Give a new one, or a function that makes it."
            )
    return source_of(X, y, who, named, strict)


def pair(data: Any, y: object) -> tuple[Any, Any, Any]:
    """X, y and weights to validate on.

    Args:
        data: a tuple of two or three, or a source of all.
        y: the targets to train on, which may be names of columns.

    Raises:
        DataError: it is nothing of that.
    """
    if isinstance(data, (tuple, list)) and len(data) in (2, 3):
        return (*data, None)[:3]
    if not isinstance(data, _ARRAYS):
        named = y if isinstance(y, (str, list, tuple)) else None
        if named is not None or source_of(data, None, "fit: validation X") is not None:
            return data, named, None
    raise DataError("fit: validation_data must be a pair (X, y), or (X, y, sample_weight). Pass a tuple of two arrays.")


def beginning(
    given: Rows, batch_size: object, seed: int, shuffle: bool, drop_last: bool, micro_batches: object
) -> Position:
    """Where a training on these rows begins."""
    own = given.batch_size if isinstance(given, SourceRows) else BATCH
    size, rows = check_batch_size(own if batch_size is None else batch_size, "fit"), given.count
    if not isinstance(drop_last, bool):
        raise SettingError(f"fit: drop_last must be True or False, got {drop_last!r}.")
    if drop_last and size > rows:
        raise DataError(
            f"fit: drop_last=True leaves out a batch with fewer than batch_size rows, which leaves none of {rows} rows with "
            f"batch_size={size}. Choose a batch_size of at most {rows}, or leave drop_last out."
        )
    cut = int(micro_batches) if isinstance(micro_batches, np.integer) else micro_batches
    if not is_power_of_two(cut):
        raise SettingError(
            f"fit: micro_batches must be a power of two (1, 2, 4, ...): in so many parts a step goes over its batch, got "
            f"{micro_batches!r}."
        )
    return Position(rows, min(size, rows), seed, shuffle, drop_last=drop_last, micro_batches=cut)


def by_windows(
    session: Session, checked: Checked, rows: Rows, position: Position
) -> tuple[Windowed | None, Callable[[], dict[str, float]] | None]:
    """The windows to train on, and what measures those to validate on, where they are of a source."""
    held_out = rows.held_out
    if not isinstance(rows, SourceRows) and not isinstance(held_out, SourceRows):
        return None, None
    from chainrule.training import windowed

    trained = windowed.Windowed(session, checked, rows, position) if isinstance(rows, SourceRows) else None
    if not isinstance(held_out, SourceRows) or held_out.source is None:
        return trained, None
    return trained, partial(windowed.evaluate, session, checked, held_out.source, "validation", 256)


def evaluated(
    session: Session, checked: Checked, source: Source, batch_size: int, sample_weight: object
) -> dict[str, float]:
    """`Trainer.evaluate` on a source."""
    if sample_weight is not None:
        raise SettingError(
            "evaluate: sample_weight is for arrays, and X is read window by window. Give the weights with the rows: batches (x, "
            "y, weight), or as_source(..., weight='column')."
        )
    from chainrule.training import windowed

    size = check_batch_size(batch_size, "evaluate")
    with session.held("evaluate"):
        return windowed.evaluate(session, checked, source, "evaluation", size)


def predicted(source: Source, predict: Callable[[Any, int], Any], batch_size: int) -> Any:
    """`Trainer.predict` on a source."""
    from chainrule.training import windowed

    size = check_batch_size(batch_size, "predict")
    return windowed.predicted(source, lambda x: predict(x, size), size)
