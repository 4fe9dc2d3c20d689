"""Columns as inputs of a network: what is learned of a column on the training rows, and applied to any."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Union

import numpy as np
import polars as pl

from chainrule.data.scaling import ONE_HOT, RobustScaling, smooth_clip
from chainrule.data.table.kinds import Column
from chainrule.data.table.values import MISSING, WEAK, Reading, in_words, moments, numbers, other_words, texts
from chainrule.errors import unknown_name
from chainrule.files.document import Fields, is_number

Array = np.ndarray[Any, Any]
SCALINGS = ("robust", "robust_all", "robust_few", "standard", "none")
# The second also of the columns that levels become, the third of `ONE_HOT` levels at most.
ROBUST = ("robust", "robust_all", "robust_few")
MOST_KEPT = 1000  # levels of which the rare ones are kept, too
BEYOND = 1e30  # scaled values end here, far inside of float32
OTHER, UNKNOWN = "(other)", "(missing)"
_DAY = np.timedelta64(1, "D")


class Encoder(Protocol):
    """What a column becomes."""

    def transform(self, series: pl.Series, reading: Reading) -> Array:
        """Columns of finite numbers, one row for each value."""

    def names(self, column: str) -> list[str]:
        """The names of those."""


@dataclass(frozen=True)
class Numeric:
    """A number, scaled; where it is missing the median, and a column of its own that says so.

    ``(x - center) / scale``, and under ``"robust"`` then ``z / sqrt(1 + (z / 3)^2)``, which no outlier leaves.

    Source: Holzmueller et al., "Better by default", NeurIPS 2024, arXiv 2407.04491 (robust scaling, smooth clipping).
    """

    median: float
    center: float
    scale: float
    scaling: str
    indicator: bool

    @classmethod
    def fit(cls, values: Array, scaling: str) -> Numeric:
        """Learn from values of which NaN are missing; some are not."""
        found = np.clip(values[~np.isnan(values)], -1e300, 1e300)
        median, missing = float(np.median(found)), len(found) < len(values)
        if scaling == "none":
            return cls(median, 0.0, 1.0, scaling, missing)
        if scaling == "standard":
            center, scale = float(found.mean()), float((found / _top(found)).std() * _top(found))
        else:
            low, high = np.quantile(found, [0.25, 0.75])
            center, scale = median, float(high - low) or float(found.max() / 2 - found.min() / 2)
        usable = math.isfinite(scale) and scale > 0 and math.isfinite(1 / scale)
        return cls(median, center, scale if usable else 1.0, scaling, missing)

    def transform(self, series: pl.Series, reading: Reading) -> Array:
        """The scaled number, and whether it was missing."""
        return self.of(numbers(series, reading))

    def of(self, values: Array) -> Array:
        """The same of values that are numbers already."""
        missing = np.isnan(values)
        filled = np.clip(np.where(missing, self.median, values), -1e300, 1e300)
        with np.errstate(over="ignore"):
            scaled = np.clip((filled - self.center) / self.scale, -BEYOND, BEYOND)
        if self.robust:
            scaled = smooth_clip(scaled)
        return np.stack([scaled, missing], 1) if self.indicator else scaled[:, None]

    @property
    def robust(self) -> bool:
        """Is it clipped smoothly?"""
        return self.scaling in ROBUST

    def names(self, column: str) -> list[str]:
        """The column's own, and ``NAME (missing)``."""
        return [column, f"{column} {UNKNOWN}"] if self.indicator else [column]


def missing_words(reading: Reading) -> list[str]:
    """The texts that say that a level is missing."""
    return [*MISSING, *(WEAK if reading.weak else ())]


def _top(values: Array) -> float:
    return float(np.abs(values).max()) or 1.0


