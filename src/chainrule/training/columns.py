"""Columns of an array or a data frame as inputs of a network: numbers scaled, categories a column a level."""

from __future__ import annotations

import copy
import datetime
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Union

import numpy as np

from chainrule.data.scaling import RobustScaling, quantiles
from chainrule.errors import SettingError
from chainrule.files.document import Fields, is_number, short
from chainrule.training.recipe import Layout

Array = np.ndarray[Any, Any]
FROM_DTYPE = "from_dtype"
TWO, SHARE = 2, 0.9  # texts that are all 0 and 1 may be names; so many of others must read as numbers to be some


def is_frame(X: Any) -> bool:
    """Has it named columns, each of a type of its own (pandas, polars)?"""
    return hasattr(X, "columns") and hasattr(X, "shape") and hasattr(X, "dtypes")


def unmasked(X: Any) -> Any:
    """What is masked out of an array is missing: NaN, or None among objects."""
    if not isinstance(X, np.ma.MaskedArray) or not np.ma.is_masked(X):
        return X
    found: Array = X.data.astype(np.float64 if X.dtype.kind in "biuf" else object)  # a copy
    found[np.ma.getmaskarray(X)] = None  # NaN among numbers
    return found


def column(X: Any, number: int) -> Any:
    """One column of an array or a data frame."""
    if not is_frame(X):
        return X[:, number]
    return X.iloc[:, number] if hasattr(X, "iloc") else X[:, number]


def is_numeric(found: Any, name: str = "") -> bool:
    """Does a data frame's column hold numbers, moments, times of day, or yes and no?"""
    known = getattr(found.dtype, "is_numeric", None)  # polars
    if known is not None:
        return bool(known()) or found.dtype.is_temporal() or str(found.dtype) == "Boolean"
    if found.dtype.kind in "iufbMm" or _is_period(found):
        return True
    if found.dtype.kind not in "Oc" or hasattr(found.dtype, "categories"):
        return False
    values = [value for value in as_levels(found, name) if value is not None]
    return bool(values) and (
        _all(values, (numbers.Real, Decimal), bool) or _all(values, datetime.date) or _all(values, datetime.time)
    )


def _is_period(found: Any) -> bool:
    """Is it a column of pandas' periods: days, months, years?"""
    return str(found.dtype).startswith("period[")


def _all(values: Sequence[Any], kind: Any, but: Any = ()) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, but) for value in values)


def refuse_numbers_as_texts(values: Sequence[Any], name: str) -> None:
    """A column of texts that are numbers or dates would be taken for names, one level for each.

    Raises:
        ValueError: nine tenths of the values, or more, are such texts.
    """
    known = {value for value in values if isinstance(value, str)}
    for what, remedy, reads in (("numbers", "to_numeric", float), ("dates", "to_datetime", _as_moment)):
        if len(known) > TWO and sum(_reads(value, reads) for value in known) >= SHARE * len(known):
            raise ValueError(
                f"the column {name} holds {what} as texts, such as {sorted(known)[0]!r}. Convert it (pandas.{remedy}), or say that they "
                f"are names: X[{name}].astype('category')."
            )


def _as_moment(text: str) -> Any:
    return np.datetime64(text.strip()[:19])


def _reads(text: str, reads: Any) -> bool:
    try:
        return bool(reads(text) == reads(text))  # NaN is none, nor is NaT
    except (ValueError, OverflowError):
        return False


def as_numbers(found: Any, name: str) -> Array:
    """A column as float64, NaN where it is missing; moments as days since 1970.

    Raises:
        ValueError: a value is no number, or infinite.
    """
    try:
        moments = _moments(found)
        if moments is not None:
            return moments
        if hasattr(found, "to_numpy") and hasattr(found, "isna"):  # pandas: also its own types with NA
            array = np.asarray(found.to_numpy(dtype=np.float64, na_value=np.nan))
        else:
            array = np.asarray(found.cast(float) if hasattr(found, "cast") else found, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the column {name} has values that are no numbers ({error}). Name it among categorical_features=, or leave it out."
        ) from None
    if np.isinf(array).any():
        raise ValueError(
            f"Input X contains infinity: the column {name}. Leave those rows out, or make it missing (NaN)."
        )
    return array


