"""What lies at a path: Parquet files, text files, images, an array."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.windows.arrow import ParquetStore
from chainrule.data.windows.columns import Column, Columns
from chainrule.data.windows.images import ImageStore, classes_in
from chainrule.data.windows.pieces import ArrayStore
from chainrule.data.windows.reading import reading
from chainrule.errors import DataError

PARQUET, TEXT = (".parquet", ".pq"), (".csv", ".tsv", ".txt")


def of_path(
    path: Path, choose: Callable[[Mapping[str, Column | str]], Columns], buffer: int, who: str,
    image_size: tuple[int, int] | None = None,
) -> Any:  # fmt: skip
    """The store of a file, or of all files of a kind in a folder and those below it, by name; or of a folder of images.

    Raises:
        DataError: there is nothing of the kind, or files of several kinds.
    """
    if not path.exists():
        raise DataError(
            f"{who}: there is no file or folder {str(path)!r}. Check the name, and the folder it is relative to."
        )
    if path.suffix == ".npy":
        with reading(str(path), who):
            return ArrayStore(np.load(path, mmap_mode="r", allow_pickle=False), buffer, who)
    found: dict[tuple[str, ...], list[Path]] = {_kind(path): [path]}
    if path.is_dir():
        found = {kind: _files(path, kind) for kind in (PARQUET, TEXT[:2])}
    kinds = [kind for kind, files in found.items() if files]
    if len(kinds) > 1:
        names = " and ".join(found[kind][0].name for kind in kinds)
        raise DataError(
            f"{who}: the folder {str(path)!r} must hold files of one kind, got {names}. Name the folder or the file of one."
        )
    if not kinds:
        return _of_images(path, image_size, who)
    if kinds[0] is PARQUET:
        return ParquetStore(found[PARQUET], choose, buffer, who)
    from chainrule.data.windows.text import CsvStore  # with polars, which takes a fifth of a second to import

    return CsvStore(found[kinds[0]], choose, buffer, who)


def _kind(file: Path) -> tuple[str, ...]:
    return TEXT if file.suffix.lower() in TEXT else PARQUET


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    found = [file for file in folder.rglob("*") if file.suffix.lower() in endings and file.is_file()]
    return sorted(file for file in found if not file.name.startswith((".", "_")))


def _of_images(folder: Path, size: tuple[int, int] | None, who: str) -> ImageStore:
    found = classes_in(folder)
    if not found:
        raise DataError(
            f"{who}: the folder {str(folder)!r} must hold files named *.parquet or *.csv, or a folder of images for each class, "
            f"got none. Check the name."
        )
    return ImageStore(folder, found, size, who)
