"""What is shipped is what the sources give: the same bytes, from the versions that the lock file pins."""

import json
import re
import shutil
import subprocess

import pytest
from tests.browser import PAGE

from chainrule.explain.report.page import _bundled


def test_the_shipped_bundle_is_what_the_sources_give(tmp_path):
    node = shutil.which("node")
    if node is None or not (PAGE / "node_modules").exists():
        pytest.skip("Node or the page's packages are not installed: npm ci in page/")
    subprocess.run([node, "build.mjs", str(tmp_path)], cwd=PAGE, check=True)
    for name in ("page.js", "page.css"):
        assert (tmp_path / name).read_text(encoding="utf-8") == _bundled(name), "run: npm run build in page/"


def test_every_package_is_pinned_and_the_lock_file_names_no_registry():
    package = json.loads((PAGE / "package.json").read_text(encoding="utf-8"))
    pinned = {**package["dependencies"], **package["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pinned.values())
    locked = json.loads((PAGE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert all("resolved" not in entry for entry in locked.values())
    assert all("integrity" in entry for path, entry in locked.items() if path)
    assert {name: locked[f"node_modules/{name}"]["version"] for name in pinned} == pinned


def test_the_script_asks_nobody_but_its_own_server():
    script = _bundled("page.js")
    assert set(re.findall(r"fetch\(([^,)]*)", script)) and all(
        "http" not in call for call in re.findall(r"fetch\([^)]*\)", script)
    )
    addresses = set(re.findall(r"https?://[^\"'`\s)]+", script))
    assert addresses <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xhtml",
        "http://www.w3.org/1998/Math/MathML",
    }, addresses
    assert not re.search(r"\beval\(|new Function\(|importScripts|WebSocket|EventSource|sendBeacon", script)