def _moments(found: Any) -> Array | None:
    """Days since 1970 of a column that holds moments (of periods, their beginnings), days of spans and times of day; None of another one."""
    found = found.dt.to_timestamp() if _is_period(found) else found
    array = np.asarray(found.to_numpy() if hasattr(found, "to_numpy") else found)
    if getattr(found.dtype, "tz", None) is not None:  # pandas: to one zone
        array = np.asarray(found.to_numpy(dtype="datetime64[us]"))
    if array.dtype.kind == "O" and len(array):
        known = [value for value in as_levels(found) if value is not None]
        if known and _all(known, datetime.date):
            array = np.array([_in_utc(value) for value in as_levels(found)], "datetime64[us]")
        elif known and _all(known, datetime.time):
            array = np.array([_since_midnight(value) for value in as_levels(found)], "timedelta64[us]")
    if array.dtype.kind not in "Mm":
        return None
    since = array - np.datetime64(0, "D").astype(array.dtype) if array.dtype.kind == "M" else array
    days = since.astype("timedelta64[us]") / np.timedelta64(1, "D")
    return np.where(np.isnat(array), np.nan, days)


def _in_utc(moment: Any) -> Any:
    """A moment of a time zone as that of UTC."""
    zoned = getattr(moment, "tzinfo", None) is not None
    return moment.astimezone(datetime.timezone.utc).replace(tzinfo=None) if zoned else moment


def _since_midnight(time: datetime.time | None) -> datetime.timedelta | None:
    if time is None:
        return None
    return datetime.timedelta(hours=time.hour, minutes=time.minute, seconds=time.second, microseconds=time.microsecond)


def as_levels(found: Any, name: str = "") -> list[Any]:
    """A column as hashable values, None where it is missing.

    Raises:
        ValueError: a value is a list, a complex number or the like.
    """
    values = found.to_list() if hasattr(found, "to_list") else found.tolist()
    odd = next((value for value in values if isinstance(value, (list, dict, set, np.ndarray, complex))), None)
    if odd is not None:
        which = f"the column {name}" if name else "a column"
        raise ValueError(
            f"{which} holds values such as {str(odd)[:40]}, which are neither numbers nor levels. Leave it out, or make columns of it."
        )
    missing = found.isna().tolist() if hasattr(found, "isna") else [v is None or v != v for v in values]
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


def _order(level: Any) -> tuple[Any, ...]:
    return (0, level, "") if isinstance(level, numbers.Real) else (1, 0, str(level))


@dataclass(frozen=True)
class Levels:
    """A column a level, 0 everywhere where a value is missing or was never seen; two levels share one, 1 and -1."""

    levels: tuple[Any, ...]

    @classmethod
    def fit(cls, values: Sequence[Any]) -> Levels:
        """Learn from the values of training rows, None being missing."""
        return cls(tuple(sorted({value for value in values if value is not None}, key=_order)))

    def codes(self, values: Sequence[Any]) -> Array:
        """The number of each value's level, -1 where it is missing or was never seen."""
        place = {level: number for number, level in enumerate(self.levels)}
        return np.array([place.get(value, -1) for value in values], np.int64)

    @property
    def width(self) -> int:
        """How many columns they become."""
        return 1 if len(self.levels) == 2 else len(self.levels)

    def transform(self, values: Sequence[Any]) -> Array:
        """Float64 (N, columns)."""
        hot = (self.codes(values)[:, None] == np.arange(len(self.levels))).astype(np.float64)
        found: Array = hot[:, :1] - hot[:, 1:] if len(self.levels) == 2 else hot
        return found


@dataclass(frozen=True)
class Missing:
    """The number itself, and where training had missing ones the median in their place and a column that says so."""

    median: float
    indicator: bool

    @classmethod
    def fit(cls, values: Array, weights: Array | None = None) -> Missing:
        """Learn from the numbers of training rows, NaN being missing."""
        missing = np.isnan(values)
        median = 0.0 if missing.all() else float(quantiles(values[:, None], [0.5], weights)[0, 0])
        return cls(median, bool(missing.any()))

    def again(self, values: Array, weights: Array | None = None) -> Missing:
        """The median of other numbers, with or without the column that says so as before."""
        return replace(self, median=Missing.fit(values, weights).median)

    def transform(self, values: Array) -> Array:
        """Float64 (N, 1 or 2)."""
        missing = np.isnan(values)
        filled = np.where(missing, self.median, values)
        return np.stack([filled, missing], 1) if self.indicator else filled[:, None]


