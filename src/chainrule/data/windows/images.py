"""Folders of images (Pillow decodes them): each folder in it is a class, as for torchvision's ImageFolder."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.available import check_room
from chainrule.data.windows.fingerprint import SAMPLES
from chainrule.data.windows.plan import Part
from chainrule.data.windows.reading import check_unchanged, digest_of, stamp
from chainrule.errors import DataError

Array = np.ndarray[Any, Any]
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
THREADS = 4  # that decode at once, at most


def _pillow(who: str) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise DataError(
            f"{who}: images are decoded by Pillow, which is not installed. pip install 'chainrule[data]'"
        ) from None
    return Image


def classes_in(folder: Path) -> dict[str, list[Path]]:
    """The images of each class, by name; those of a class lie in a folder of its name, or in folders below it."""
    found = {}
    for below in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = [file for file in below.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file()]
        found[below.name] = sorted(
            (file for file in files if not file.name.startswith(".")), key=lambda file: (str(file.parent), file.name)
        )
    return found if any(found.values()) else {}


class ImageStore:
    """The images of a folder as ``(X, y)``: X float32 (N, 3, H, W) from 0 to 1, red, green and blue; y int64, the class.

    Every image is a piece, so that a window holds images from everywhere.

    Args:
        size: height and width that all are brought to; None: they are of one size already.

    Attributes:
        classes: the names of the folders, sorted; y is the place in this list.
    """

    ahead = fixed = True

    def __init__(self, folder: Path, found: dict[str, list[Path]], size: tuple[int, int] | None, who: str) -> None:
        self.pillow, self.who, self.size = _pillow(who), who, _size(size, who)
        if self.size is not None:
            check_room(
                16 * math.prod(self.size), lambda: f"{who}: an image of {self.size}", "Choose a smaller image_size."
            )
        empty = [name for name, files in found.items() if not files]
        if empty:
            raise DataError(
                f"{who}: every folder in {str(folder)!r} must hold images, got none in {', '.join(map(repr, empty[:5]))}. Remove "
                f"it, or put some there (*{', *'.join(ENDINGS)})."
            )
        self.folder, self.classes = folder, list(found)
        self.files = [str(file) for files in found.values() for file in files]
        self.labels = np.repeat(np.arange(len(found), dtype=np.int64), [len(files) for files in found.values()])
        self.stamps = [stamp(file, who) for file in self.files]
        self.shape: tuple[int, ...] = self._decoded(0).shape
        self.pieces = [1] * len(self.files)
        self.row_bytes: float | None = 4.0 * float(np.prod(self.shape)) + 8

    def read(self, parts: Sequence[Part]) -> Any:
        rows = [part.piece for part in parts]
        images = np.empty((len(rows), *self.shape), np.float32)
        threads = min(THREADS, os.cpu_count() or 1, len(rows))
        with ThreadPoolExecutor(threads, thread_name_prefix="chainrule-images") as pool:
            for place, image in enumerate(pool.map(self._decoded, rows)):
                np.divide(image, np.float32(255), out=images[place])
        return images, self.labels[rows]

    def numbered(self, classes: Sequence[str]) -> ImageStore:
        """The same images, the number of each class being its place among these."""
        found, places = copy.copy(self), np.array([classes.index(name) for name in self.classes], np.int64)
        found.classes, found.labels = list(classes), places[self.labels]
        return found

    def where(self, piece: int, row: int) -> str:
        """The file of an image."""
        return self.files[piece]

    def _decoded(self, row: int) -> Array:
        """An image, (3, H, W) from 0 to 255."""
        file = self.files[row]
        try:
            with open(file, "rb") as raw, self.pillow.open(raw) as opened:
                image = self._of_eight_bits(opened)
                if self.size is not None:
                    image = image.resize(self.size[::-1], self.pillow.Resampling.BILINEAR)
                values = np.asarray(image)
                found: Array = np.stack([values] * 3) if values.ndim == 2 else values.transpose(2, 0, 1)
        except (OSError, ValueError, SyntaxError, self.pillow.DecompressionBombError) as error:
            raise DataError(
                f"{self.who}: {file} cannot be read as an image ({error}). Write it again, or leave it out."
            ) from error
        check_unchanged(file, self.stamps[row], self.who)
        if row and found.shape != self.shape:
            raise DataError(
                f"{self.who}: all images must be of one size, got {_text(self.shape)} in {self.files[0]} and {_text(found.shape)} "
                f"in {file} (height x width). Bring them to one with image_size=({self.shape[1]}, {self.shape[2]})."
            )
        return found

    def _of_eight_bits(self, opened: Any) -> Any:
        """Colours, or one of more bits as floats up to 255: as colours, Pillow would cut its values off there."""
        if opened.mode not in ("I", "F") and not opened.mode.startswith("I;16"):
            return opened.convert("RGB")
        if opened.mode == "F" or (opened.mode == "I" and opened.format not in ("PNG", "PPM")):
            raise ValueError(f"its values are of 32 bits, mode {opened.mode!r}, and no white is known")
        return self.pillow.fromarray(np.asarray(opened).astype(np.float32) / np.float32(257))  # 65535 / 255

    def identity(self) -> Sequence[Any]:
        names = [os.path.relpath(file, self.folder) for file in self.files]
        looked = sorted(set(np.linspace(0, len(self.files) - 1, SAMPLES).astype(int).tolist()))
        return [self.size, self.shape, names, *(digest_of(self.files[row], self.who) for row in looked)]


def _text(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[2]}"


def _size(given: Any, who: str) -> tuple[int, int] | None:
    if given is None:
        return None
    whole = isinstance(given, (tuple, list)) and len(given) == 2
    if not whole or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1 for n in given):
        raise DataError(f"{who}: image_size must be (height, width), two whole numbers of 1 or more, got {given!r}.")
    return int(given[0]), int(given[1])
