"""Preprocessing in ONNX: from raw columns (numbers, texts) to what the network takes, in float64 as it was learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from chainrule.data import scaling
from chainrule.deploy.mixed import Mixed
from chainrule.deploy.rows import Columns, OfTable, RowEncoder
from chainrule.errors import SettingError
from chainrule.files.document import short
from chainrule.interop.onnx.writer import Writer
from chainrule.training.columns import Levels, Missing

if TYPE_CHECKING:
    from chainrule.data.table import encoding

Array = np.ndarray[Any, Any]
MISSING, LARGEST = "", 1e300
_NUMBER = "a number, NaN where it is missing; a moment as days since 1970-01-01, in UTC"
_TEXT = "a text, empty where it is missing"


@dataclass
class Raw:
    """The graph's inputs, and what is made of them.

    Attributes:
        writer: of the nodes.
        inputs: one column each, shape (batch, 1), or ``rows`` where columns have no names.
    """

    writer: Writer
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def encoded(self, rows: RowEncoder, width: int) -> str:
        """The name of what the network takes, float64 (N, width)."""
        if isinstance(rows, Columns):
            return self._affine(rows, width)
        if isinstance(rows, Mixed):
            return self._mixed(rows)
        if isinstance(rows, OfTable):
            return self._table(rows)
        raise SettingError(
            f"onnx.export_bundle: rows of the kind {type(rows).__name__} cannot be said in ONNX. Export the network alone: "
            f"cr.onnx.export(bundle.model, example)."
        )

    # ---------------------------------------------------------------- inputs

    def _input(self, name: str, columns: int, text: bool, said: str) -> str:
        kind = TensorProto.STRING if text else TensorProto.DOUBLE
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["batch", columns], said))
        return name

    def _whole(self, columns: int) -> str:
        """All columns in one input."""
        return self._input("rows", columns, False, "columns of numbers")

    # ---------------------------------------------------------------- named columns of numbers

    def _affine(self, rows: Columns, width: int) -> str:
        w = self.writer
        if rows.names is None:
            found = self._whole(width)
        else:
            found = self._joined([self._input(name, 1, False, "a number") for name in rows.names])
        if rows.shift is None or rows.scale is None:
            return found
        return w.op("Mul", w.op("Sub", found, self._row(rows.shift)), self._row(rows.scale))

    # ---------------------------------------------------------------- columns of a tabular estimator

    def _mixed(self, rows: Mixed) -> str:
        """Numbers, then others, scaled together; then class numbers: the order of `Columns.transform`."""
        columns, w = rows.columns, self.writer
        numbers, others, codes = list[str](), list[str](), list[str]()
        for i, column in enumerate(self._inputs_of(rows)):
            part = columns.parts_[i]
            if isinstance(part, Missing):
                numbers.append(self._filled(column, part.median))
                others += [self._double(w.op("IsNaN", column))] * part.indicator
            elif columns.is_coded(part):
                codes.append(self._double(w.op("Add", self._codes_of(column, part), w.ints(1))))
            elif part.levels:
                others.append(self._levels(column, part))
        plain = [*numbers, *others]
        parts = [self._robust(self._joined(plain), columns.scaling_)] if plain else []
        return self._joined([*parts, *codes])

    def _inputs_of(self, rows: Mixed) -> list[str]:
        """The name of each column, (N, 1)."""
        parts, names = rows.columns.parts_, rows.names
        texts = [isinstance(p, Levels) and _are_texts(p, n) for p, n in zip(parts, rows.columns.names_, strict=True)]
        if names is None and not any(texts):
            whole = self._whole(len(parts))
            return [self.writer.op("Gather", whole, self.writer.ints(i), axis=1) for i in range(len(parts))]
        names = names or tuple(f"column_{i}" for i in range(len(parts)))
        return [self._input(n, 1, text, _TEXT if text else _NUMBER) for n, text in zip(names, texts, strict=True)]

    def _codes_of(self, column: str, part: Levels) -> str:
        """The number of each level, -1 where it is missing or new, int64."""
        w = self.writer
        if part.levels and isinstance(part.levels[0], str):
            return self._coded(column, {level: i for i, level in enumerate(part.levels)}, -1)
        if not part.levels:
            return w.op("Cast", w.op("Mul", column, w.constant(np.array(0.0))), to=TensorProto.INT64)
        hot = w.op("Cast", self._equal(column, part), to=TensorProto.INT64)
        places = np.arange(1, len(part.levels) + 1)[:, None]
        return w.op("Sub", w.op("MatMul", hot, w.constant(places)), w.ints(1))

    def _equal(self, column: str, part: Levels) -> str:
        """Which level each number is."""
        return self.writer.op("Equal", column, self._row(part.levels))

    def _levels(self, column: str, part: Levels) -> str:
        w = self.writer
        if isinstance(part.levels[0], str):
            hot = self._double(w.op("Equal", self._codes_of(column, part), w.ints(*range(len(part.levels)))))
        else:
            hot = self._double(self._equal(column, part))
        if part.width == len(part.levels):
            return hot
        return w.op("MatMul", hot, w.constant(np.array([[1.0], [-1.0]])))

    def _robust(self, x: str, learned: scaling.RobustScaling) -> str:
        centred = self.writer.op("Sub", self._within(x, scaling.MOST), self._row(learned.medians))
        scaled = self.writer.op("Mul", centred, self._row(learned.factors))
        return self._smooth(self._within(scaled, scaling.BEYOND))

    # ---------------------------------------------------------------- a table's pipeline

    def _table(self, rows: OfTable) -> str:
        from chainrule.data.table import encoding  # only for tables, as it needs the libraries that read them

        parts = []
        used = (column for column in rows.pipeline.columns_ if column.used)
        for column, (encoder, _) in zip(used, rows.pipeline.spans(), strict=True):
            if isinstance(encoder, encoding.Categorical):
                parts.append(self._category(column.name, encoder, encoding.missing_words(column.reading)))
            elif isinstance(encoder, encoding.Datetime):
                parts += self._moment(self._input(column.name, 1, False, _NUMBER), encoder)
            else:
                parts += self._number(self._input(column.name, 1, False, _NUMBER), encoder)
        return self._joined(parts)

    def _number(self, given: str, encoder: encoding.Numeric) -> list[str]:
        w = self.writer
        missing = w.op("Or", w.op("IsNaN", given), w.op("IsInf", given))
        filled = w.op("Where", missing, w.constant(np.array(encoder.median)), given)
        centred = w.op("Sub", self._within(filled, LARGEST), w.constant(np.array(encoder.center)))
        scaled = self._within(w.op("Div", centred, w.constant(np.array(encoder.scale))), scaling.BEYOND)
        found = self._smooth(scaled) if encoder.robust else scaled
        return [found, self._double(missing)] if encoder.indicator else [found]

    def _moment(self, given: str, encoder: encoding.Datetime) -> list[str]:
        from chainrule.data.table.encoding import CIRCLES

        w = self.writer
        known = self._double(w.op("Not", w.op("IsNaN", given)))
        parts = self._number(given, encoder.elapsed)
        for name in encoder.circles:
            turn = w.op("Mul", self._filled(given, 0.0), w.constant(np.array(2 * np.pi / CIRCLES[name])))
            parts += [w.op("Mul", w.op(wave, turn), known) for wave in ("Sin", "Cos")]
        return parts

    def _category(self, name: str, encoder: encoding.Categorical, missing: Sequence[str]) -> str:
        w, count = self.writer, len(encoder.levels)
        given = self._input(name, 1, True, _TEXT)
        places = {level: i for i, level in enumerate(encoder.levels)}
        places.update({word: places[level] for word, level in encoder.words.items()})
        whole = {
            f"{level}.0": i for level, i in places.items() if level.removeprefix("-").isdigit() and len(level) <= 16
        }
        codes = self._coded(given, {**dict.fromkeys(missing, count + 1), **whole, **places}, count)
        keep = [*range(encoder.drop, count), *[count] * encoder.other, *[count + 1] * encoder.indicator]
        hot = w.op("Equal", codes, w.ints(*keep))
        return w.op("Where", hot, self._row(encoder.on), self._row(encoder.off)) if encoder.on else self._double(hot)

    # ---------------------------------------------------------------- pieces

    def _coded(self, column: str, codes: Mapping[str, int], default: int) -> str:
        return self.writer.op(
            "LabelEncoder", column, domain="ai.onnx.ml", keys_strings=list(codes), values_int64s=list(codes.values()),
            default_int64=default,
        )  # fmt: skip

    def _filled(self, column: str, value: float) -> str:
        return self.writer.op("Where", self.writer.op("IsNaN", column), self.writer.constant(np.array(value)), column)

    def _within(self, x: str, most: float) -> str:
        return self.writer.op("Clip", x, self.writer.constant(np.array(-most)), self.writer.constant(np.array(most)))

    def _smooth(self, x: str) -> str:
        """``x / sqrt(1 + (x / 3)^2)``; x is far from where its square overflows."""
        w = self.writer
        part = w.op("Div", x, w.constant(np.array(scaling.SMOOTH)))
        return w.op("Div", x, w.op("Sqrt", w.op("Add", w.op("Mul", part, part), w.constant(np.array(1.0)))))

    def _double(self, x: str) -> str:
        return self.writer.op("Cast", x, to=TensorProto.DOUBLE)

    def _row(self, values: Any) -> str:
        """A constant of a number for each column, (1, F)."""
        return self.writer.constant(np.asarray(values, np.float64)[None])

    def _joined(self, parts: list[str]) -> str:
        return parts[0] if len(parts) == 1 else self.writer.op("Concat", *parts, axis=1)


def _are_texts(part: Levels, name: str) -> bool:
    """Are all levels texts? No level at all is one that nobody has."""
    kinds = {isinstance(level, str) for level in part.levels}
    if len(kinds) > 1:
        raise SettingError(
            f"onnx.export_bundle: the column {name} has levels of several types, {short(list(part.levels[:6]))}, and a column is of "
            f"one in ONNX. Make texts of them before the fit."
        )
    return kinds == {True} and _known(part, name)


def _known(part: Levels, name: str) -> bool:
    if MISSING in part.levels:
        raise SettingError(
            f"onnx.export_bundle: the column {name} has an empty text for a level, which in ONNX says that a value is missing. "
            f"Give that level a name before the fit."
        )
    return True