class Columns:
    """Learns on training rows what each column becomes, as the RealMLP recipe has it; applies that to any rows.

    Numbers are filled where they are missing, categories become a column a level, and all of them are scaled by
    `RobustScaling`.

    Args:
        categorical: ``"from_dtype"``: the columns of a data frame that hold no numbers; or their numbers, names or a mask.
        one_hot: categories of more levels than this become class numbers, 0 for what is missing or was never seen; None: all
            become a column a level.
    """

    def __init__(self, categorical: Any = FROM_DTYPE, one_hot: int | None = None) -> None:
        self.categorical, self.one_hot = categorical, one_hot

    def fit(self, X: Any, weights: Array | None = None) -> Columns:
        """Learn from rows, each of a weight above 0; returns itself."""
        chosen = self._categorical(X)
        self.parts_: list[Union[Levels, Missing]] = [
            Levels.fit(as_levels(column(X, i)))
            if i in chosen
            else Missing.fit(as_numbers(column(X, i), _name(X, i)), weights)
            for i in range(X.shape[1])
        ]
        self.names_ = [_name(X, i) for i in range(X.shape[1])]
        self.scaling_ = RobustScaling.fit(self._plain(X), weights)
        return self

    @property
    def layout_(self) -> Layout:
        """What the inputs are."""
        numbers = [part for part in self.parts_ if isinstance(part, Missing)]
        levels = [part for part in self.parts_ if isinstance(part, Levels)]
        others = sum(part.indicator for part in numbers) + sum(p.width for p in levels if not self.is_coded(p))
        return Layout(len(numbers), others, tuple(len(part.levels) + 1 for part in levels if self.is_coded(part)))

    def like(self, X: Any, weights: Array | None = None) -> Columns:
        """The same inputs, their medians and scales learned from these rows: levels, and which numbers may be missing, stay."""
        found = copy.copy(self)
        found.parts_ = [
            part if isinstance(part, Levels) else part.again(as_numbers(column(X, i), _name(X, i)), weights)
            for i, part in enumerate(self.parts_)
        ]
        found.scaling_ = RobustScaling.fit(found._plain(X), weights)
        return found

    def transform(self, X: Any, dtype: Any = np.float32) -> Array:
        """The rows as inputs, (N, F)."""
        codes = [
            part.codes(as_levels(column(X, i)))[:, None] + 1
            for i, part in enumerate(self.parts_) if isinstance(part, Levels) and self.is_coded(part)
        ]  # fmt: skip
        return np.concatenate([self.scaling_.transform(self._plain(X)), *codes], axis=1).astype(dtype)

    def __repr__(self) -> str:
        """What became of each column."""
        if not hasattr(self, "parts_"):
            return f"<Columns, not fitted, categorical={self.categorical!r}>"
        lines = [f"{name}: {self._said(part)}" for name, part in zip(self.names_, self.parts_, strict=True)]
        return f"<Columns: {self.layout_.columns} inputs\n  " + "\n  ".join(lines) + ">"

    def _said(self, part: Union[Levels, Missing]) -> str:
        if isinstance(part, Missing):
            return "a number" + (", and whether it is missing" if part.indicator else "")
        how = (
            "a learned vector each" if self.is_coded(part) else "1 and -1" if len(part.levels) == 2 else "a column each"
        )
        return f"{len(part.levels)} levels, {how}"

    def is_coded(self, part: Levels) -> bool:
        """Is a level of this column given as its number, for a learned vector?"""
        return self.one_hot is not None and len(part.levels) > self.one_hot

    def _plain(self, X: Any) -> Array:
        """All but the class numbers: numbers, then what tells that one was missing, and levels."""
        numbers, others = [np.zeros((X.shape[0], 0))], [np.zeros((X.shape[0], 0))]
        for i, part in enumerate(self.parts_):
            if isinstance(part, Missing):
                found = part.transform(as_numbers(column(X, i), self.names_[i]))
                numbers.append(found[:, :1])
                others.append(found[:, 1:])
            elif not self.is_coded(part):
                others.append(part.transform(as_levels(column(X, i))))
        return np.concatenate([*numbers, *others], axis=1)

    def strangers(self, X: Any) -> list[str]:
        """The columns of other rows of which no value is a level that training had, as texts where it had numbers.

        One new level of the same type is no stranger: a row may have that.
        """
        notes = []
        for i, part in enumerate(self.parts_):
            values = [v for v in as_levels(column(X, i)) if v is not None] if isinstance(part, Levels) else []
            if isinstance(part, Levels) and set(part.levels).isdisjoint(values) and self._is_strange(part, values):
                had = ", ".join(map(short, part.levels[:3])) + ", ..." * (len(part.levels) > 3)
                notes.append(
                    f"no value of the column {self.names_[i]} was there in the fit, which had {had}, got {short(values[0])}"
                )
        return notes

    def _is_strange(self, part: Levels, values: list[Any]) -> bool:
        return len(set(values)) > 1 or bool({type(value) for value in values} - {type(level) for level in part.levels})

    def differences(self, X: Any) -> list[str]:
        """The columns of other rows with levels that training had not, a sentence each."""
        notes = []
        for i, part in enumerate(self.parts_):
            if isinstance(part, Levels):
                values = as_levels(column(X, i))
                new = [
                    v for v, code in zip(values, part.codes(values).tolist(), strict=True) if code < 0 and v is not None
                ]
                shown = ", ".join(dict.fromkeys(short(value) for value in new[:1000]))
                notes += [
                    f"the column {self.names_[i]}: {len(new):,} rows have levels that training had not: {shown[:200]}"
                ] * bool(new)
        return notes

    # ---------------------------------------------------------------- out and in

    def as_dict(self) -> dict[str, Any]:
        """What it has learned, as plain values.

        Raises:
            SettingError: a level is no text, number or boolean.
        """
        return {
            "one_hot": self.one_hot, "parts": [_plain_part(*pair) for pair in zip(self.names_, self.parts_, strict=True)],
            "medians": self.scaling_.medians.tolist(), "factors": self.scaling_.factors.tolist(),
        }  # fmt: skip

    @classmethod
    def read(cls, saved: Fields) -> Columns:
        """What `as_dict` described.

        Raises:
            DamagedFileError: it is none.
        """
        made = cls(one_hot=saved.whole("one_hot") if saved.has("one_hot") else None)
        parts = [Fields(p, f"{saved.source}: parts[{i}]", saved.remedy) for i, p in enumerate(saved.items("parts"))]
        if not parts:
            saved.refuse("parts", "a list of columns, one at least", [])
        made.names_, made.parts_ = [part.text("name") for part in parts], [_read_part(part) for part in parts]
        medians, factors = (saved.items(name, is_number, "a list of numbers") for name in ("medians", "factors"))
        for name, found in (("medians", medians), ("factors", factors)):
            if len(found) != made.layout_.numbers + made.layout_.plain:
                saved.refuse(name, f"{made.layout_.numbers + made.layout_.plain} numbers", found)
        made.scaling_ = RobustScaling(np.array(medians, np.float64), np.array(factors, np.float64))
        return made

    def _categorical(self, X: Any) -> set[int]:
        """The numbers of the categorical columns."""
        given, count = self.categorical, X.shape[1]
        if given is None:
            return set()
        if isinstance(given, str):
            if given != FROM_DTYPE:
                raise ValueError(f"categorical_features must be {FROM_DTYPE!r}, None or a list, got {given!r}.")
            found = {i for i in range(count) if is_frame(X) and not is_numeric(column(X, i), _name(X, i))}
            for i in found:
                if not _is_category(column(X, i)):
                    refuse_numbers_as_texts(as_levels(column(X, i)), _name(X, i))
            return found
        listed = np.asarray(given)
        if listed.dtype.kind == "b":
            if listed.shape != (count,):
                raise ValueError(f"categorical_features, as a mask, must have {count} entries, got {listed.shape}.")
            return set(np.flatnonzero(listed).tolist())
        names = [str(name) for name in X.columns] if is_frame(X) else []
        return {self._number(entry, names, count) for entry in listed.tolist()}

    def _number(self, entry: Any, names: list[str], count: int) -> int:
        if isinstance(entry, str):
            if entry not in names:
                raise ValueError(
                    f"categorical_features names {entry!r}, which is no column of X: {', '.join(names[:10])}."
                )
            return names.index(entry)
        if not 0 <= entry < count:
            raise ValueError(f"categorical_features must be numbers of columns below {count}, got {entry!r}.")
        return int(entry)


