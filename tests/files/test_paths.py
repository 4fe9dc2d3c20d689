"""Names and places that are odd: what is saved there is found there, or one error says why not, and nothing is changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.errors import ChainruleError, DamagedFileError, SettingError, UnwritableFileError

posix = pytest.mark.skipif(os.name != "posix", reason="links and names of any bytes are those of POSIX")
X = np.random.default_rng(0).normal(size=(20, 4)).astype("f")
Y = (X[:, 0] > 0).astype(int)


def trainer() -> cr.Trainer:
    cr.manual_seed(0)
    model = cr.nn.Linear(4, 2)
    return cr.Trainer(model, F.cross_entropy, cr.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def fitted() -> cr.Trainer:
    made = trainer()
    made.fit(X, Y, epochs=1, progress=False)
    return made


def comes_back(made: cr.Trainer, path: Any) -> bool:
    """Is what `save` writes to a path what `load` finds there?"""
    made.save(path)
    other = trainer()
    other.load(path)
    return all(cr.equal(value, made.model.state_dict()[name]) for name, value in other.model.state_dict().items())


NAMES = ["two\nlines", "é漢\u202e😀", "x" * 255, "é" * 127, " ", "-rf", "a b.", "..."]


@posix
@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_odd(tmp_path: Path, name: str) -> None:
    made = fitted()
    assert comes_back(made, tmp_path / name)
    assert comes_back(made, os.fsencode(tmp_path / name))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@posix
def test_a_name_of_bytes_that_are_no_text(tmp_path: Path) -> None:
    made, name = fitted(), os.fsencode(tmp_path) + b"/\xff\xfe"
    try:
        open(name, "wb").close()
    except OSError:
        pytest.skip("this file system takes text alone")
    assert comes_back(made, name)
    assert comes_back(made, os.fsdecode(name))
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff\xfe"]


@posix
def test_links_are_followed_wherever_they_lead(tmp_path: Path) -> None:
    made, there = fitted(), tmp_path / "there"
    there.mkdir()
    (tmp_path / "link").symlink_to(there / "a")  # to nothing yet
    assert comes_back(made, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (there / "a").is_file()
    (tmp_path / "folder").symlink_to(there)
    assert comes_back(made, tmp_path / "folder" / "b")
    assert comes_back(made, tmp_path / "folder" / ".." / "c")
    assert sorted(entry.name for entry in there.iterdir()) == ["a", "b"]


@posix
@pytest.mark.skipif(
    not os.path.isdir("/dev/shm") or not os.access("/dev/shm", os.W_OK), reason="needs two file systems"
)
def test_a_link_to_another_device(tmp_path: Path) -> None:
    target = Path("/dev/shm") / f"chainrule-{os.getpid()}-{tmp_path.name}"
    (tmp_path / "link").symlink_to(target)
    try:
        assert comes_back(fitted(), tmp_path / "link")
        assert target.is_file()
        assert (tmp_path / "link").is_symlink()
    finally:
        target.unlink(missing_ok=True)


REFUSED = [
    ("folder", "it is a folder", "Name a file in it."),
    ("folder/", "a slash at its end says that it is a folder", "Name a file in it."),
    ("file/", "a slash at its end says that it is a folder", "Name a file in it."),
    ("new/", "a slash at its end says that it is a folder", "Name a file in it."),
    ("file/a", "Not a directory", "Name a folder that is there."),
    ("new/a", "No such file or directory", "Make the folder first, or name one that is there."),
    ("new/../a", "No such file or directory", "Make the folder first, or name one that is there."),
    ("x" * 256, "File name too long", "Give it a shorter name."),
    ("loop", "it is a link", "Name a file to which its links lead."),
    ("a\0b", "a zero byte is in its name", "Give it another name."),
    ("\ud800", "half a character is in its name", "Give it another name."),
    ("pipe", "it is a pipe", "Name a file or folder that you may write to, or look after the disk."),
]


@posix
@pytest.mark.parametrize(("name", "why", "remedy"), REFUSED)
def test_places_where_no_file_can_be(tmp_path: Path, name: str, why: str, remedy: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    before, made = sorted(os.listdir(tmp_path)), fitted()
    weight = made.model.weight.detach().numpy().copy()
    path = f"{tmp_path}/{name}"
    shown = path.encode("utf-8", "backslashreplace").decode()
    with pytest.raises(UnwritableFileError) as caught:
        made.save(path)
    expected = f"{shown}: this file could not be written ({why}); what stood there before still stands. {remedy}"
    assert str(caught.value) == expected
    with pytest.raises(DamagedFileError):
        made.load(path)
    assert np.array_equal(made.model.weight.detach().numpy(), weight)
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "file").read_bytes() == b"mine"


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    made = fitted()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UnwritableFileError, match="Permission denied"):
            made.save(tmp_path / "a")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("path", [3, None, "", b"", ["a"]])
def test_what_is_no_path(path: Any) -> None:
    made, text = (
        fitted(),
        f"the name of a file must be a text or a path, got {path!r}. Pass 'training.safetensors', for example.",
    )
    for act in (made.save, made.load, lambda path: cr.load_run(path, made, X, Y)):
        with pytest.raises(SettingError) as caught:
            act(path)
        assert str(caught.value) == text


@posix
@pytest.mark.parametrize("name", ["file", "file/a", "loop", "a\0b", "\ud800", "x" * 256])
def test_a_record_that_can_have_no_folder_is_refused_before_the_first_step(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    made, before = trainer(), trainer().model.state_dict()
    with pytest.raises(ChainruleError):
        made.fit(X, Y, epochs=1, progress=False, record=f"{tmp_path}/{name}")
    assert made.session.position is None
    assert all(cr.equal(value, before[key]) for key, value in made.model.state_dict().items())
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_record_without_a_name_is_none() -> None:
    with pytest.raises(SettingError) as caught:
        trainer().fit(X, Y, epochs=1, progress=False, record="")
    assert str(caught.value) == (
        "fit: record must be True, False or the path of a folder, got ''. Pass record=True to keep one in a temporary folder, "
        "or record='runs/mine'."
    )