@dataclass(frozen=True)
class Categorical:
    """One column a level; rare and unseen levels share one, missing values have one of their own.

    `rare` are those that share one, as far as they are few enough to be kept: with them it is known which are new.

    ``drop`` leaves the first of two levels out: the other says it all. `off` and `on`, where they are given, take the places of 0
    and 1 in each column (scaling ``"robust_all"``, ``"robust_few"``).
    """

    levels: tuple[str, ...]
    other: bool
    indicator: bool
    drop: bool = False
    off: tuple[float, ...] = ()
    on: tuple[float, ...] = ()
    rare: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls, series: pl.Series, reading: Reading, max_categories: int, min_frequency: int, boolean: bool
    ) -> Categorical:
        """Learn the levels, the most frequent ones where there are too many, in the order of the alphabet."""
        found = texts(series, reading.weak)
        counts = found.drop_nulls().value_counts(sort=False)
        pairs = sorted(
            zip(counts[found.name or ""].to_list(), counts["count"].to_list(), strict=True), key=lambda p: (-p[1], p[0])
        )
        often = [level for level, count in pairs if count >= min_frequency]
        kept = often if len(often) == len(pairs) <= max_categories else often[: max_categories - 1]
        levels, known = tuple(sorted(kept)), set(kept)
        rare = tuple(sorted(level for level, _ in pairs if level not in known)) if len(pairs) <= MOST_KEPT else ()
        missing, drop = found.null_count() > 0, boolean and len(levels) == 2
        return cls(levels, len(levels) < len(pairs), missing, drop, rare=rare)

    def transform(self, series: pl.Series, reading: Reading) -> Array:
        """0 and 1; an unseen level counts as rare where some were, else all its columns are 0."""
        found = self._texts(series, reading)
        place = {level: i for i, level in enumerate(self.levels)}
        codes = found.replace_strict(place, default=len(self.levels), return_dtype=pl.Int64)
        codes = codes.set(found.is_null(), len(self.levels) + 1).to_numpy()
        hot = codes[:, None] == np.arange(len(self.levels) + 2)
        keep = [*range(self.drop, len(self.levels)), *([len(self.levels)] if self.other else [])]
        found = hot[:, [*keep, *([len(self.levels) + 1] if self.indicator else [])]]
        return np.asarray(np.where(found, self.on, self.off) if self.on else found, np.float32)

    @property
    def words(self) -> dict[str, str]:
        """What else than the levels says one of them."""
        return {} if self.other else other_words(self.levels)

    def _texts(self, series: pl.Series, reading: Reading) -> pl.Series:
        return in_words(texts(series, reading.weak), self.words)

    def scaled(self, series: pl.Series, reading: Reading) -> Categorical:
        """The same with columns that are scaled as numbers are, learned from these rows."""
        hot = self.transform(series, reading)
        scaling = RobustScaling.fit(hot.astype(np.float64))
        off, on = (scaling.transform(np.full((1, hot.shape[1]), value))[0].tolist() for value in (0.0, 1.0))
        return replace(self, off=tuple(off), on=tuple(on))

    def unseen(self, series: pl.Series, reading: Reading) -> dict[str, int]:
        """The levels that were not there when it was fitted, and how often each is now; none where too many were to be kept."""
        if self.other and not self.rare:
            return {}
        found = self._texts(series, reading).drop_nulls()
        counts = found.filter(~found.is_in([*self.levels, *self.rare])).value_counts(sort=True)
        return dict(zip(*(counts[column].to_list() for column in counts.columns), strict=True))

    def names(self, column: str) -> list[str]:
        """``NAME=LEVEL``."""
        return [
            *(f"{column}={level}" for level in self.levels[self.drop :]), *([f"{column} {OTHER}"] if self.other else []),
            *([f"{column} {UNKNOWN}"] if self.indicator else []),
        ]  # fmt: skip


#: The circles that a moment goes around in: what its place is, and after how many days it is there again.
CIRCLES = {"year": 365.2425, "week": 7.0, "day": 1.0}


@dataclass(frozen=True)
class Datetime:
    """The days since 1970, scaled; and sine and cosine of its place in the year, the week and the day where those vary."""

    elapsed: Numeric
    circles: tuple[str, ...]

    @classmethod
    def fit(cls, values: Array, scaling: str) -> Datetime:
        """Learn from moments of which NaT are missing; some are not."""
        days = _days(values)
        found = days[~np.isnan(days)]
        circles = tuple(name for name, period in CIRCLES.items() if _around(found, name, period))
        return cls(Numeric.fit(days, scaling), circles)

    def transform(self, series: pl.Series, reading: Reading) -> Array:
        """The scaled day, whether it was missing, and the places on the circles."""
        days = _days(moments(series, reading))
        parts = [self.elapsed.of(days)]
        for name in self.circles:
            turn = 2 * np.pi * np.nan_to_num(days / CIRCLES[name])
            known = ~np.isnan(days)
            parts.append(np.stack([np.sin(turn) * known, np.cos(turn) * known], 1))
        return np.concatenate(parts, 1)

    def names(self, column: str) -> list[str]:
        """``NAME``, ``NAME (sine of the year)`` and so on."""
        around = [f"{column} ({wave} of the {name})" for name in self.circles for wave in ("sine", "cosine")]
        return [*self.elapsed.names(column), *around]


