"""The gallery shows what its script draws, and is light."""

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
IMAGES = DOCS / "images"


@pytest.fixture(scope="module")
def script():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[plots]'")
    return runpy.run_path(str(DOCS / "make_gallery.py"))


def test_the_page_shows_every_picture_of_the_script(script):
    shown = re.findall(r"\(images/gallery/(\S+)\)", (DOCS / "gallery.md").read_text(encoding="utf-8"))
    there = [path.name for path in (IMAGES / "gallery").iterdir()]
    assert sorted(shown) == sorted(there) == sorted(script["PICTURES"]), "run: python docs/make_gallery.py"


def test_the_pictures_are_light():
    assert sum(path.stat().st_size for path in (IMAGES / "gallery").iterdir()) < 600_000


@pytest.mark.parametrize("name", ["boundary.png", "flow.svg"])
def test_one_seed_gives_one_picture(script, name, tmp_path):
    drawn = [tmp_path / folder / name for folder in ("one", "two")]
    for path in drawn:
        script["draw"](path.parent, [name])
    assert drawn[0].read_bytes() == drawn[1].read_bytes()
