"""What a column says, as numbers, moments or texts; and whether it can be read so.

Fields of text files are texts. The way in which a column was read when the pipeline was fitted (a `Reading`) is kept,
and every later table is read in the same way, whatever its own texts look like.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

Array = np.ndarray[Any, Any]
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "Null", "?", "NaT")
WEAK = ("-", "--", ".", "..", "none", "None", "NONE", "unknown", "Unknown", "missing", "n.a.", "-nan", "inf", "-inf")
BOOLEANS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("0", "1"), ("off", "on"))  # as small letters
_TRUTHS = {word: truth for pair in BOOLEANS for truth, word in enumerate(pair)}
MOSTLY = 0.9  # of the known values are numbers: the others are taken as missing, and that is said
HALF = 0.5  # and more are numbers: it is a column of texts, and that there are so many numbers is said
WHOLE = float(2**53)  # whole numbers beyond are not all floats, so they are texts
_NUMBER = r"^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?$"
_GROUPED = r"^[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?$"
_CODE = r"^[+-]?0\d"
FORMATS = (
    "%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%d-%m-%Y", "%m-%d-%Y",
    "%d-%b-%Y", "%b-%d-%Y", "%d-%b-%y", "%b %d, %Y", "%b %d %Y", "%d %b %Y", "%B %d, %Y", "%d %B %Y",
)  # fmt: skip
_CLOCKS = ("", "T%H:%M:%S%.f", " %H:%M:%S%.f", "T%H:%M", " %H:%M", "T%H:%M:%S%.fZ", "T%H:%M:%S%.f%z", " %H:%M:%S%.f%z")
_NOONS = (" %I:%M:%S %p", " %I:%M %p")  # clocks of twelve hours
TIMES = ("%H:%M:%S", "%H:%M")
_TRIED = 200  # values that tell whether a format can be the one


@dataclass(frozen=True)
class Reading:
    """How a column's fields become what they mean.

    Attributes:
        decimal: the decimal mark of numbers in texts.
        grouped: thousands are separated by the other mark.
        format: of moments in texts, as ``strptime`` has it.
        weak: also the weaker words for "unknown", such as "-" and "none", are missing.
        told: the decimal mark was told, not found, so the other mark is never one.
    """

    decimal: str = "."
    grouped: bool = False
    format: str | None = None
    weak: bool = False
    told: bool = False

    def in_words(self) -> str:
        """How numbers are written.

        >>> Reading(".", grouped=True).in_words()
        'a decimal point and commas between thousands'
        """
        mark, other = ("comma", "points") if self.decimal == "," else ("point", "commas")
        return f"a decimal {mark}{f' and {other} between thousands' if self.grouped else ''}"


PLAIN = Reading()


def known(series: pl.Series, weak: bool = False) -> pl.Series:
    """The column with nothing where a value is missing; texts without the spaces around them."""
    if series.dtype != pl.String:
        return series.fill_nan(None) if series.dtype.is_float() else series
    texts = series.str.strip_chars()
    return texts.set(texts.is_in([*MISSING, *(WEAK if weak else ())]), None)


def texts(series: pl.Series, weak: bool = False) -> pl.Series:
    """Each known value as a text; whole numbers without ``.0``, so that 1 and 1.0 are one level."""
    found = known(series, weak)
    if found.dtype == pl.Boolean:
        return found.replace_strict({True: "true", False: "false"}, return_dtype=pl.String)
    if found.dtype != pl.String:
        found = found.cast(pl.String, strict=False)
    return found.str.replace(r"^(-?\d{1,16})\.0+$", "$1")


def booleans(words: Collection[str]) -> tuple[str, ...]:
    """The one that means false and the one that means true, where these words are such a pair; else none.

    >>> booleans({"Yes", "No"}), booleans({"yes", "perhaps"})
    (('No', 'Yes'), ())
    """
    pair = tuple(sorted(words, key=lambda word: _TRUTHS.get(word.lower(), -1)))
    return pair if tuple(word.lower() for word in pair) in BOOLEANS else ()


def other_words(levels: Collection[str]) -> dict[str, str]:
    """Of two levels that say false and true: whatever else says so, and which of the two it is; of others nothing.

    A column of a file and the same one of a frame say it differently, and so does whoever writes the file anew.
    """
    pair = booleans(levels)
    said = {word: pair[truth] for word, truth in _TRUTHS.items()} if pair else {}
    return {write(word): level for word, level in said.items() for write in (str, str.capitalize, str.upper)}


def in_words(found: pl.Series, said: Mapping[str, str]) -> pl.Series:
    """Texts, those among `said` as it has them."""
    if not said:
        return found
    own = found.replace_strict(dict(said), default=None, return_dtype=pl.String)
    return own.zip_with(own.is_not_null(), found)


def numbers(series: pl.Series, reading: Reading) -> Array:
    """float64, NaN where a value is missing, infinite or no number; durations in seconds."""
    if series.dtype == pl.String:
        found = _cast(known(series, reading.weak), reading)
    elif series.dtype == pl.Duration:
        found = series.dt.total_microseconds() / 1e6
    elif series.dtype.is_temporal():  # a day is no number, though it is kept as one
        found = pl.Series([None] * len(series), dtype=pl.Float64)
    else:
        found = series.cast(pl.Float64, strict=False)
    values = found.to_numpy().astype(np.float64, copy=True) if len(found) else np.empty(0)
    values[~np.isfinite(values)] = np.nan
    return values


def _cast(strong: pl.Series, reading: Reading) -> pl.Series:
    """Texts as float64. Most are written as Python writes numbers; the others are looked at more closely."""
    if reading.decimal == "," or reading.grouped:
        return _closely(strong, reading)
    found = strong.cast(pl.Float64, strict=False)
    rest = strong.is_not_null() & found.is_null()
    if not rest.any():
        return found
    return found.scatter(rest.arg_true(), _closely(strong.filter(rest), reading))


def _closely(strong: pl.Series, reading: Reading) -> pl.Series:
    plain = _plain(strong, reading)
    good = plain.str.contains(_NUMBER)
    if reading.grouped:  # a decimal mark that is the other one is no separator of thousands
        good &= _grouped(strong, reading)
    elif reading.told and reading.decimal == ",":  # where commas were only found, some columns may have points
        good &= ~strong.str.contains(".", literal=True)
    return plain.set(~good, None).cast(pl.Float64, strict=False)


def _bare(found: pl.Series) -> pl.Series:
    """Without currency and percent sign; a minus as on a keyboard."""
    keyed = found.str.replace("^\u2212", "-")
    return keyed.str.replace(r"^([+-]?)[$€£]\s?", "$1").str.replace(r"\s?[%€]$", "")


def _plain(found: pl.Series, reading: Reading) -> pl.Series:
    """Numbers as Python writes them: without currency, percent sign or separated thousands, with a decimal point."""
    found = _bare(found)
    if reading.grouped:
        found = found.str.replace_all("[.' \u00a0\u202f]" if reading.decimal == "," else "[,' \u00a0\u202f]", "")
    return found.str.replace(",", ".", literal=True) if reading.decimal == "," else found


def unread(series: pl.Series, reading: Reading) -> int:
    """How many values are there, and are no numbers."""
    return int((known(series, reading.weak).is_not_null().to_numpy() & np.isnan(numbers(series, reading))).sum())


def as_written(series: pl.Series, reading: Reading, written: Reading) -> Reading:
    """How numbers are read in a table that may write them with another mark than the one that `reading` was learned from.

    Args:
        written: how the table writes numbers. A mark that was told holds whatever `reading` has. Of those that were not, a comma
            was found; a point may be no more than that none was found.
    """
    if series.dtype != pl.String or (written.decimal == reading.decimal and not written.told):
        return reading
    own = [replace(reading, decimal=written.decimal, told=written.told, grouped=grouped) for grouped in (False, True)]
    if written.told:
        tried = own
    else:
        tried = [*own, reading] if written.decimal == "," else [reading, *own]
    return min(tried, key=lambda one: unread(series, one))  # the first of those that lose the fewest


def moments(series: pl.Series, reading: Reading) -> Array:
    """datetime64[us], NaT where a value is missing or no moment."""
    if series.dtype == pl.String:
        found = _written(known(series), reading.format or FORMATS[0])
    elif series.dtype == pl.Time:
        found = pl.Series(series.cast(pl.Int64) // 1000).cast(pl.Datetime("us"))
    elif series.dtype in (pl.Date, pl.Datetime):
        found = _naive(series)
    else:
        return np.full(len(series), np.datetime64("NaT", "us"))
    return np.asarray(found.to_numpy(), "datetime64[us]")


def _naive(series: pl.Series) -> pl.Series:
    if getattr(series.dtype, "time_zone", None):
        series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return series.cast(pl.Datetime("us"))


def _written(strong: pl.Series, form: str) -> pl.Series:
    """Texts as moments: of this form, or, where the year stands first, as ISO 8601 has them, which nobody takes for another."""
    if form in TIMES:
        return _timed(strong, form)
    found = _parsed(strong, form)
    for iso in () if form[:5] in ("%Y-%d", "%Y/%d") else (FORMATS[0] + clock for clock in _CLOCKS):
        rest = (strong.is_not_null() & found.is_null()).arg_true()
        if not len(rest):
            break
        found = found.scatter(rest, _parsed(strong.gather(rest), iso))
    return found


def _timed(found: pl.Series, form: str) -> pl.Series:
    return _parsed("1970-01-01 " + found, f"%Y-%m-%d {form}")


def _parsed(found: pl.Series, form: str) -> pl.Series:
    return _naive(found.str.to_datetime(form, strict=False, exact=True, time_unit="us", ambiguous="null"))


# -- which reading fits ------------------------------------------------------------------------------------


def number_reading(series: pl.Series, written: Reading) -> tuple[Reading | None, str]:
    """How a column of texts is numbers in a table that writes them so, if it is, and what is to be said of it.

    Numbers with leading zeros are codes, and whole numbers that no float holds are identifiers: both stay texts.
    """
    if series.dtype != pl.String:
        return _typed(series)
    strong = known(series)
    if not (count := strong.count()):
        return None, ""
    note = ""
    for reading in (written, replace(written, grouped=True)):
        good = _cast(strong, reading).is_finite().fill_null(False)
        share = good.sum() / count
        if share == 1 or (share >= MOSTLY and not reading.grouped):
            return _usable(strong, good, reading)
        if share >= HALF and reading is written:
            note = f"{good.sum()} of {count} values are numbers, others such as {strong.filter(~good).drop_nulls()[0][:20]!r}"
    return None, note


def _grouped(strong: pl.Series, reading: Reading) -> pl.Series:
    mark = {".": "[' \u00a0\u202f]", ",": "[.' \u00a0\u202f]"}[reading.decimal]
    found = _bare(strong)
    if reading.decimal == ",":
        found = found.str.replace(",", "#", literal=True).str.replace_all(mark, ",").str.replace("#", ".", literal=True)
    else:
        found = found.str.replace_all(mark, ",")
    return found.str.contains(_GROUPED) | found.str.contains(_NUMBER)


def _usable(strong: pl.Series, good: pl.Series, reading: Reading) -> tuple[Reading | None, str]:
    if strong.str.contains(_CODE).any():
        return None, "numbers with leading zeros are codes"
    if strong.str.contains(r"^[+-]?\d{16,}$").any():
        return None, "whole numbers of 16 digits or more are identifiers"
    others = strong.filter(~good).drop_nulls()
    if not others.len():
        return reading, "its thousands are separated" if reading.grouped else ""
    shown = ", ".join(repr(v[:20]) for v in others.unique(maintain_order=True).head(3).to_list())
    note = f"{others.len()} of {strong.count()} values are no numbers ({shown}): taken as missing"
    return replace(reading, weak=True), note


def _typed(series: pl.Series) -> tuple[Reading | None, str]:
    if not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Duration)):
        return None, ""
    if series.dtype.is_integer() and series.count():
        largest = max(abs(int(series.min())), abs(int(series.max())))
        if largest > WHOLE:
            return None, "whole numbers of 16 digits or more are identifiers"
    return Reading(), ""


def moment_reading(series: pl.Series) -> tuple[Reading | None, str]:
    """How a column is dates or times, if it is, and what is to be said of it."""
    if series.dtype in (pl.Date, pl.Datetime, pl.Time):
        return Reading(), ""
    if series.dtype != pl.String:
        return None, ""
    strong = known(series).drop_nulls()
    first = strong.head(_TRIED)
    if (
        not first.len()
        or not first.str.contains(r"\d").all()
        or not first.str.contains(r"\d[-/.: ,]|[A-Za-z]{3}").all()
    ):
        return None, ""
    fitting = [form for form in _forms(first) if _all_parsed(first, form)]
    fitting = [form for form in fitting if _all_parsed(strong, form)]
    if not fitting:
        return None, ""
    return Reading(format=fitting[0]), _ambiguous(fitting)


def _forms(found: pl.Series) -> list[str]:
    """What texts like these may be written in."""
    clocks = _NOONS if found.str.contains("(?i)[ap]m$").all() else _CLOCKS
    return [date + clock for clock in clocks for date in FORMATS] + list(TIMES)


def share_in_form(found: pl.Series, form: str) -> float:
    """The share of known values that are moments written in this form."""
    if found.dtype != pl.String or not found.count():
        return 0.0
    return float(1 - (_in_form(found, form).null_count() - found.null_count()) / found.count())


def _in_form(found: pl.Series, form: str) -> pl.Series:
    return _timed(found, form) if form in TIMES else _parsed(found, form)


def _all_parsed(found: pl.Series, form: str) -> bool:
    parsed = _in_form(found, form)
    years = parsed.dt.year()
    return parsed.null_count() == 0 and bool((years > 1000).all())


def _ambiguous(fitting: list[str]) -> str:
    if len(fitting) > 1 and {fitting[0][:2], fitting[1][:2]} == {"%m", "%d"}:
        return f"day and month cannot be told apart: read as {fitting[0]}"
    return ""
