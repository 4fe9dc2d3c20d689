"""Every Python block of the README and the docs runs, in order, one name space a page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = {"sklearn.md": "sklearn", "tables.md": "polars"}  # what a page is about, and so imports
TABLES = {"names.md"}  # generated, and nothing but tables
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if ".source" not in page.name and page.name not in TABLES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_run(page, capsys, tmp_path, monkeypatch):
    if page.name in NEEDS:
        pytest.importorskip(NEEDS[page.name])
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks, "a page without Python blocks has no place in this test"
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)
