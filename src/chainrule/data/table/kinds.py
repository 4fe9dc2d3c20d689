"""What a column is for a network: guessed from its values, with the reason; everything can be said instead."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from chainrule.data.table.values import (
    PLAIN,
    Reading,
    booleans,
    known,
    moment_reading,
    number_reading,
    numbers,
    share_in_form,
    texts,
)
from chainrule.errors import DataError, unknown_name

Array = np.ndarray[Any, Any]
USED = ("numeric", "categorical", "boolean", "datetime")
LEFT_OUT = ("text", "identifier", "constant", "duplicate")
KINDS = (*USED, *LEFT_OUT)
FEW_ROWS = 20  # with fewer, that no value repeats says nothing
_ALL_OTHERS = 0.9  # of the texts are different: they name the rows
_IN_FORM = 0.9  # of the texts are dates of the form that was said: it is this column's
_MANY = 0.5  # of the texts are different, and most of several words: they are free text
_LONG = 40  # characters of a text on average: no name of a row
_GAPS = 4  # numbers of rows are this many times as far apart at most as the rows are many
_ID_NAME = re.compile(
    r"^(|row_?names?|unnamed.*|index|.*\bid|.*_id|.*[a-z]I[dD]|id\b.*|id_.*|uuid|guid)$", re.IGNORECASE
)  # names of identifiers, and below those that may be
_ID_LIKE = re.compile(r"^(column_\d+|key|nr|no\.?|obs|x|#|rank)$", re.IGNORECASE)
_TIME_NAME = re.compile(r"(year|month|week|day|hour|minute|second|time|date|period|age|step)", re.I)


@dataclass(frozen=True)
class Column:
    """What a column is.

    Attributes:
        name: of the column.
        kind: one of `KINDS`.
        reason: why, in words.
        reading: how its fields are read.
    """

    name: str
    kind: str
    reason: str
    reading: Reading = PLAIN

    @property
    def used(self) -> bool:
        """Does the network see it?"""
        return self.kind in USED


def guess(series: pl.Series, written: Reading = PLAIN, format: str | None = None) -> Column:
    """What a column is, with the reason, in a table that writes numbers so, and dates in a form that was said.

    Example:
        >>> guess(pl.Series("age", ["31", "44", "?"]))
        Column(name='age', kind='numeric', reason='numbers', reading=Reading(decimal='.', grouped=False, format=None, weak=False, told=False))
        >>> guess(pl.Series("colour", ["red", "blue", "red"])).reason
        '2 different texts'
    """
    name = series.name
    if has_no_meaning(series):
        return Column(name, "text", f"its values are {str(series.dtype).lower()}, which have no encoding here")
    strong = known(series)
    if not strong.count():
        return Column(name, "constant", "it is empty")
    distinct = strong.drop_nulls().n_unique()
    if distinct == 1 and not strong.null_count():
        return Column(name, "constant", f"all values are {_shown(strong[0])}")
    reading, note = number_reading(series, written)
    if reading is not None:
        return _of_numbers(series, reading, note, distinct)
    if format is not None and share_in_form(strong, format) >= _IN_FORM:
        return Column(name, "datetime", f"dates in the form {format}", Reading(format=format))
    moment, said = moment_reading(series)
    if moment is not None:
        return Column(name, "datetime", said or "dates or times", moment)
    return _of_texts(strong, note, distinct)


def has_no_meaning(series: pl.Series) -> bool:
    """Are its values lists, objects or bytes, of which nothing here makes numbers or levels?"""
    return bool(series.dtype.is_nested() or series.dtype in (pl.Object, pl.Binary))


def _shown(value: object) -> str:
    return repr(str(value)[:30])


def _of_numbers(series: pl.Series, reading: Reading, note: str, distinct: int) -> Column:
    values = numbers(series, reading)
    found = values[~np.isnan(values)]
    if not len(found):
        return Column(series.name, "constant", "no value is a finite number")
    if series.dtype == pl.Boolean or (distinct == 2 and set(np.unique(found)) == {0.0, 1.0}):
        return Column(series.name, "boolean", "true or false" if series.dtype == pl.Boolean else "0 or 1", reading)
    if _numbers_the_rows(series.name, values):
        return Column(series.name, "identifier", "it numbers the rows", reading)
    return Column(series.name, "numeric", note or "numbers", reading)


def _numbers_the_rows(name: str, values: Array) -> bool:
    """Whole numbers, each once: going up or down with the rows and hardly a gap, or under a name that says so.

    Rows that are held out leave gaps, which is why there may be some.
    """
    if (
        len(values) < FEW_ROWS
        or np.isnan(values).any()
        or (values != np.floor(values)).any()
        or _TIME_NAME.search(name)
    ):
        return False
    if len(np.unique(values)) < len(values):
        return False
    steps = np.diff(values)
    ordered, dense = bool((steps > 0).all() or (steps < 0).all()), np.ptp(values) < _GAPS * len(values)
    if _ID_NAME.match(name):
        return ordered or dense or len(values) > 100
    return bool(dense and (ordered or _ID_LIKE.match(name) is not None))


def _of_texts(strong: pl.Series, note: str, distinct: int) -> Column:
    name, count = strong.name, strong.count()
    words = texts(strong).drop_nulls()
    if distinct == 2 and booleans(words.unique().to_list()):
        return Column(name, "boolean", " or ".join(sorted(words.unique().to_list())))
    why = f"{distinct:,} different texts" + (f" ({note})" if note else "")
    if count >= FEW_ROWS and distinct > _MANY * count:
        several = float((words.str.count_matches(r"\s") > 0).mean() or 0)
        length = float(words.str.len_chars().mean() or 0)
        why += f" in {count:,} rows"
        if length > _LONG or several > _MANY:
            return Column(name, "text", f"{why}, most of several words")
        if distinct > _ALL_OTHERS * count or _ID_NAME.match(name):
            return Column(name, "identifier", f"{why}: they name the rows")
    return Column(name, "categorical", why)


def as_told(series: pl.Series, kind: str, written: Reading = PLAIN, format: str | None = None) -> Column:
    """A column of a kind that was named, read as that kind must be.

    Raises:
        UnknownNameError: there is no such kind.
        DataError: its values cannot be read so.
    """
    if kind not in KINDS:
        raise unknown_name("kind of column", kind, list(KINDS))
    if has_no_meaning(series) and kind in USED:
        raise DataError(
            f"the column {series.name!r} cannot be {kind}: its values are {str(series.dtype).lower()}. Leave it out."
        )
    if kind == "numeric":
        reading = number_reading(series, written)[0] or replace(written, weak=True)
        if np.isnan(numbers(series, reading)).all():
            raise DataError(f"the column {series.name!r} was to be numeric, but none of its values is a number.")
    elif kind == "datetime":
        reading = Reading(format=format) if format else moment_reading(series)[0]  # type: ignore[assignment]
        if reading is None:
            raise DataError(
                f"the column {series.name!r} was to be datetime, but its values are no dates in a usual form, such as "
                f"{_shown(known(series).drop_nulls().first())}. Write them as 2031-12-24, or say how they are written: "
                f"date_format='%d.%m.%Y' (--date-format)."
            )
        if format and series.dtype == pl.String and not share_in_form(known(series), format):
            raise DataError(
                f"the column {series.name!r} was to be datetime, but none of its values has the form date_format={format!r} "
                f"(--date-format), such as {_shown(known(series).drop_nulls().first())}. Correct the form, or leave it out: usual "
                f"ones are found."
            )
    else:
        reading = written
    return Column(series.name, kind, "as you said", reading)
