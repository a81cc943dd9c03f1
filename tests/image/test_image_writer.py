# SPDX-License-Identifier: Apache-2.0
import os

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax import image as im
from ditfuse_jax.image import writer


def gradient(height=20, width=24):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 7, (rows + columns) * 3], axis=-1).astype(np.uint8)


def test_write_keeps_pixels_and_text(tmp_path):
    metadata = {"prompt": "fuse, bitte: 融合", "seed": "7"}
    im.write(tmp_path / "new" / "out.png", gradient(), metadata=metadata)
    with Image.open(tmp_path / "new" / "out.png") as image:
        assert image.text == metadata | {"software": "ditfuse-jax"}
        np.testing.assert_array_equal(np.asarray(image), gradient())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.png"]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp"])
def test_write_follows_the_suffix(tmp_path, suffix):
    im.write(tmp_path / f"out{suffix}", gradient(), metadata={"prompt": "融合"})
    assert np.abs(im.read(tmp_path / f"out{suffix}").astype(int) - gradient()).max() <= (
        8 if suffix == ".jpg" else 0
    )
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert suffix == ".bmp" or "\\u878d" in image.getexif()[writer.DESCRIPTION]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    im.write(tmp_path / "out.png", gradient(), metadata={})
    before = (tmp_path / "out.png").read_bytes()

    def broken(self, fp, *args, **kwargs):
        fp.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="No space"):
        im.write(tmp_path / "out.png", gradient() + 1, metadata={})
    assert (tmp_path / "out.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_what_was_written_here_is_replaced_and_what_was_not_is_kept(tmp_path, suffix):
    file, metadata = tmp_path / f"out{suffix}", {"prompt": "fuse 融合", "seed": "7"}
    im.write(file, gradient(), metadata=metadata)
    assert im.read_metadata(file) == metadata
    im.write(file, gradient() + 1, metadata={})
    assert im.read_metadata(file) == {}
    Image.fromarray(gradient()).save(file)
    assert im.read_metadata(file) is None
    before = file.read_bytes()
    with pytest.raises(ValueError, match=f"out{suffix} is there already and was not written by ditfuse-jax"):
        im.write(file, gradient(), metadata={})
    assert file.read_bytes() == before
    im.write(file, gradient(), metadata=metadata, overwrite=True)
    assert im.read_metadata(file) == metadata


def described(text):
    exif = Image.Exif()
    exif[writer.DESCRIPTION] = text
    return exif


@pytest.mark.parametrize("text", ["a cat", "[1]", '{"software": "GIMP"}', "{" * 5000, '{"a":' * 5000, ""])
def test_descriptions_of_others_are_not_ours(tmp_path, text):
    Image.fromarray(gradient()).save(tmp_path / "photo.jpg", exif=described(text))
    assert im.read_metadata(tmp_path / "photo.jpg") is None


def test_a_file_without_place_for_metadata_is_not_replaced(tmp_path):
    im.write(tmp_path / "out.bmp", gradient(), metadata={})
    with pytest.raises(ValueError, match="out.bmp is there already and was not written by"):
        im.write(tmp_path / "out.bmp", gradient(), metadata={})
    im.write(tmp_path / "out.bmp", gradient() + 1, metadata={}, overwrite=True)
    np.testing.assert_array_equal(im.read(tmp_path / "out.bmp"), gradient() + 1)


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_and_folders_are_never_replaced(tmp_path, overwrite):
    im.write(tmp_path / "real.png", gradient(), metadata={})
    for name, target in (("link.png", "real.png"), ("dangling.png", "nowhere.png")):
        (tmp_path / name).symlink_to(tmp_path / target)
        with pytest.raises(ValueError, match=f"{name} is a symbolic link, which is not replaced"):
            im.write(tmp_path / name, gradient(), metadata={}, overwrite=overwrite)
        assert (tmp_path / name).is_symlink()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("folder.png", "pipe.png"):
        with pytest.raises(ValueError, match=f"{name} is no file, so no picture can take its place"):
            im.write(tmp_path / name, gradient(), metadata={}, overwrite=overwrite)


def test_an_empty_file_holds_nothing_and_is_replaced(tmp_path):
    (tmp_path / "out.png").touch()
    im.write(tmp_path / "out.png", gradient(), metadata={})
    np.testing.assert_array_equal(im.read(tmp_path / "out.png"), gradient())


def test_files_reach_the_disk_before_their_name(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(os, "fsync", lambda handle: events.append(("fsync", os.fstat(handle).st_size)))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (events.append(("replace",)), replace(*names)))
    im.write(tmp_path / "out.png", gradient(), metadata={})
    assert events == [("fsync", (tmp_path / "out.png").stat().st_size), ("replace",)]


def test_a_picture_too_large_for_its_format_is_known_before_it_is_made(tmp_path):
    im.check_fits(tmp_path / "out.webp", 16, 16383)
    im.check_fits(tmp_path / "out.png", 16, 70000)
    for name, side in (("out.webp", 16384), ("out.jpg", 65501)):
        with pytest.raises(ValueError, match=f"{name}: {side} x 16 pixels, a side is over {side - 1}"):
            im.check_fits(tmp_path / name, 16, side)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("letter", ["x", "融", '"'])
def test_text_that_does_not_fit_is_cut(tmp_path, suffix, letter):
    file = tmp_path / f"out{suffix}"
    im.write(file, gradient(), metadata={"prompt": letter * 100_000, "seed": "7"})
    found = im.read_metadata(file)
    assert found["seed"] == "7"
    assert 7000 < len(found["prompt"]) < 60_000
    assert found["prompt"].endswith(f"{letter}...")


def test_a_long_name_that_the_disk_takes_is_written(tmp_path):
    name = "融" * 83 + ".png"  # 253 bytes of 255
    im.write(tmp_path / name, gradient(), metadata={})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(ValueError, match="cannot be written: File name too long; choose another name"):
        im.check_writable(tmp_path / ("融" * 84 + ".png"))


def test_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot write .exe; use one of .png"):
        im.write(tmp_path / "out.exe", gradient(), metadata={})
