"""What a text file of rows is written in: encoding, delimiter, header, decimal comma. Everything found is said."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise

from chainrule.errors import DataError

SAMPLE = 1 << 16  # characters that the delimiter is looked for in
DELIMITERS = ("\t", ";", "|", ",")  # the first of equals: a comma may stand in numbers, the others hardly ever do
SPACES = " "  # runs of spaces or tabs between the fields
NAMES = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma", SPACES: "spaces"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_OTHER_FILES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook. Unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old kind. Save the sheet as CSV",
    b"\x1f\x8b": "packed by gzip. Unpack it first (gunzip)",
    b"BZh": "packed by bzip2. Unpack it first (bunzip2)",
    b"\xfd7zXZ": "packed by xz. Unpack it first (unxz)",
    b"\x93NUMPY": "a NumPy array. Write it as CSV with numpy.savetxt, or pass it to cr.data.Table",
    b"%PDF": "a PDF document. Export the table as CSV",
    b"SQLite format 3": "a SQLite database. Export the table as CSV",
}
_COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_TWO_OR_ONE = re.compile(r"[+-]?[$€£]?\s?\d+,\d+(?:[eE][+-]?\d+)?\s?[%€]?")  # two fields, or a number with a comma
_POINT_NUMBER = re.compile(r"[+-]?\d+\.\d+(?:[eE][+-]?\d+)?")
_NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?%?")


@dataclass(frozen=True)
class Dialect:
    """How a text file of rows is written.

    Attributes:
        encoding: as Python names it.
        delimiter: between fields; a space stands for runs of them.
        header: the first record has the names.
        decimal: the decimal mark, ``"."`` or ``","``.
        skip: lines before the first record.
        notes: what was found, a sentence each; nothing is said of a plain UTF-8 CSV with a header.
    """

    encoding: str
    delimiter: str
    header: bool = True
    decimal: str = "."
    skip: int = 0
    notes: tuple[str, ...] = field(default=())


def decoded(data: bytes, who: str, encoding: str | None = None) -> tuple[str, str, list[str]]:
    """The text of a file, its encoding and what is to be said of that.

    Raises:
        DataError: it is no text, or not in the encoding that was named.
    """
    for start, kind in _OTHER_FILES.items():
        if data.startswith(start):
            raise DataError(f"{who}: this is no text file of rows: it is {kind}.")
    if encoding is not None:
        return _named(data, who, encoding)
    found = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if found is not None:
        text, _, _ = _named(data, who, found)
        return text, found, [f"it begins with a byte-order mark: read as {found.removesuffix('-sig').upper()}"]
    if b"\0" in data[:SAMPLE]:
        raise DataError(
            f"{who}: this is no text file of rows: there are zero bytes in it. If it is text in UTF-16 without a mark, "
            f"name the encoding (--encoding utf-16-le); else export the table as CSV."
        )
    try:
        return data.decode("utf-8"), "utf-8", []
    except UnicodeDecodeError as error:
        return _not_unicode(data, error)


def _named(data: bytes, who: str, encoding: str) -> tuple[str, str, list[str]]:
    try:
        return data.decode(encoding), encoding, []
    except LookupError:
        raise DataError(f"{who}: there is no encoding {encoding!r}. utf-8, cp1252 and utf-16 are usual.") from None
    except (UnicodeError, ValueError) as error:
        raise DataError(
            f"{who}: it is not written in {encoding} ({error}). Name another encoding, or leave it to be found."
        ) from None


def _not_unicode(data: bytes, error: UnicodeDecodeError) -> tuple[str, str, list[str]]:
    byte, line = data[error.start], data.count(b"\n", 0, error.start) + 1
    try:
        text, name = data.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:
        text, name = data.decode("latin-1"), "latin-1"
    return text, name, [f"it is not UTF-8 (byte 0x{byte:02X} in line {line}): read as {name}"]


def sniff(text: str, encoding: str = "utf-8", delimiter: str | None = None, header: bool | None = None,
          decimal: str | None = None, skip: int = 0) -> Dialect:  # fmt: skip
    """The dialect of a text; what is given is taken as it is.

    Example:
        >>> found = sniff("name;height\\nAda;1,65\\nBob;1,80\\n")
        >>> found.delimiter, found.decimal, found.notes
        (';', ',', ('the fields are separated by semicolons', 'numbers have a decimal comma, as in 1,65'))
    """
    found = Dialect(encoding, ",", skip=skip)
    sample = _sample(text)
    hint = re.match(r"sep=(.)\n", sample)
    if hint:
        sample, found = sample[hint.end() :], replace(found, skip=found.skip + 1)
        delimiter = delimiter or hint[1]
    if delimiter is None:
        delimiter = _delimiter(sample)
    notes = [f"the fields are separated by {_plural(delimiter)}"] if delimiter != "," else []
    rows = records(sample, delimiter)
    if header is None:
        header = not _is_data(rows)
        if not header:
            notes.append(
                "the first row holds numbers where the others do, so there is no header: the columns are named column_1, ..."
            )
    if decimal is None:
        decimal, example = _decimal(rows[header:], delimiter)
        if example:
            notes.append(f"numbers have a decimal comma, as in {example}")
    return replace(found, delimiter=delimiter, header=header, decimal=decimal, notes=tuple(notes))


def _plural(delimiter: str) -> str:
    name = NAMES.get(delimiter, repr(delimiter))
    return name if delimiter not in NAMES or delimiter == SPACES else f"{name}s"


def _sample(text: str) -> str:
    if len(text) <= SAMPLE:
        return text
    return text[: max(text.rfind("\n", 0, SAMPLE), 0) or SAMPLE]


def records(sample: str, delimiter: str) -> list[list[str]]:
    """The records of a piece of text that have anything in them, as far as they can be read."""
    found: list[list[str]] = []
    spaces = delimiter == SPACES
    try:
        text = sample.replace("\t", SPACES) if spaces else sample
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=spaces):
            fields = [part for part in row if part] if spaces else row
            if any(fields):
                found.append(fields)
    except csv.Error:  # what is wrong with it is said by whoever reads it all
        pass
    return found


def _delimiter(sample: str) -> str:
    """The delimiter by which most records have the same number of fields, more than one."""
    best, most = ",", 0.0
    for delimiter in (*DELIMITERS, SPACES):
        rows = records(sample, delimiter)
        if not rows:
            continue
        fields, share = _usual(rows)
        enough = share >= 0.9 if delimiter == SPACES else share > 0.5
        fits = len(rows[0]) in (fields, fields - 1)  # a header may lack the name of the row names
        if fields > 1 and enough and fits and share > most + (0.05 if most else 0):
            best, most = delimiter, share
    return best


def _usual(rows: list[list[str]]) -> tuple[int, float]:
    fields, count = Counter(map(len, rows)).most_common(1)[0]
    return fields, count / len(rows)


def _is_data(rows: list[list[str]]) -> bool:
    """Is the first record like the others: numbers where they have numbers, more often than not?

    Whole numbers that go up by one are names: years, say, as columns.
    """
    if len(rows) < 2:
        return False
    numbers = [k for k, column in enumerate(zip(*rows[1:])) if _mostly_numbers(column)]  # noqa: B905 - some may be ragged
    first, second = ([row[k].strip() for k in numbers if k < len(row)] for row in rows[:2])
    alike = [part for part in first if _NUMBER.fullmatch(part)]
    named = [part for part in first if part and not _NUMBER.fullmatch(part)]
    return len(alike) > len(named) and not (counted(alike) and not counted(second))


def _mostly_numbers(column: tuple[str, ...]) -> bool:
    known = [part.strip() for part in column if part.strip()]
    return bool(known) and sum(_NUMBER.fullmatch(part) is not None for part in known) > 0.9 * len(known)


def counted(parts: list[str]) -> bool:
    """Are these whole numbers, each one more than the one before?"""
    whole = [int(part) for part in parts if part.isdecimal()]
    return len(whole) == len(parts) > 1 and all(b - a == 1 for a, b in pairwise(whole))


def comma_numbers(text: str) -> list[str]:
    """Of a text with one name in its first line: the others that are ``12,345``, where no other has a comma; else none.

    Example:
        >>> comma_numbers("size\\n12,345\\n?\\n40,5\\n"), comma_numbers("size,weight\\n12,345\\n")
        (['12,345', '40,5'], [])
    """
    first, *rest = text.lstrip("\n").split("\n", 1)
    if not rest or "," in first or ";" in text or "," not in text:
        return []
    lines = [line.strip() for line in rest[0].split("\n")]
    found = [line for line in lines if _TWO_OR_ONE.fullmatch(line)]
    return found if sum("," in line for line in lines) == len(found) else []


def _decimal(rows: list[list[str]], delimiter: str) -> tuple[str, str]:
    """The decimal mark, and an example of a decimal comma where that is it."""
    if delimiter == ",":
        return ".", ""  # a comma within quotes separates thousands
    parts = [part.strip() for row in rows for part in row]
    commas = [part for part in parts if _COMMA_NUMBER.fullmatch(part)]
    points = sum(_POINT_NUMBER.fullmatch(part) is not None for part in parts)
    return (",", commas[0]) if len(commas) > points else (".", "")
