"""Safetensors files: the library reads what we write and we read what it writes; what does not hold is refused."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.errors import DamagedFileError, DtypeError
from chainrule.files.tensors import DTYPES, parts, tensor_file

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(0)
ARRAYS: dict[str, Array] = {
    "weight": rng.normal(size=(3, 5)).astype("f4"), "empty": np.zeros((0, 4), "f4"), "count": np.array(7, "i8"),
    "ü": np.array([True, False, True]), "turned": np.arange(6.0).reshape(2, 3).T, "big": np.arange(3, dtype=">i4"),
    **{f"as {text}": np.arange(3).astype(text) for name, text in DTYPES.items() if name != "BF16"},  # NumPy has none
}  # fmt: skip


def write(path: Path, arrays: dict[str, Array] = ARRAYS, **metadata: str) -> bytes:
    data = b"".join(bytes(part) for part in parts(arrays, metadata))
    path.write_bytes(data)
    return data


def read(path: Path) -> dict[str, Array]:
    with tensor_file(path) as file:
        return {name: file.read(name) for name in file.declared}


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype.newbyteorder("<") and a[k].shape == b[k].shape and (a[k] == b[k]).all() for k in a
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a", title="a ü \n", other="")
    with tensor_file(tmp_path / "a") as file:
        assert file.metadata == {"title": "a ü \n", "other": ""}
    assert same(read(tmp_path / "a"), ARRAYS)


def test_one_content_is_one_file(tmp_path: Path) -> None:
    assert write(tmp_path / "a", x="1", y="2") == write(tmp_path / "b", dict(reversed(ARRAYS.items())), x="1", y="2")


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    write(tmp_path / "a", title="mine")
    with safetensors.safe_open(tmp_path / "a", framework="np") as file:
        assert file.metadata() == {"title": "mine"}
        assert same({name: file.get_tensor(name) for name in file.keys()}, ARRAYS)  # noqa: SIM118 - not a dict


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    arrays = {name: np.ascontiguousarray(array) for name, array in ARRAYS.items() if name != "big"}
    library.save_file(arrays, tmp_path / "a", {"title": "its"})
    assert same(read(tmp_path / "a"), arrays)
    library.save_file({}, tmp_path / "none")
    assert read(tmp_path / "none") == {}


@pytest.mark.parametrize("array", [np.zeros(2, "c8"), np.array(["text"]), np.array([None]), np.zeros(2, "M8[s]")])
def test_a_dtype_that_the_format_does_not_have(array: Array) -> None:
    with pytest.raises(DtypeError, match=f"save_file: 'a' has the dtype {re.escape(str(array.dtype))}, which"):
        list(parts({"a": array}, {}))


# -- what does not hold -----------------------------------------------------------------------------------


def file_of(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def one(**changed: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changed}}


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it has 0 bytes of at least 8"),
    "a length alone": (b"\xff" * 8, "it does not begin as a safetensors file does"),
    "cut in the header": (file_of(one())[:-3], "bytes of at least"),
    "another format": (b"PK\x03\x04 a zip file of some kind", "it does not begin as"),
    "no JSON": (file_of(b"{'a': 1}"), "its header is not readable"),
    "no UTF-8": (file_of(b'{"\xff": 1}'), "its header is not readable"),
    "deep": (file_of(b"[" * 200_000), "nested too deep"),
    "a list": (file_of([1]), "it must be an object with named fields, got [1]"),
    "a key twice": (file_of(b'{"a": 1, "a": 2}'), "the key 'a' stands there twice"),
    "a number of many digits": (file_of(b'{"a": ' + b"9" * 5000 + b"}"), "a whole number of 5000 digits"),
    "a number beyond": (file_of(b'{"a": 1e999}'), "a: it must be an object with named fields, got inf"),
    "NaN": (file_of(b'{"a": NaN}'), "a: it must be an object with named fields, got nan"),
    "an entry that is none": (file_of({"a": 3}), "a: it must be an object"),
    "metadata that are none": (file_of({"__metadata__": [1]}), "__metadata__: it must be an object"),
    "metadata that are no text": (file_of({"__metadata__": {"a": 1}}), "__metadata__: a must be a text, got 1"),
    "no dtype": (file_of({"a": {"shape": [], "data_offsets": [0, 0]}}), "a: dtype is missing"),
    "a field too many": (file_of(one(order="F"), bytes(8)), "nothing is known of ['order']"),
    "unknown dtype": (file_of(one(dtype="F3"), bytes(8)), "dtype must be one of F64, F32"),
    "eight bits": (file_of(one(dtype="F8_E4M3", shape=[4]), bytes(4)), "dtype must be one of F64, F32"),
    "dtype of another kind": (file_of(one(dtype=["F32"]), bytes(8)), "dtype must be a text"),
    "a negative length": (file_of(one(shape=[-2]), bytes(8)), "shape must be a list of at most 32 lengths, got [-2]"),
    "lengths that cancel": (file_of(one(shape=[-2, -1]), bytes(8)), "shape must be a list"),
    "a fraction": (file_of(one(shape=[2.0]), bytes(8)), "shape must be a list"),
    "true as a length": (file_of(one(shape=[2, True]), bytes(8)), "shape must be a list"),
    "many axes": (file_of(one(shape=[2] + [1] * 40), bytes(8)), "shape must be a list of at most 32 lengths"),
    "more than is there": (file_of(one(shape=[10**12], data_offsets=[0, 4 * 10**12]), bytes(8)), "its arrays have 8 bytes"),
    "offsets apart": (file_of(one(shape=[3]), bytes(8)), "data_offsets must be as far apart as [3] elements of F32"),
    "offsets turned": (file_of(one(shape=[0], data_offsets=[8, 0]), bytes(8)), "data_offsets must be"),
    "three offsets": (file_of(one(data_offsets=[0, 8, 9]), bytes(8)), "data_offsets must be"),
    "wrapped around": (file_of(one(shape=[2**62, 4], data_offsets=[0, 0])), "lengths that NumPy can count"),
    "nothing of much": (file_of(one(shape=[0, 2**62], data_offsets=[0, 0])), "lengths that NumPy can count"),
    "a gap": (file_of(one(data_offsets=[8, 16]), bytes(16)), "overlap or leave a gap at 0"),
    "overlap": (file_of({**one(), "b": one()["a"]}, bytes(8)), "overlap or leave a gap at 8"),
    "more behind": (file_of(one(), bytes(9)), "its arrays have 9 bytes of 8"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_does_not_hold_is_refused_by_one_error(tmp_path: Path, name: str) -> None:
    data, text = HOSTILE[name]
    (tmp_path / "a").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFileError, match=re.escape(text)) as caught:
            read(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 2**20 + 40 * len(data)
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(tmp_path / "a"))


def test_a_file_cut_anywhere(tmp_path: Path) -> None:
    data = write(tmp_path / "a")
    for end in range(0, len(data), 7):
        (tmp_path / "a").write_bytes(data[:end])
        with pytest.raises(DamagedFileError, match="not a complete safetensors file"):
            read(tmp_path / "a")


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a", {"w": np.ones(1 << 20)})
    with tensor_file(tmp_path / "a") as file:
        os.truncate(tmp_path / "a", 4096)
        with pytest.raises(DamagedFileError, match="it became shorter while it was read"):
            file.read("w")


@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX's")
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: None, "there is no such file. Check the path."),
        (Path.mkdir, "this is a folder, not a safetensors file. Name the file in it."),
        (os.mkfifo, "it is a pipe, not a safetensors file. Name a file."),
        (lambda path: path.symlink_to(path), "this file could not be read"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device or a socket, not a safetensors file. Name a file."),
    ],
)
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], None], text: str) -> None:
    make(tmp_path / "a")
    with pytest.raises(DamagedFileError, match=re.escape(f"{tmp_path / 'a'}: {text}")):
        read(tmp_path / "a")
