"""``cr.save`` and ``cr.load``: trees of tensors and plain values in a file, without code."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.devices import on_cpu
from chainrule.errors import DamagedFileError, DtypeError, SettingError
from chainrule.files.document import Fields, short
from chainrule.files.reading import opened
from chainrule.files.tensors import KIND, TensorFile
from chainrule.files.writing import shown
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.training import checkpoints
from chainrule.training.checkpoints import DEEPEST

FORMAT = "chainrule.tree/1"
LONGEST = 40  # digits of a whole number that a file can hold
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@takes_keywords("torch")
def save(obj: Any, f: Any) -> None:
    """Write tensors, arrays and plain values, nested as they are, to a file: a ``state_dict()``, or a dict of several.

    The file is safetensors: tensors under their keys, joined by dots (``model.0.weight``), so that PyTorch's
    ``safetensors.torch.load_file`` and others read a ``state_dict()`` as it is. It carries a checksum, and is written whole or
    not at all.

    Args:
        obj: dicts (keys: texts and whole numbers), lists and tuples of tensors, NumPy arrays, numbers, texts, booleans and
            None, in up to 20 levels.
        f: the file, or something open for writing bytes, such as `io.BytesIO`.

    Where we deviate from PyTorch: nothing is pickled, so no object of another kind can be saved. For a model with its
    architecture there is `cr.save_model`, for a training in the middle `Trainer.save`. Tensors come back without history;
    dicts and tuples of other types come back as dicts and tuples, NumPy's scalars as numbers.

    Raises:
        DtypeError: something of another kind, named by its place.
        UnwritableFileError: the folder or the disk does not take it.

    Example:
        >>> import io
        >>> import chainrule as cr
        >>> file = io.BytesIO()
        >>> cr.save({"epoch": 3, "weights": [cr.ones(2), cr.zeros(1)]}, file)
        >>> cr.load(file)
        {'epoch': 3, 'weights': [tensor([1., 1.]), tensor([0.])]}
    """
    tensors: dict[str, Any] = {}
    tree = checkpoints.flatten(_plain(obj, "", DEEPEST), "", tensors)
    meta = {"format": FORMAT, "tree": tree}
    if not hasattr(f, "write"):
        checkpoints.save_file(tensors, f, meta)
        return
    for part in checkpoints.packed(tensors, meta):
        f.write(part)


def _plain(value: Any, at: str, depth: int) -> Any:
    """The same, of the kinds that a file holds."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray) and value.dtype.kind in "biuf":
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int) and abs(value) < 10**LONGEST:
        return int(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (Mapping, list, tuple)) and depth:
        return _contents(value, at, depth - 1)
    _refuse(value, at, depth)


def _contents(value: Any, at: str, depth: int) -> Any:
    if isinstance(value, Mapping):
        keys = [key for key in value if not isinstance(key, (str, int)) or isinstance(key, bool)]
        if keys:
            raise DtypeError(
                f"save: the keys of a dict must be texts or whole numbers, got {short(keys[0])}{_in(at)}. Save a dict with such."
            )
        return {key: _plain(item, f"{at}[{key!r}]", depth) for key, item in value.items()}
    found = (_plain(item, f"{at}[{i}]", depth) for i, item in enumerate(value))
    return list(found) if isinstance(value, list) else tuple(found)


def _refuse(value: Any, at: str, depth: int) -> None:
    if not depth:
        raise DtypeError(
            f"save: obj must not be nested in more than {DEEPEST} levels, or in itself. Save what it consists of."
        )
    kind = type(value).__name__
    remedy = "Save numbers, texts and tensors instead."
    if hasattr(value, "state_dict"):
        remedy = "Save its state_dict()."
        if hasattr(value, "named_modules"):
            remedy = "Save its state_dict(), or with its architecture: cr.save_model(model, path)."
    elif isinstance(value, int):
        kind, remedy = f"a whole number of more than {LONGEST} digits", "Save it as a text."
    elif kind == "Tensor":
        remedy = "Save its .detach().numpy()."
    elif isinstance(value, np.ma.MaskedArray):
        remedy = "Save its .data and its .mask."
    raise DtypeError(f"save: tensors, arrays and plain values can be saved without code, got {kind}{_in(at)}. {remedy}")


def _in(at: str) -> str:
    return f" in obj{at}" if at else ""


@takes_keywords("torch")
def load(f: Any, map_location: Any = None, *, weights_only: bool = True, mmap: bool | None = None) -> Any:
    """What `save` wrote; or of any other safetensors file, PyTorch's among them, a dict from names to tensors.

    No code of the file is run, whatever it holds. Its checksum is compared.

    Args:
        f: the file, or something open for reading bytes, such as `io.BytesIO`, which is read from its beginning.
        map_location: the CPU, or left out.
        weights_only, mmap: taken so that a script for PyTorch runs; the first is always True here.

    Raises:
        DamagedFileError: the file is missing, cut off, changed or of another kind, such as a pickle.
        SettingError: another device, or ``weights_only=False``.
    """
    on_cpu(map_location)
    if not weights_only:
        raise SettingError("load: weights_only must be True: nothing here runs the code of a file. Leave it out.")
    if not hasattr(f, "read"):
        with opened(f, KIND) as (file, size):
            return _read(shown(f), file, size)
    return _read(str(getattr(f, "name", "the stream")), f, f.seek(0, io.SEEK_END))


def _read(name: str, file: Any, size: int) -> Any:
    file.seek(0)
    if file.read(4).startswith(_PICKLES):
        raise DamagedFileError(
            f"{name}: this looks like a pickle, as torch.save writes it, and reading one runs its code. In PyTorch write its "
            f"tensors by safetensors.torch.save_file(state_dict, path); that file can be loaded."
        )
    arrays, meta = checkpoints.unpacked(TensorFile(name, file, size))
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        return {key: checkpoints.as_tensor(name, key, array) for key, array in arrays.items()}
    return checkpoints.unflatten(Fields(meta, name).required("tree"), arrays, name)
