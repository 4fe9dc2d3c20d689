"""The chapter on backpropagation says what the software computes today, as a page and as a notebook."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEARN = ROOT / "docs" / "learn"


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("nbclient", "ipykernel", "matplotlib"))), reason="needs the notebook extra"
)
def test_the_chapter_is_up_to_date():
    """Jupyter runs every block of the source; the page must say the same."""
    command = [sys.executable, "-W", "ignore", str(LEARN / "make_chapter.py"), "--check"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_notebook_and_the_page_are_one():
    page = (LEARN / "backpropagation.md").read_text(encoding="utf-8")
    cells = json.loads((LEARN / "backpropagation.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = ["".join(o["text"]) for c in cells if c["cell_type"] == "code" for o in c["outputs"] if "text" in o]
    assert [text.rstrip() for text in outputs] == [
        t.rstrip() for t in re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    ]
    pictures = [o for c in cells if c["cell_type"] == "code" for o in c["outputs"] if "data" in o]
    names = re.findall(r"\(images/(\S+\.svg)\)", page)
    assert len(pictures) == len(names) == len(list((LEARN / "images").iterdir()))
    assert all((LEARN / "images" / name).is_file() for name in names)


def test_numbers_may_differ_by_rounding_and_nothing_else_may():
    import runpy

    same = runpy.run_path(str(LEARN / "make_chapter.py"))["same"]
    assert same("loss 0.104, 94.7%", "loss 0.105, 94.4%")
    assert not same("loss 0.104", "loss 0.204")
    assert not same("loss 0.104", "cost 0.104")
