"""The walk through the rooms shows what the software prints today."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_architecture_page_is_up_to_date():
    script = runpy.run_path(str(DOCS / "make_architecture.py"))
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    remedy = "run: python docs/make_architecture.py"
    assert script["without_assembly"](page) == script["without_assembly"](script["build"]()), remedy


def test_the_inner_loop_shown_is_a_tile_of_fused_multiply_adds():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    listing = page.split("for each row of the tile.")[1].split("```")[1]
    assert listing.count("vfmadd") == 8
    assert listing.count("vbroadcastss") == 4
