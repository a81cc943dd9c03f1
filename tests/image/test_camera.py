# SPDX-License-Identifier: Apache-2.0
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from ditfuse_jax import image as im

MAKE, ORIENTATION = 0x010F, 0x0112


def photo(height=32, width=48):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 4, rows + columns], axis=-1).astype(np.uint8)


def heic(file, pixels, **options):
    plugin = pytest.importorskip("pillow_heif", reason="the extra raw is not installed")
    mode = "RGB;16" if pixels.dtype == np.uint16 else "RGB"
    made = plugin.from_bytes(mode=mode, size=pixels.shape[1::-1], data=pixels.tobytes())
    made.save(file, quality=-1, chroma=444, **options)
    return file


def test_a_phones_heic_upright_with_its_camera(tmp_path):
    exif = Image.Exif()
    exif[MAKE], exif[ORIENTATION] = "Apple", 6
    file = heic(tmp_path / "IMG_1.HEIC", photo(), exif=exif.tobytes())
    found = im.read_picture(file)
    assert np.abs(found.pixels.astype(int) - np.rot90(photo(), -1)).max() <= 6  # YCbCr and back
    assert im.read_size(file) == found.pixels.shape[:2]
    assert found.bits == im.read_depth(file) == 8
    kept = Image.Exif()
    kept.load(found.origin.exif)
    assert (kept[MAKE], kept[ORIENTATION]) == ("Apple", 1)


def test_a_heic_of_10_bits_is_read_at_16(tmp_path):
    deep = photo().astype(np.uint16) * 257
    file = heic(tmp_path / "a.heic", deep)
    found = im.read_picture(file)
    assert found.bits == im.read_depth(file) == 16
    assert np.abs(found.pixels.astype(int) - deep).max() < 6 * 257
    file.rename(tmp_path / "renamed.png")
    np.testing.assert_array_equal(im.read_picture(tmp_path / "renamed.png").pixels, found.pixels)


def dng(file, left, right, height=32, width=48):
    """The smallest raw file: a Bayer pattern of two grey halves, the camera's colours being XYZ."""
    pattern = np.full((height, width), left, np.uint16)
    pattern[:, width // 2 :] = right
    unit = (10000, 10000, 0, 10000, 0, 10000)
    matrix = (*unit, 0, 10000, 10000, 10000, 0, 10000, 0, 10000, 0, 10000, 10000, 10000)
    tags = [
        (33421, "H", 2, (2, 2)),
        (33422, "B", 4, bytes([0, 1, 1, 2])),
        (50706, "B", 4, bytes([1, 4, 0, 0])),
        (50708, "s", 0, "Test camera"),
        (50714, "I", 1, 0),
        (50717, "I", 1, 16000),
        (50721, "2i", 9, matrix),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1)),
        (50778, "H", 1, 21),
    ]
    tifffile.imwrite(file, pattern, photometric=32803, extratags=tags, metadata=None)
    return file


def test_raw_is_developed_at_16_bits_and_not_brightened(tmp_path):
    pytest.importorskip("rawpy", reason="the extra raw is not installed")
    bright, dark = (im.read_picture(dng(tmp_path / f"{n}.dng", n, n // 4)) for n in (12000, 3000))
    assert bright.bits == im.read_depth(tmp_path / "3000.dng") == 16
    assert im.read_size(tmp_path / "3000.dng") == bright.pixels.shape[:2] == (32, 48)
    middles = [picture.pixels[16, column].mean() / 65535 for picture in (bright, dark) for column in (8, 40)]
    wanted = [1.055 * share ** (1 / 2.4) - 0.055 for share in (0.75, 0.1875, 0.1875, 0.046875)]  # sRGB
    np.testing.assert_allclose(middles, wanted, atol=0.02)


@pytest.mark.parametrize(("name", "plugin"), [("IMG_1.HEIC", "pillow_heif"), ("IMG_2.dng", "rawpy")])
def test_without_its_plugin_a_file_is_named(tmp_path, monkeypatch, name, plugin):
    monkeypatch.setitem(sys.modules, plugin, None)
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    assert im.is_picture(tmp_path / name)
    for read in (im.read_picture, im.read_size, im.read_file):
        with pytest.raises(im.BadFile, match=rf"{name}: .* need {plugin}; pip install 'ditfuse-jax\[raw\]'"):
            read(tmp_path / name)


@pytest.mark.parametrize(("name", "plugin"), [("a.heic", "pillow_heif"), ("a.nef", "rawpy")])
def test_damaged_ones_are_named(tmp_path, name, plugin):
    pytest.importorskip(plugin, reason="the extra raw is not installed")
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(im.BadFile, match=f"{name}: truncated or damaged"):
        im.read_picture(tmp_path / name)
