"""Data sets that come with chainrule."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from chainrule.data.batches import train_test_split
from chainrule.errors import unknown_name
from chainrule.names import takes_keywords

Array = np.ndarray[Any, Any]


class Part(NamedTuple):
    """Rows to train or to test on: ``X, y = part``."""

    X: Array
    y: Array


@dataclass(frozen=True)
class Dataset:
    """A data set with its fixed split and what its numbers mean."""

    name: str
    train: Part
    test: Part
    feature_names: list[str]
    class_names: list[str]
    image_shape: tuple[int, ...] | None
    description: str

    def __repr__(self) -> str:
        rows, features = self.train.X.shape
        return f"<{self.name}: {rows} + {len(self.test.y)} rows, {features} features, {len(self.class_names)} classes>"


@takes_keywords("")
def load(name: str) -> Dataset:
    """A bundled data set by its name, the same rows in the same parts every time.

    ``"digits"``: 1,797 images of handwritten digits (UCI, 8x8), scaled to [0, 1]; X float32 (N, 64), y int64 (N,).
    1,437 training and 360 test rows, the stratified split of seed 0 (`train_test_split`). The rows come from 13
    writers, and both parts hold all of them: the test accuracy is about known hands.

    Args:
        name: ``"digits"``.

    Raises:
        UnknownNameError: no such data set.

    Example:
        >>> digits = load("digits")
        >>> digits
        <digits: 1437 + 360 rows, 64 features, 10 classes>
        >>> X, y = digits.train
        >>> X.shape, X.dtype.name, y.dtype.name
        ((1437, 64), 'float32', 'int64')

    Source: E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49 (CC BY 4.0).
    """
    if name not in _SOURCES:
        raise unknown_name("dataset", name, list(_SOURCES))
    return _SOURCES[name]()


def read_digits() -> Part:
    """All images, uint8 (1797, 8, 8) with values 0 to 16, and their labels, uint8 (1797,), in UCI's order."""
    from importlib import resources  # only for whoever loads them: it takes a tenth of the import of chainrule

    data = resources.files("chainrule.data").joinpath("digits.npz").read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return Part(archive["images"], archive["labels"])


def _digits() -> Dataset:
    images, labels = read_digits()
    X = images.reshape(len(images), 64).astype(np.float32) / np.float32(16)
    X_train, X_test, y_train, y_test = train_test_split(X, labels.astype(np.int64), 360, seed=0, stratify=True)
    return Dataset(
        name="digits",
        train=Part(X_train, y_train),
        test=Part(X_test, y_test),
        feature_names=[f"pixel_{row}_{column}" for row in range(8) for column in range(8)],
        class_names=[str(digit) for digit in range(10)],
        image_shape=(8, 8),
        description="Optical Recognition of Handwritten Digits (UCI, Alpaydin and Kaynak 1998, CC BY 4.0).",
    )


_SOURCES: dict[str, Callable[[], Dataset]] = {"digits": _digits}
