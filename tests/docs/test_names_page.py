"""The page of names shows what is there today."""

import re
import runpy
from pathlib import Path

import numpy as np

import chainrule as cr

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_names_is_up_to_date():
    script = runpy.run_path(str(DOCS / "make_names.py"))
    page = (DOCS / "names.md").read_text(encoding="utf-8")
    assert page == script["build"](), "run: python docs/make_names.py"


def test_the_page_tells_what_is_here_from_what_is_not():
    page = (DOCS / "names.md").read_text(encoding="utf-8")
    layers = page.split("## torch.nn\n")[1].split("\n## ")[0]
    assert "| `Linear` | `nn.Linear` |" in layers
    assert "`Fold`" in layers.split("Not there yet:")[1]


def test_what_the_readme_calls_absent_is():
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    listed = text.split("What is absent\nso far:")[1].split("`cr.compile`")[0]
    names = {name.removeprefix("torch.") for name in re.findall(r"`([\w.]+)`", listed) if not name.startswith("cr.")}
    assert {"OneCycleLR", "CyclicLR", "LBFGS"} <= names
    places = (cr, cr.Tensor, cr.nn, cr.nn.functional, cr.optim, cr.optim.lr_scheduler)
    assert [name for name in sorted(names) for place in places if hasattr(place, name.partition(".")[0])] == []
    assert [name for name in re.findall(r"`cr\.(\w+)`", listed) if not hasattr(cr, name)] == []


def test_the_page_tells_what_differs_without_an_error():
    page = (DOCS / "names.md").read_text(encoding="utf-8")
    array = np.zeros(2, np.float32)
    copied, shared = cr.as_tensor(array), cr.from_numpy(array)
    array += 1
    assert copied.tolist() == [0, 0] and shared.tolist() == [1, 1]
    assert (
        "| `as_tensor` | `cr.as_tensor` | an array is copied (PyTorch shares its memory): `cr.from_numpy` shares it |"
        in page
    )
