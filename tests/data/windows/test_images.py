"""Folders of images as sources: the class is the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL", reason="Pillow is not installed")

from PIL import Image

import chainrule as cr
from chainrule import nn
from chainrule.data import as_source
from chainrule.data.windows import images
from chainrule.errors import DataError, NotEnoughMemoryError
from chainrule.training import Trainer

rng = np.random.default_rng(0)


def folder(path: Path, size: tuple[int, int] = (6, 8), count: int = 10) -> dict[str, Any]:
    """Dark images of one class and bright ones of another; what each holds, by name."""
    found = {}
    for name, least in (("bright", 140), ("dark", 0)):
        (path / name / "deeper").mkdir(parents=True)
        for number in range(count):
            place = path / name / ("deeper" if number % 2 else ".") / f"{number:02d}.png"
            pixels = rng.integers(least, least + 100, (*size, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place)
            found[str(place)] = pixels
    (path / "notes.txt").write_text("no image")
    return found


def test_every_folder_is_a_class(tmp_path: Path) -> None:
    pixels = folder(tmp_path)
    source = as_source(tmp_path, buffer=3000)
    assert source.rows == 20
    assert source.store.classes == ["bright", "dark"]
    found = [window.arrays for window in source.windows(batch_size=2, shuffle=False)]
    assert len(found) > 3
    x, y = (np.concatenate(part) for part in zip(*found, strict=True))
    assert (x.shape, x.dtype, y.dtype) == ((20, 3, 6, 8), np.float32, np.int64)
    assert y.tolist() == [0] * 10 + [1] * 10
    expected = [pixels[file].transpose(2, 0, 1) / np.float32(255) for file in source.store.files]
    np.testing.assert_array_equal(x, np.array(expected, np.float32))
    orders = [np.concatenate([w.arrays[1][w.order] for w in source.windows(batch_size=2, seed=s)]) for s in (0, 1)]
    assert not np.array_equal(*orders)


def test_as_torchvision_reads_them(tmp_path: Path) -> None:
    vision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    folder(tmp_path)
    theirs = vision.datasets.ImageFolder(tmp_path, vision.transforms.ToTensor())
    x, y = as_source(tmp_path).head(20)
    assert theirs.classes == as_source(tmp_path).store.classes
    for row, (image, label) in enumerate(theirs):
        np.testing.assert_array_equal(x[row], image.numpy())
        assert y[row] == label


def test_a_network_learns_them(tmp_path: Path) -> None:
    folder(tmp_path)
    cr.manual_seed(0)
    trainer = Trainer(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), "cross_entropy", "adam", ["accuracy"], lr=0.01)
    for data in (tmp_path, as_source(tmp_path, buffer=3000)):
        history = trainer.fit(data, epochs=20, batch_size=4, progress=False)
    assert history["accuracy"][-1] == 1.0
    assert trainer.predict_classes(tmp_path).tolist() == [0] * 10 + [1] * 10


def test_kinds_of_images_and_sizes(tmp_path: Path) -> None:
    folder(tmp_path)
    Image.fromarray(np.full((6, 8), 100, np.uint8)).save(tmp_path / "dark" / "grey.png")
    Image.fromarray(np.full((6, 8, 4), 100, np.uint8)).save(tmp_path / "dark" / "clear.png")
    source = as_source(tmp_path)
    x, _ = source.head(22)
    plain = [file.endswith(("grey.png", "clear.png")) for file in source.store.files]
    assert np.isclose(x[plain], 100 / 255).all()
    assert sum(plain) == 2
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "dark" / "small.png")
    text = r"all images must be of one size, got 6 x 8 in .* and 3 x 4 in .*small\.png .*image_size=\(6, 8\)"
    with pytest.raises(DataError, match=text):
        as_source(tmp_path).head(23)
    x, _ = as_source(tmp_path, image_size=(5, 7)).head(23)
    assert x.shape == (23, 3, 5, 7)


def test_sixteen_bits_keep_their_values(tmp_path: Path) -> None:
    folder(tmp_path, count=1)
    deep = rng.integers(0, 65536, (6, 8)).astype(np.uint16)
    deep[0, :2] = 0, 65535
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(deep).save(tmp_path / "dark" / name)
    source = as_source(tmp_path)
    x, _ = source.head(4)
    for name in ("deep.png", "deep.tif"):
        found = x[[file.endswith(name) for file in source.store.files]]
        np.testing.assert_allclose(found, np.broadcast_to(deep / 65535, (1, 3, 6, 8)), rtol=1e-6)
    assert as_source(tmp_path, image_size=(3, 4)).head(4)[0].max() < 1
    for number, of in enumerate((np.float32, np.int32)):
        Image.fromarray(deep.astype(of)).save(tmp_path / "dark" / f"unknown{number}.tif")
        with pytest.raises(DataError, match=r"unknown.\.tif cannot be read as an image \(its values are of 32 bits"):
            as_source(tmp_path).head(5)
        (tmp_path / "dark" / f"unknown{number}.tif").unlink()


def test_later_folders_are_labelled_by_name(tmp_path: Path) -> None:
    folder(tmp_path / "all")
    folder(tmp_path / "some")
    (tmp_path / "some" / "bright").rename(tmp_path / "gone")
    cr.manual_seed(0)
    trainer = Trainer(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), "cross_entropy", "adam", ["accuracy"], lr=0.01)
    history = trainer.fit(tmp_path / "all", epochs=60, batch_size=4, progress=False, validation_data=tmp_path / "some")
    right = np.mean(trainer.predict_classes(tmp_path / "some") == 1)
    assert right > 0.5
    assert history["val_accuracy"][-1] == pytest.approx(right)
    again = Trainer(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), "cross_entropy", "adam", ["accuracy"], lr=0.01)
    trainer.save(tmp_path / "saved")
    again.load(tmp_path / "saved")
    for one in (trainer, again):
        given = as_source(tmp_path / "some", buffer=3000)
        for data in (tmp_path / "some", given):
            assert one.evaluate(data)["accuracy"] == pytest.approx(right)  # there, "dark" is the first of one
        assert given.store.labels.tolist() == [0] * 10
    (tmp_path / "some" / "dark").rename(tmp_path / "some" / "grey")
    said = (
        "evaluate: X must have folders for classes that the model was trained on, 'bright', 'dark', got 'grey' beside. Rename it, or "
        "leave it out."
    )
    with pytest.raises(DataError, match=f"^{said}$"):
        trainer.evaluate(tmp_path / "some")
    assert np.mean(trainer.predict_classes(tmp_path / "some") == 1) == right
    trainer.fit(tmp_path / "some", epochs=1, progress=False)  # a training of its own


def test_what_is_refused(tmp_path: Path) -> None:
    folder(tmp_path / "data")
    data = tmp_path / "data"
    for size in ((0, 3), 5, (2.5, 2), (True, 2)):
        with pytest.raises(DataError, match=r"image_size must be \(height, width\)"):
            as_source(data, image_size=size)  # type: ignore[arg-type]
    with pytest.raises(
        NotEnoughMemoryError, match=r"as_source: an image of \(1000000, 1000000\) needs 16,000,000,000,000"
    ):
        as_source(data, image_size=(10**6, 10**6))
    with pytest.raises(DataError, match="name columns, which a folder of images has not"):
        as_source(data, target="y")
    with pytest.raises(DataError, match="image_size is for a folder of images"):
        as_source(np.zeros((3, 2)), image_size=(2, 2))
    (data / "dark" / "torn.png").write_bytes((data / "dark" / "00.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"torn\.png cannot be read as an image"):
        as_source(data).head(30)
    (data / "none").mkdir()
    with pytest.raises(DataError, match="every folder in .* must hold images, got none in 'none'"):
        as_source(data)


def test_another_image_is_another_fingerprint(tmp_path: Path) -> None:
    folder(tmp_path)
    before = as_source(tmp_path).fingerprint()
    assert as_source(tmp_path).fingerprint() == before
    (tmp_path / "dark" / "00.png").rename(tmp_path / "bright" / "99.png")
    assert as_source(tmp_path).fingerprint() != before


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(DataError, match=r"images are decoded by Pillow, which is not installed. pip install"):
        as_source(tmp_path)
    assert images.ENDINGS
