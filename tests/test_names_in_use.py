"""The names and keywords that public PyTorch scripts were found to use: what share of those uses there is, and what is missing."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import chainrule as cr
from chainrule import nn

COUNTED = [
    line.split(" ", 2)
    for line in Path(__file__).with_name("names_in_use.txt").read_text().splitlines()
    if line[0] != "#"
]
OWNERS = {"Tensor": cr.ones(2, 2), "Module": nn.Linear(1, 1)}
# Keywords that a decorator takes, which no signature shows: by calling.
CALLS = {
    "Tensor.sum(keepdims=)": lambda: cr.ones(2, 2).sum(0, keepdims=True),
    "Tensor.sum(axis=)": lambda: cr.ones(2, 2).sum(axis=0),
    "torch.mean(axis=)": lambda: cr.mean(cr.ones(2, 2), axis=0),
    "torch.cat(axis=)": lambda: cr.cat([cr.ones(2, 2)], axis=0),
    "torch.Tensor(data) call": lambda: cr.Tensor([1.0]),
    "import path torch.optim.lr_scheduler": lambda: importlib.import_module("chainrule.optim.lr_scheduler"),
}
MISSING = {
    "torch.float16", "torch.max(out=)", "torch.nn.functional.binary_cross_entropy(size_average=)",
    "Tensor.resize_", "Tensor.storage", "Tensor|Module.half",
}  # fmt: skip


def found(path):
    """What stands at a dotted path: an attribute, or a module; None if nothing does."""
    owner, name = cr, "chainrule"
    for part in path.split("."):
        name = f"{name}.{part}"
        try:
            owner = getattr(owner, part)
        except AttributeError:
            try:
                owner = importlib.import_module(name)
            except ImportError:
                return None
    return owner


def takes(function, keyword):
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == keyword or (keyword == "size" and p.kind is p.VAR_POSITIONAL) for p in parameters)


def there(name):
    if name in CALLS:
        CALLS[name]()
        return True
    base, keyword = re.fullmatch(r"([^(]+)(?:\((\w+)=\))?", name).groups()
    owners, _, last = base.rpartition(".")
    if owners.split("|")[0] in OWNERS:
        values = [getattr(OWNERS[owner], last, None) for owner in owners.split("|")]
    else:
        values = [found(base.removeprefix("torch."))]
    # A tensor has no gradient function, say, and None would be an answer: names that are asked for here are never None.
    return all(value is not None and (keyword is None or takes(value, keyword)) for value in values)


def test_what_share_of_the_uses_there_is():
    counted = [(int(uses), name) for uses, scope, name in COUNTED if scope == "+"]
    missing = {name for _, name in counted if not there(name)}
    assert missing == MISSING
    share = 1 - sum(uses for uses, name in counted if name in missing) / sum(uses for uses, _ in counted)
    assert share > 0.98


@pytest.mark.parametrize("name", ["torch.svd", "torch.nn.Linear(no_such=)", "Tensor.svd", "torch.no.such"])
def test_what_is_not_there_is_seen(name):
    assert not there(name)
