"""cr.save and cr.load: what goes in comes out, with no code; PyTorch and the safetensors library read and write the same."""

from __future__ import annotations

import io
import math
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import DamagedFileError, DtypeError, SettingError
from tests.optional import torch

TREE: dict[Any, Any] = {
    "weights": {"0.weight": cr.tensor([[1.0, 2.0]]), 3: cr.tensor(7)}, "list": [1, 2.5, None, True, "ü", (1, [2])],
    "array": np.arange(6, dtype="f2").reshape(2, 3).T, "large": 10**39, "inf": -math.inf, "empty": {}, "none": [],
    "masks": cr.tensor([True, False]), "big-endian": np.arange(3, dtype=">i4"),
}  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Are they alike, to types and bits?"""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, cr.Tensor):
        return a.dtype is b.dtype and same(a.detach().numpy(), b.numpy())
    if isinstance(a, np.ndarray):
        return a.dtype.newbyteorder("=") == b.dtype and a.shape == b.shape and bool((a == b).all())
    return bool(a == b)


@pytest.mark.parametrize("tree", [TREE, cr.ones(2), 3, "text", None, [], {"a.b": cr.ones(1), "a": {"b": cr.zeros(2)}}])
def test_a_tree_comes_back_as_it_was(tree: Any, tmp_path: Path) -> None:
    cr.save(tree, tmp_path / "tree")
    file = io.BytesIO()
    cr.save(tree, file)
    assert file.getvalue() == (tmp_path / "tree").read_bytes()
    assert same(tree, cr.load(tmp_path / "tree"))
    assert same(tree, cr.load(file))


def test_what_becomes_plain() -> None:
    file = io.BytesIO()
    parameter = nn.Parameter(cr.ones(2))
    cr.save(OrderedDict(a=np.float32(0.5), b=parameter, c=cr.ones(2, 3).shape), file)
    found = cr.load(file)
    assert type(found) is dict and type(found["a"]) is float and type(found["c"]) is tuple
    assert not isinstance(found["b"], nn.Parameter) and not found["b"].requires_grad


def test_an_optimizer_and_a_model_go_on_from_it(tmp_path: Path) -> None:
    def made() -> tuple[nn.Module, Any]:
        model = nn.Linear(3, 2)
        return model, cr.optim.Adam(model.parameters(), lr=0.1)

    def step(model: nn.Module, optimizer: Any) -> None:
        optimizer.zero_grad()
        (model(cr.ones(4, 3)) ** 2).sum().backward()
        optimizer.step()

    model, optimizer = made()
    step(model, optimizer)
    cr.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}, tmp_path / "checkpoint.pt")
    step(model, optimizer)
    other, its = made()
    found = cr.load(tmp_path / "checkpoint.pt", map_location="cpu", weights_only=True)
    other.load_state_dict(found["model"])
    its.load_state_dict(found["optimizer"])
    step(other, its)
    assert found["epoch"] == 1
    assert (other.weight.detach().numpy() == model.weight.detach().numpy()).all()


class Odd:
    pass


cyclic: list[Any] = []
cyclic.append(cyclic)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": [Odd()]}, "got Odd in obj['a'][0]. Save numbers, texts and tensors instead."),
        (nn.Linear(1, 1), "got Linear. Save its state_dict(), or with its architecture: cr.save_model(model, path)."),
        ({"opt": cr.optim.SGD([nn.Parameter(cr.ones(1))], lr=0.1)}, "got SGD in obj['opt']. Save its state_dict()."),
        (cyclic, "save: obj must not be nested in more than 20 levels, or in itself. Save what it consists of."),
        ({1.5: 2}, "save: the keys of a dict must be texts or whole numbers, got 1.5. Save a dict with such."),
        ([10**41], "got a whole number of more than 40 digits in obj[0]. Save it as a text."),
        ([np.array(["a"])], "got ndarray in obj[0]. Save numbers, texts and tensors instead."),
        ([np.ma.array([1], mask=[True])], "got MaskedArray in obj[0]. Save its .data and its .mask."),
        ([1 + 2j], "got complex in obj[0]"),
        ([{1, 2}], "got set in obj[0]"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_without_code_is_refused_and_nothing_written(
    tree: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DtypeError, match=re.escape(message)):
        cr.save(tree, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    cr.save({"a": cr.ones(3)}, tmp_path / "good")
    data = bytearray((tmp_path / "good").read_bytes())
    data[-1] ^= 1
    (tmp_path / "changed").write_bytes(data)
    with pytest.raises(DamagedFileError, match="the contents do not match the hash stored with them"):
        cr.load(tmp_path / "changed")
    with pytest.raises(DamagedFileError, match="there is no such file"):
        cr.load(tmp_path / "missing")
    with pytest.raises(DamagedFileError, match="the stream: not a complete safetensors file"):
        cr.load(io.BytesIO(bytes(data[:-1])))
    with pytest.raises(SettingError, match="there is only the CPU here"):
        cr.load(tmp_path / "good", map_location="cuda")
    with pytest.raises(SettingError, match="weights_only must be True"):
        cr.load(tmp_path / "good", weights_only=False)
    with pytest.raises(
        TypeError, match=r"PyTorch's keyword 'pickle_module' is not in chainrule yet\. Nothing is pickled"
    ):
        cr.load(tmp_path / "good", pickle_module=None)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_save_is_named_for_what_it_is(zipped: bool, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DamagedFileError, match="this looks like a pickle, as torch.save writes it"):
        cr.load(tmp_path / "model.pt")


def layers(nn: Any) -> Any:
    """The layers that both have, in either library."""
    return nn.Sequential(
        OrderedDict(
            table=nn.Embedding(7, 6), line=nn.Linear(6, 5), batch=nn.BatchNorm1d(5), act=nn.PReLU(5), norm=nn.LayerNorm(5),
            group=nn.GroupNorm(1, 5), out=nn.Linear(5, 3, bias=False),
        )
    )  # fmt: skip


def test_tensors_are_exchanged_with_pytorch_by_name(tmp_path: Path) -> None:
    """Both directions, through the safetensors library, in evaluation mode: the same outputs."""
    library = pytest.importorskip("safetensors.torch")
    ours, theirs, index = layers(nn), layers(torch.nn), np.array([0, 3, 6, 2])
    with torch.no_grad():
        theirs(torch.tensor(index))  # running statistics that are not those of the beginning
        for parameter in theirs.parameters():
            parameter.uniform_(0.5, 1.5)
    library.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    found = cr.load(tmp_path / "theirs.safetensors")
    assert list(found) == sorted(found, key=lambda name: (name != "batch.num_batches_tracked", name))
    ours.load_state_dict(found)
    ours.eval(), theirs.eval()

    def close() -> None:
        with torch.no_grad():
            expected = theirs(torch.tensor(index)).numpy()
        np.testing.assert_allclose(ours(cr.tensor(index)).detach().numpy(), expected, rtol=2e-5, atol=1e-6)

    close()
    with cr.no_grad():
        for parameter in ours.parameters():
            parameter.uniform_(-1, 1)
    for write in (lambda path: cr.save(ours.state_dict(), path), lambda path: cr.save_model(ours, path)):
        write(tmp_path / "ours.safetensors")
        theirs.load_state_dict(library.load_file(tmp_path / "ours.safetensors"))
        close()