def _days(values: Array) -> Array:
    days = (values.astype("datetime64[us]") - np.datetime64("1970-01-01", "us")) / _DAY
    return np.asarray(days, np.float64)


def _around(days: Array, name: str, period: float) -> bool:
    """Do the moments vary on this circle, and has it been gone around more than once?"""
    if name == "day":
        return len(np.unique(days % 1.0)) > 1
    least = 1.0 if name == "week" else 20.0  # days between places that are told apart
    return len(np.unique(np.floor(days % period / least))) > 1 and bool(np.ptp(days) > period)


Any_ = Union[Numeric, Categorical, Datetime]


def fit(column: Column, series: pl.Series, scaling: str, max_categories: int, min_frequency: int) -> Any_:
    """What a used column becomes, learned from these rows."""
    if scaling not in SCALINGS:
        raise unknown_name("scaling", scaling, list(SCALINGS))
    if column.kind == "numeric":
        return Numeric.fit(numbers(series, column.reading), scaling)
    if column.kind == "datetime":
        return Datetime.fit(moments(series, column.reading), scaling)
    boolean = column.kind == "boolean"
    found = Categorical.fit(series, column.reading, max_categories, 1 if boolean else min_frequency, boolean)
    few = scaling == "robust_few" and len(found.levels) <= ONE_HOT
    return found.scaled(series, column.reading) if few or scaling == "robust_all" else found


# -- out and in --------------------------------------------------------------------------------------------


def as_dict(encoder: Any_) -> dict[str, Any]:
    """Plain values, which `read` makes an encoder of."""
    return asdict(encoder)


def read(kind: str, saved: Fields) -> Any_:
    """The encoder of a column of this kind that `as_dict` described.

    Raises:
        DamagedFileError: it is none.
    """
    if kind == "numeric":
        return _numeric(saved)
    if kind == "datetime":
        circles = saved.items(
            "circles", lambda c: isinstance(c, str) and c in CIRCLES, f"a list of {', '.join(CIRCLES)}"
        )
        return Datetime(_numeric(saved.fields("elapsed")), tuple(circles))
    levels = saved.items("levels", lambda v: isinstance(v, str), "a list of texts")
    if len(set(levels)) < len(levels):
        saved.refuse("levels", "a list of texts, each once", levels)
    drop = saved.flag("drop")
    if drop and len(levels) != 2:
        saved.refuse("drop", "false, as there are not two levels", drop)
    rare = saved.items("rare", lambda v: isinstance(v, str), "a list of texts") if saved.has("rare") else []
    if rare and not saved.flag("other"):
        saved.refuse("rare", "none, as no level is", rare)
    found = Categorical(tuple(levels), saved.flag("other"), saved.flag("indicator"), drop, rare=tuple(rare))
    return replace(found, off=_places(saved, "off", found), on=_places(saved, "on", found))


def _places(saved: Fields, name: str, of: Categorical) -> tuple[float, ...]:
    """What takes the place of 0 or 1 in each column; nothing in files of before there was such a scaling."""
    found = saved.items(name, is_number, "a list of numbers") if saved.has(name) else []
    if found and len(found) != len(of.names("")):
        saved.refuse(name, f"none, or {len(of.names(''))} numbers", found)
    return tuple(map(float, found))


def _numeric(saved: Fields) -> Numeric:
    scaling, scale = saved.text("scaling"), saved.number("scale")
    if scaling not in SCALINGS:
        saved.refuse("scaling", " or ".join(SCALINGS), scaling)
    if scale <= 0:
        saved.refuse("scale", "above 0", scale)
    return Numeric(saved.number("median"), saved.number("center"), scale, scaling, saved.flag("indicator"))
