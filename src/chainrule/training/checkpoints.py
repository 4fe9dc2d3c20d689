"""Files that hold a model, or a training in the middle: safetensors, with JSON in its header.

Written whole or not at all, checked by their own hash when read, and read without running code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.errors import DamagedFileError
from chainrule.files.writing import write_whole
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor

Array = np.ndarray[Any, Any]
_HASH = "chainrule.hash"
_META = "chainrule.meta"


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
    from safetensors.numpy import save

    arrays = {name: _plain(value) for name, value in tensors.items()}
    text = json.dumps(meta)
    header = {_META: text, _HASH: _digest(arrays, text), "format": "pt"}
    write_whole(path, save(arrays, metadata=header), durable)


def load_file(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a safetensors file, and the JSON beside them (None if there is none).

    Raises:
        DamagedFileError: the file is missing, cut off, changed, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="np") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise DamagedFileError(f"{path}: there is no such file. Check the path.") from None
    except IsADirectoryError:
        raise DamagedFileError(f"{path}: this is a folder, not a safetensors file. Name the file in it.") from None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise DamagedFileError(
            f"{path}: not a complete safetensors file ({error}). It was cut off or is of another format: "
            f"copy it again, or train again."
        ) from None
    text = header.get(_META, "null")
    if _HASH in header and header[_HASH] != _digest(arrays, text):
        raise DamagedFileError(
            f"{path}: the contents do not match the hash stored with them, so bits have changed since the file was "
            f"written. Copy it again, or train again."
        )
    return {name: tensor(array) for name, array in arrays.items()}, json.loads(text)


def flatten(tree: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """`tree` with each tensor moved to `tensors` and its name left in its place; dict keys become pairs."""
    if isinstance(tree, Tensor):
        tensors[prefix] = tree
        return {"tensor": prefix}
    if isinstance(tree, Mapping):
        return {"pairs": [[key, flatten(value, f"{prefix}.{key}", tensors)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        kind = "list" if isinstance(tree, list) else "tuple"
        return {kind: [flatten(value, f"{prefix}.{i}", tensors) for i, value in enumerate(tree)]}
    return tree


def unflatten(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `flatten` took apart."""
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "pairs":
        return {key: unflatten(item, tensors) for key, item in value}
    items = [unflatten(item, tensors) for item in value]
    return items if kind == "list" else tuple(items)


def _plain(value: Any) -> Array:
    array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
    return array if array.flags.c_contiguous else array.copy(order="C")


def _digest(arrays: Mapping[str, Array], text: str) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
