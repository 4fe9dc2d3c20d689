"""Reads a page's document as the script in it does, written apart from the writer."""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

import numpy as np

TYPES = {"f32": "<f4", "f64": "<f8", "i32": "<i4", "u8": "u1", "q8": "u1"}


class Read:
    def __init__(self, page: str) -> None:
        self.document = json.loads(zlib.decompress(self._block(page, "document")))
        self.bytes = zlib.decompress(self._block(page, "tensors"))

    @staticmethod
    def _block(page: str, name: str) -> bytes:
        found = re.search(rf'<script type="application/octet-stream" id="{name}">([^<]*)</script>', page)
        assert found is not None
        return base64.b64decode(found.group(1))

    def tensor(self, ref: dict[str, Any]) -> Any:
        dtype = np.dtype(TYPES[ref["type"]])
        count = int(np.prod(ref["shape"]))
        raw = np.frombuffer(self.bytes, np.uint8, count * dtype.itemsize, ref["at"])
        return raw.reshape(dtype.itemsize, count).T.copy().reshape(-1).view(dtype).reshape(ref["shape"])
