"""Files that hold a model, or a training in the middle: safetensors, with JSON in its header.

Written whole or not at all, checked by their own hash when read, and read without running code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from chainrule.available import SURE, available_bytes
from chainrule.errors import DamagedFileError, DtypeError
from chainrule.files.document import parse, short
from chainrule.files.folder import Part
from chainrule.files.tensors import TensorFile, parts, tensor_file
from chainrule.files.writing import write_whole
from chainrule.tensor import Tensor
from chainrule.tensor.core import stored
from chainrule.tensor.creation import from_stored

Array = np.ndarray[Any, Any]
_HASH = "chainrule.hash"
_META = "chainrule.meta"
DEEPEST = 20  # levels of what is saved; there are some five


def save_file(tensors: Mapping[str, Any], path: str | os.PathLike[str], meta: Any = None, durable: bool = True) -> None:
    """Write tensors (and, if given, anything JSON holds) to a safetensors file, whole or not at all.

    Args:
        tensors: name to Tensor or NumPy array.
        path: the file; its folder must exist. What stood there is replaced only once the new file is complete.
        meta: stored beside them as JSON.
        durable: wait until the disk has it, so that not even a power failure leaves half a file.

    Raises:
        UnwritableFileError: the folder or the disk does not take it.

    Example:
        >>> import chainrule as cr, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "weights.safetensors")
        >>> save_file({"w": cr.ones(2)}, path, meta={"epoch": 3})
        >>> load_file(path)
        ({'w': tensor([1., 1.])}, {'epoch': 3})
    """
    if not isinstance(tensors, Mapping):
        raise DtypeError(
            f"save_file: tensors must be a dict from names to tensors, got {type(tensors).__name__}. "
            f"Pass {'its state_dict()' if hasattr(tensors, 'state_dict') else 'one such as {name: tensor}'}."
        )
    write_whole(path, packed(tensors, meta), durable)


def packed(tensors: Mapping[str, Any], meta: Any) -> Iterator[Part]:
    """The bytes of such a file, piece by piece."""
    arrays = {name: _plain(name, value) for name, value in tensors.items()}
    text = json.dumps(meta, default=_number)
    digest = _begin_digest(text)
    for name in sorted(arrays):
        _digest(digest, name, arrays[name])
    return parts(arrays, {_META: text, _HASH: digest.hexdigest(), "format": "pt"})


def load_file(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a safetensors file, and the JSON beside them (None if there is none).

    Raises:
        DamagedFileError: the file is missing, cut off, changed, of another format, or too large for the memory.
    """
    with tensor_file(path) as file:
        arrays, meta = unpacked(file)
    return {name: as_tensor(file.path, name, array) for name, array in arrays.items()}, meta


def unpacked(file: TensorFile) -> tuple[dict[str, Array], Any]:
    """The arrays of such a file, and the JSON beside them, both as they were written.

    Raises:
        DamagedFileError: bits have changed since, or there is not enough memory.
    """
    _check_room(file)
    text = file.metadata.get(_META, "null")
    digest = _begin_digest(text)
    found = {}
    for name in sorted(file.declared):
        found[name] = file.read(name)
        _digest(digest, name, found[name])
    hashed = _HASH in file.metadata or _META in file.metadata  # whoever writes the one writes the other
    if hashed and file.metadata.get(_HASH) != digest.hexdigest():
        raise DamagedFileError(
            f"{file.path}: the contents do not match the hash stored with them, so bits have changed since the file was "
            f"written. Copy it again, or train again."
        )
    return {name: found[name] for name in file.declared}, parse(text, f"{file.path}: the JSON in its header")


def _check_room(file: TensorFile) -> None:
    size, room = sum(found.end - found.begin for found in file.declared.values()), available_bytes()
    if size > SURE and room is not None and size > room:
        raise DamagedFileError(
            f"{file.path}: its tensors have {size:,} bytes, and {room:,} of memory are available. Check that it is the "
            f"right file, or read it where there is more."
        )


def as_tensor(path: str, name: str, array: Array) -> Tensor:
    """An array of the file at `path` as a tensor.

    Raises:
        DamagedFileError: no tensor holds such numbers.
    """
    try:
        return from_stored(array)
    except DtypeError as error:
        raise DamagedFileError(f"{path}: {name!r} is no tensor of chainrule's: {error}") from None


def flatten(tree: Any, prefix: str, tensors: dict[str, Any]) -> Any:
    """`tree` with each tensor and array moved to `tensors` and its name left in its place; dict keys become pairs.

    Example:
        >>> import chainrule as cr
        >>> tensors = {}
        >>> flatten({"a": [cr.ones(1), 3]}, "", tensors), tensors
        ({'pairs': [['a', {'list': [{'tensor': 'a.0'}, 3]}]]}, {'a.0': tensor([1.])})
    """
    if isinstance(tree, (Tensor, np.ndarray)):
        name = prefix
        while name in tensors:  # as {"a.b": ..., "a": {"b": ...}} would have it
            name += "'"
        tensors[name] = tree
        return {"tensor" if isinstance(tree, Tensor) else "array": name}
    below = f"{prefix}." if prefix else ""
    if isinstance(tree, Mapping):
        return {"pairs": [[key, flatten(value, f"{below}{key}", tensors)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        kind = "list" if isinstance(tree, list) else "tuple"
        return {kind: [flatten(value, f"{below}{i}", tensors) for i, value in enumerate(tree)]}
    return tree


def unflatten(tree: Any, tensors: Mapping[str, Any], source: str, depth: int = DEEPEST) -> Any:
    """What `flatten` took apart.

    Raises:
        DamagedFileError: it is nothing that `flatten` gives.
    """
    if not isinstance(tree, (dict, list)):
        return tree
    kind, value = next(iter(tree.items())) if isinstance(tree, dict) and len(tree) == 1 else (None, None)
    if kind in ("tensor", "array") and isinstance(value, str) and value in tensors:
        found = tensors[value]
        return found if kind == "array" or isinstance(found, Tensor) else as_tensor(source, value, found)
    if kind in ("pairs", "list", "tuple") and isinstance(value, list) and depth:
        if kind == "pairs" and all(map(_is_pair, value)):
            return {key: unflatten(item, tensors, source, depth - 1) for key, item in value}
        if kind != "pairs":
            items = (unflatten(item, tensors, source, depth - 1) for item in value)
            return list(items) if kind == "list" else tuple(items)
    raise DamagedFileError(
        f"{source}: nothing that a training is saved as: {short(tree)}. Copy it again, or train again."
    )


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int))


def _plain(name: object, value: Any) -> Array:
    array = stored(value) if isinstance(value, Tensor) else np.asarray(value)
    if not isinstance(name, str) or array.dtype.kind in "OUS":
        raise DtypeError(
            f"save_file: tensors must map names to tensors or NumPy arrays, got {type(value).__name__} under {name!r}. "
            f"What is nested, such as the state_dict() of an optimizer, goes into a file by trainer.save(path), with the "
            f"training; JSON goes into meta=."
        )
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)  # as it is hashed when read


def _number(value: Any) -> Any:
    """A number of NumPy's, as a setting may be."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"save_file: meta must be what JSON holds, got {type(value).__name__} in it.")


def _begin_digest(text: str) -> Any:
    return hashlib.blake2b(text.encode(), digest_size=16)


def _digest(digest: Any, name: str, array: Array) -> None:
    digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
    digest.update(array.reshape(-1).view(np.uint8))
