"""The page of names shows what is there today."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_names_is_up_to_date():
    script = runpy.run_path(str(DOCS / "make_names.py"))
    page = (DOCS / "names.md").read_text(encoding="utf-8")
    assert page == script["build"](), "run: python docs/make_names.py"


def test_the_page_tells_what_is_here_from_what_is_not():
    page = (DOCS / "names.md").read_text(encoding="utf-8")
    layers = page.split("## torch.nn\n")[1].split("\n## ")[0]
    assert "| `Linear` | `nn.Linear` |" in layers
    assert "`Conv2d`" in layers.split("Not there yet:")[1]
