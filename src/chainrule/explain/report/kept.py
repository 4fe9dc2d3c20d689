"""What was found out about a run, kept in its folder: the page shows it later, as long as it is of these weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chainrule.errors import DamagedFileError
from chainrule.explain.report import sections
from chainrule.files.document import Fields, parse
from chainrule.files.reading import read_whole
from chainrule.files.writing import write_whole

Record = dict[str, Any]
MOST = 64 << 20  # bytes of such a file
SHOWN: dict[str, Callable[[Record], Record]] = {"diagnosis": sections.diagnosis, "checks": sections.checks}


def keep(folder: Path, name: str, found: Record) -> Path:
    """Write the plain form of a diagnosis or of checks into a run folder; gives the file.

    Args:
        name: "diagnosis" or "checks".
        found: what its `as_dict` gives.
    """
    path = folder / f"{name}.json"
    write_whole(path, json.dumps({"weights": _weights(folder), "found": found}).encode())
    return path


def kept(folder: Path, name: str) -> Record | None:
    """What the page shows of it; None where nothing was kept, or the weights are others now.

    Raises:
        DamagedFileError: the file is not what `keep` writes.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    again = f"Run `chainrule {'diagnose' if name == 'diagnosis' else 'check'} {folder}` again."
    document = Fields(parse(read_whole(path, f"a file of {name}", MOST), str(path), again), str(path), again)
    if document.text("weights") != _weights(folder):
        return None
    try:
        return SHOWN[name](document.fields("found").value)
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{path}: not what was written there ({error!r}). {again}") from None


def _weights(folder: Path) -> str:
    path = folder / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
