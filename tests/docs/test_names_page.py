"""The page of names shows what is there today."""

import inspect
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_names_is_up_to_date():
    script = runpy.run_path(str(DOCS / "make_names.py"))
    page = (DOCS / "names.md").read_text(encoding="utf-8")
    assert page == script["build"](), "run: python docs/make_names.py"


def test_the_page_tells_what_is_here_from_what_is_not():
    page = (DOCS / "names.md").read_text(encoding="utf-8")
    layers = page.split("## torch.nn\n")[1].split("\n## ")[0]
    assert "| `Linear` | `nn.Linear` |" in layers
    assert "`LPPool1d`" in layers.split("Not there yet:")[1]


def test_what_the_readme_calls_absent_is():
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    listed = text.split("What is missed most")[1].split("[docs/names.md]")[0]
    names = {name.removeprefix("torch.") for name in re.findall(r"`([\w.]+)`", listed) if not name.startswith("cr.")}
    assert {"Muon", "F.grid_sample", "int8"} <= names
    places = (cr, cr.Tensor, nn, F, optim, optim.lr_scheduler)
    assert [name for name in sorted(names) for place in places if is_there(place, name)] == []
    assert [name for name in re.findall(r"`cr\.(\w+)`", listed) if not hasattr(cr, name)] == []


def is_there(place, name):
    if name.startswith("F."):
        return hasattr(F, name.removeprefix("F."))
    for part in name.split("."):
        place = getattr(place, part, None)
    return place is not None


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


def lines(axes):
    return cr.ones(1, 2, *[8] * axes)


def axes_of(name):
    return int(name[-2])


GIVEN = {
    "Conv": lambda name, **odd: getattr(nn, name)(2, 2, 3, **odd),
    "LazyConv": lambda name, **odd: getattr(nn, name)(2, 3, **odd),
    "MaxPool": lambda name, **odd: getattr(nn, name)(2, **odd),
    "AvgPool": lambda name, **odd: getattr(nn, name)(2, **odd),
    "AdaptiveMaxPool": lambda name, **odd: getattr(nn, name)(2, **odd),
    "Embedding": lambda name, **odd: getattr(nn, name)(3, 2, **odd),
    "LSTM": lambda name, **odd: nn.LSTM(2, 4, **odd),
    "MultiheadAttention": lambda name, **odd: nn.MultiheadAttention(4, 2, **odd),
    "Upsample": lambda name, **odd: nn.Upsample(scale_factor=2, **odd)(lines(2)),
    "max_pool": lambda name, **odd: getattr(F, name)(lines(axes_of(name)), 2, **odd),
    "avg_pool": lambda name, **odd: getattr(F, name)(lines(axes_of(name)), 2, **odd),
    "adaptive_max_pool": lambda name, **odd: getattr(F, name)(lines(axes_of(name)), 2, **odd),
    "embedding": lambda name, **odd: getattr(F, name)(cr.tensor([[0, 1]]), cr.ones(3, 2), **odd),
    "interpolate": lambda name, **odd: F.interpolate(lines(2), scale_factor=2, **odd),
    "jacobian": lambda name, **odd: cr.autograd.functional.jacobian(cr.exp, cr.ones(1), **odd),
    "hessian": lambda name, **odd: cr.autograd.functional.hessian(cr.sum, cr.ones(1), **odd),
    "fill_diagonal_": lambda name, **odd: cr.zeros(4, 2).fill_diagonal_(1, **odd),
    "cov": lambda name, **odd: cr.cov(cr.ones(2, 2), **odd),
}
VALUES = {
    "padding_mode": "reflect",
    "proj_size": 2,
    "max_norm": 1.0,
    "fweights": cr.tensor([1, 2]),
    "aweights": cr.tensor([1.0, 2.0]),
}
BY_HAND = {
    ("torch", "autocast"): lambda: cr.autocast("cpu"),
    ("torch", "set_default_dtype"): lambda: cr.set_default_dtype(cr.float64),
    ("torch", "set_default_tensor_type"): lambda: cr.set_default_tensor_type(cr.DoubleTensor),
    ("torch", "set_default_device"): lambda: cr.set_default_device("cuda"),
    ("torch", "einsum"): lambda: cr.einsum(cr.ones(2, 2), [0, 1]),
    ("torch", "norm"): lambda: cr.norm(cr.ones(2, 2), "nuc"),
    ("Tensor", "norm"): lambda: cr.ones(2, 2).norm("nuc"),
    ("Tensor", "view"): lambda: cr.ones(2).view(cr.int32),
    ("linalg", "norm"): lambda: cr.linalg.norm(cr.ones(2, 2), 2),
    ("linalg", "matrix_norm"): lambda: cr.linalg.matrix_norm(cr.ones(2, 2), "nuc"),
}
REFUSED = runpy.run_path(str(DOCS / "make_names.py"))["REFUSED"]
NOTES = [(room, name, text) for room, names in REFUSED.items() for name, text in names.items()]


@pytest.mark.parametrize(("room", "name", "text"), NOTES, ids=[f"{room}.{name}" for room, name, _ in NOTES])
def test_what_the_page_calls_refused_is(room, name, text):
    page = (DOCS / "names.md").read_text(encoding="utf-8")
    assert re.search(rf"\| `{name}` \| `[\w.]+` \| (.+; )?refused: {re.escape(text)}( |;)", page)
    if (room, name) in BY_HAND:
        with pytest.raises(cr.ChainruleError):
            BY_HAND[room, name]()
        return
    call = GIVEN[re.sub(r"(\dd|Bag|_bag)$", "", name)]
    call(name)
    for keyword, value in re.findall(r"`(\w+)(?:=(.+?))?`", text):
        with pytest.raises(cr.ChainruleError, match=rf"{keyword.removesuffix('s')}"):
            call(name, **{keyword: eval(value) if value else VALUES[keyword]})


def test_what_takes_return_indices_has_a_note():
    for room, owner in (("nn", nn), ("functional", F)):
        for name, found in vars(owner).items():
            if not name.startswith("_") and callable(found) and "return_indices" in inspect.signature(found).parameters:
                assert "return_indices" in REFUSED[room].get(name, ""), name
