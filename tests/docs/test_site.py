"""The site: built without a warning, every public name on a page, nothing fetched from elsewhere."""

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="MkDocs is not installed: pip install '.[docs]'")
pytest.importorskip("mkdocstrings_handlers.python", reason="mkdocstrings is not installed: pip install '.[docs]'")
for library in ("onnx", "polars", "sklearn"):
    pytest.importorskip(library, reason=f"a page of the API needs {library}: pip install '.[docs]'")

ROOT = Path(__file__).parents[2]
ROOMS = [
    "chainrule", "chainrule.nn", "chainrule.nn.functional", "chainrule.nn.init", "chainrule.nn.utils", "chainrule.optim",
    "chainrule.optim.lr_scheduler", "chainrule.training", "chainrule.training.callbacks", "chainrule.data",
    "chainrule.data.table", "chainrule.utils.data", "chainrule.sklearn", "chainrule.explain", "chainrule.errors",
]  # fmt: skip


@pytest.fixture(scope="module")
def site(request, tmp_path_factory):
    built = request.config.getoption("--site")
    if built is not None:
        return built
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


class Addresses(HTMLParser):
    """What a page makes a browser fetch, and where it can be jumped to."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.add(found.get("id"))
        self.fetched += [found.get("src"), found.get("srcset"), found.get("href") if tag == "link" else None]


def read(path):
    return Addresses(path.read_text(encoding="utf-8"))


def public(room):
    module = importlib.import_module(room)
    endings = ("Error",) if room.endswith("errors") else ("_", "LR", "Plateau", "gain")
    return getattr(module, "__all__", None) or [n for n in vars(module) if n.endswith(endings) and n[0] != "_"]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_its_place(site, room):
    page = room.removeprefix("chainrule.").replace("training.callbacks", "callbacks")
    path = site / "api" / page / "index.html"
    text, anchors = path.read_text(encoding="utf-8"), read(path).anchors
    prefix = "chainrule.callbacks" if room.endswith(".callbacks") else room
    missing = [
        name for name in public(room) if f"{prefix}.{name}" not in anchors and f"<code>{name}</code>" not in text
    ]
    assert len(public(room)) > 2
    assert not missing


def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        outside = [link for link in read(page).fetched if link and re.match(r"(https?:)?//", link)]
        assert not outside, page
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_examples_are_code_and_not_quotations(site):
    for page in (site / "api").rglob("*.html"):
        assert "<blockquote>" not in page.read_text(encoding="utf-8"), page


def test_an_attribute_has_its_own_type_or_none(site):
    text = re.sub(r"<[^>]+>|\s", "", (site / "api" / "training" / "index.html").read_text(encoding="utf-8"))
    assert "betas(tuple[float,float])\N{EN DASH}ofAdam." in text
    assert "epochs,batch_size\N{EN DASH}anepochleaves" in text  # and not the type of the attribute before
