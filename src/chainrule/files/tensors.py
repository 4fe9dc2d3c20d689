"""Safetensors files of NumPy arrays: written in one order, and read only where everything they declare holds.

    8 bytes            the length of the header, little-endian
    the header         JSON: {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets": [begin, end]}, ...}
    the arrays         one behind the other in C order, little-endian, without gaps

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

import numpy as np

from chainrule.errors import DamagedFileError, DtypeError
from chainrule.files.document import LARGEST, Fields, is_whole, parse
from chainrule.files.folder import Part
from chainrule.files.reading import opened
from chainrule.files.writing import Path, shown

Array = np.ndarray[Any, Any]

KIND = "a safetensors file"
MOST_HEADER = 100_000_000  # bytes, as the format has it
MOST_AXES = 32  # as many as every NumPy takes
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
    "BF16": "|V2",  # as `dtypes.bfloat16` lies in memory
}  # fmt: skip
_NAMES = {np.dtype(text): name for name, text in DTYPES.items()}
_META = "__metadata__"


def parts(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> Iterator[Part]:
    """The bytes of a file, piece by piece, without a copy of the arrays: widest elements first, then by name.

    Raises:
        DtypeError: an array whose dtype the format does not have.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict[str, Any] = {_META: dict(metadata)}
    end = 0
    for name in order:
        array = arrays[name]
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _name_of(name, array), "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        plain = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
        yield plain.reshape(-1).view(np.uint8).data


def _name_of(name: str, array: Array) -> str:
    found = _NAMES.get(array.dtype.newbyteorder("<"))
    if found is None:
        raise DtypeError(
            f"save_file: {name!r} has the dtype {array.dtype}, which a safetensors file cannot hold. Convert it to "
            f"float32 or another plain dtype."
        )
    return found


@dataclass(frozen=True)
class Declared:
    """An array as the header has it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile:
    """A safetensors file, open for reading; everything that its header declares fits the file.

    Attributes:
        metadata: the texts beside the arrays.
        declared: the arrays by name, none of them read yet.
    """

    def __init__(self, path: Path, file: BufferedReader, size: int) -> None:
        self.path, self._file = shown(path), file
        length = int.from_bytes(self._bytes(0, 8, size), "little")
        if length > MOST_HEADER:
            raise self.damaged(
                f"its header claims {length:,} bytes"
                if length < size
                else "it does not begin as a safetensors file does"
            )
        self._data = 8 + length
        header = Fields(self._parsed(self._bytes(8, self._data, size)), self.path, remedy=_REMEDY)
        self.metadata = _texts(header.fields(_META)) if header.has(_META) else {}
        self.declared = {name: self._declared(name, header) for name in header.names() if name != _META}
        self._check_layout(size - self._data)

    def _parsed(self, text: bytes) -> Any:
        try:
            return parse(text, "")
        except DamagedFileError as error:
            raise self.damaged(f"its header is{str(error).removeprefix(':').partition('. ')[0]}") from None

    def read(self, name: str) -> Array:
        """One of the arrays.

        Raises:
            DamagedFileError: the file has become shorter, or the array needs more memory than there is.
        """
        found = self.declared[name]
        try:
            array = np.empty(found.shape, found.dtype)
            self._file.seek(self._data + found.begin)
            read = self._file.readinto(array.reshape(-1).view(np.uint8).data)
        except MemoryError:
            raise DamagedFileError(
                f"{self.path}: {name!r} needs {found.end - found.begin:,} bytes, more memory than there is. Check that "
                f"it is the right file, or read it where there is more."
            ) from None
        if read != found.end - found.begin:
            raise self.damaged("it became shorter while it was read")
        return array

    def damaged(self, why: str) -> DamagedFileError:
        """The error for this file."""
        return DamagedFileError(f"{self.path}: not a complete safetensors file ({why}). {_REMEDY}")

    def _bytes(self, begin: int, end: int, size: int) -> bytes:
        if end > size:
            raise self.damaged(f"it has {size:,} bytes of at least {end:,}")
        self._file.seek(begin)
        return self._file.read(end - begin)

    def _declared(self, name: str, header: Fields) -> Declared:
        entry = header.fields(name)
        entry.names({"dtype", "shape", "data_offsets"})
        kind = entry.text("dtype")
        if kind not in DTYPES:
            entry.refuse("dtype", f"one of {', '.join(DTYPES)}", kind)
        shape = entry.items("shape", _is_length, f"a list of at most {MOST_AXES} lengths")
        offsets = entry.items("data_offsets", _is_length, "a list of two offsets")
        dtype = np.dtype(DTYPES[kind])
        if len(shape) > MOST_AXES:
            entry.refuse("shape", f"a list of at most {MOST_AXES} lengths", shape)
        if math.prod(filter(None, shape)) * dtype.itemsize > LARGEST:
            entry.refuse("shape", "lengths that NumPy can count", shape)
        if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
            entry.refuse("data_offsets", f"as far apart as {shape} elements of {kind} are", offsets)
        return Declared(dtype, tuple(shape), *offsets)

    def _check_layout(self, room: int) -> None:
        at = 0
        for found in sorted(self.declared.values(), key=lambda found: (found.begin, found.end)):
            if found.begin != at:
                raise self.damaged(f"its arrays overlap or leave a gap at {at:,}")
            at = found.end
        if at != room:
            raise self.damaged(f"its arrays have {room:,} bytes of {at:,}")


_REMEDY = "It was cut off or is of another format: copy it again, or train again."


@contextmanager
def tensor_file(path: Path) -> Iterator[TensorFile]:
    """A safetensors file, for reading.

    Raises:
        DamagedFileError: it is missing, cut off, or declares what does not hold.
    """
    with opened(path, KIND) as (file, size):
        yield TensorFile(path, file, size)


def _texts(found: Fields) -> dict[str, str]:
    return {name: found.text(name) for name in found.names()}


def _is_length(value: object) -> bool:
    return isinstance(value, int) and is_whole(value) and value >= 0
