"""The HTML file: one document, one script, one style sheet, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from importlib import resources
from typing import Any

from chainrule.explain.report.tensors import packed

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<div id="page"><noscript>This page draws with JavaScript, which is switched off here. Nothing is fetched from anywhere.</noscript></div>
<script type="application/octet-stream" id="document">{document}</script>
<script type="application/octet-stream" id="tensors">{tensors}</script>
<script>{script}</script>
</body>
</html>
"""


def write(document: dict[str, Any], tensors: bytes, connect: str = "'none'") -> str:
    """The page of a document as one HTML text.

    Args:
        document: see `chainrule.explain.report.document`.
        tensors: the bytes its references point into.
        connect: whom the script may ask: nobody, or ``'self'`` where a local server follows a run.
    """
    style, script = _bundled("page.css"), _bundled("page.js")
    policy = "; ".join((
        "default-src 'none'", f"script-src '{_digest(script)}'", f"style-src '{_digest(style)}'", "img-src data:",
        f"connect-src {connect}", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'",
    ))  # fmt: skip
    text = json.dumps(plain(document), separators=(",", ":"), allow_nan=False)
    return _TEMPLATE.format(
        policy=policy, title=html.escape(document["title"]), style=style, script=script,
        document=packed(text.encode()), tensors=packed(tensors),
    )  # fmt: skip


def _bundled(name: str) -> str:
    return resources.files("chainrule.explain.report").joinpath(f"bundle/{name}").read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def plain(value: Any) -> Any:
    """The value with only what JSON has: NaN and infinities become the texts "NaN", "Infinity" and "-Infinity"."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