def _is_category(found: Any) -> bool:
    """Does the type of a column say that its values are names?"""
    return hasattr(found.dtype, "categories") or str(found.dtype) in ("Categorical", "Enum")


def _name(X: Any, number: int) -> str:
    return repr(str(list(X.columns)[number])) if is_frame(X) else f"number {number}"


def _is_plain_level(level: object) -> bool:
    return isinstance(level, (str, bool)) or is_number(level)


def _plain_part(name: str, part: Union[Levels, Missing]) -> dict[str, Any]:
    """A column as plain values."""
    if isinstance(part, Missing):
        return {"name": name, "median": part.median, "indicator": part.indicator}
    levels = [level.item() if isinstance(level, np.generic) else level for level in part.levels]
    odd = [level for level in levels if not _is_plain_level(level)]
    if odd:
        raise SettingError(
            f"bundle: the column {name} has the level {short(odd[0])}, and a file holds texts, numbers and booleans. Make texts of "
            f"its levels before the fit."
        )
    return {"name": name, "levels": levels}


def _read_part(saved: Fields) -> Union[Levels, Missing]:
    if not saved.has("levels"):
        return Missing(saved.number("median"), saved.flag("indicator"))
    levels = saved.items("levels", _is_plain_level, "a list of texts, numbers and booleans")
    if len(set(levels)) < len(levels):
        saved.refuse("levels", "levels, each once", levels)
    return Levels(tuple(levels))
