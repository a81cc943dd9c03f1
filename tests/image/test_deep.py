# SPDX-License-Identifier: Apache-2.0
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from ditfuse_jax import image as im
from ditfuse_jax.image import deep, vips


def levels(channels=3, height=20, width=24):
    return np.random.default_rng(0).integers(0, 65536, (height, width, channels)).astype(np.uint16)


def grey_of(values):
    return np.repeat(values[..., :1], 3, axis=-1)


def test_what_is_written_at_16_bits_is_read_at_16_bits(tmp_path):
    for name in ("a.png", "a.tif"):
        im.write(tmp_path / name, levels(), metadata={"prompt": "fuse 融合"})
        found = im.read_picture(tmp_path / name)
        np.testing.assert_array_equal(found.pixels, levels())
        assert found.bits == im.read_depth(tmp_path / name) == 16
        assert im.read_metadata(tmp_path / name) == {"prompt": "fuse 融合"}
        np.testing.assert_array_equal(im.read(tmp_path / name), np.rint(levels() / 257).astype(np.uint8))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["grey", "rgb", "min-is-white", "planes", "floats", "float colours"])
def test_deep_tiffs_of_other_programs(tmp_path, order, kind):
    rgb = levels()
    array, how, wanted = {
        "grey": (rgb[..., 0], {"photometric": "minisblack"}, grey_of(rgb)),
        "rgb": (rgb, {"photometric": "rgb"}, rgb),
        "min-is-white": (rgb[..., 0], {"photometric": "miniswhite"}, 65535 - grey_of(rgb)),
        "planes": (np.moveaxis(rgb, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}, rgb),
        "floats": ((rgb[..., 0] / 65535).astype(np.float32), {"photometric": "minisblack"}, grey_of(rgb)),
        "float colours": ((rgb / 65535).astype(np.float32), {"photometric": "rgb"}, rgb),
    }[kind]
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(array), byteorder=order, **how)
    found = im.read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.pixels, wanted)
    np.testing.assert_array_equal(im.read_file(tmp_path / "a.tif"), np.rint(wanted / 257))  # training
    assert im.read_size(tmp_path / "a.tif") == (20, 24)


def test_floats_with_white_as_zero(tmp_path):
    values = (levels()[..., 0] / 65535).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(im.read_picture(tmp_path / "a.tif").pixels, 65535 - grey_of(levels()))


@pytest.mark.parametrize("worst", [7000.0, -0.5, np.nan])
def test_floats_that_are_no_brightness_are_refused(tmp_path, worst):
    values = np.full((20, 24, 3), 0.5, np.float32)
    values[3, 4, 1] = worst
    for number, array in enumerate((values, values[..., 1])):
        tifffile.imwrite(tmp_path / f"{number}.tif", array, photometric="rgb" if number == 0 else None)
        for read in (im.read_picture, im.read_file):  # inference, training
            with pytest.raises(im.BadFile, match=f"{number}.tif: values .* lie outside 0 .. 1; save it as"):
                read(tmp_path / f"{number}.tif")


def test_deep_cmyk_becomes_srgb(tmp_path):
    ink = np.zeros((20, 24, 4), np.uint16)
    ink[:, 12:, 3] = 65535  # white paper, black ink
    tifffile.imwrite(tmp_path / "a.tif", ink, photometric="separated")
    found = im.read_picture(tmp_path / "a.tif")
    assert found.bits == 16
    assert (found.pixels[:, :12] > 64000).all()
    assert (found.pixels[:, 12:] < 16000).all()


def test_deep_alpha_lies_over_black_and_is_kept(tmp_path):
    rgba = levels(4)
    rgba[:10, :, 3] = 65535
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    found = im.read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.origin.alpha, rgba[..., 3])
    np.testing.assert_array_equal(found.pixels[:10], rgba[:10, :, :3])
    exact = rgba[10:, :, :3] * (rgba[10:, :, 3:] / 65535)
    np.testing.assert_allclose(found.pixels[10:], exact, atol=0.51)
    shown = np.dstack(
        [deep_over_black(rgba[..., :3], rgba[..., 3]), rgba[..., 3]]
    )  # as some programs store it
    tifffile.imwrite(tmp_path / "b.tif", shown, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(im.read_picture(tmp_path / "b.tif").pixels.astype(int) - shown[..., :3]).max() <= 1


def test_alpha_goes_into_a_result_that_looks_the_same_over_black(tmp_path):
    alpha = np.linspace(0, 65535, 20 * 24).astype(np.uint16).reshape(20, 24)
    shown = deep_over_black(levels(), alpha)
    for name, pixels, tolerance in (("a.tif", shown, 2), ("a.png", (shown // 257).astype(np.uint8), 1)):
        im.write(tmp_path / name, pixels, metadata={}, origin=im.Origin(alpha=alpha))
        found = im.read_picture(tmp_path / name)
        assert np.abs(found.pixels.astype(int) - pixels).max() <= tolerance
        assert found.origin.alpha is not None
    im.write(tmp_path / "a.jpg", (shown // 257).astype(np.uint8), metadata={}, origin=im.Origin(alpha=alpha))
    assert im.read_picture(tmp_path / "a.jpg").origin.alpha is None


def deep_over_black(colours, alpha):
    return np.rint(colours * (alpha[..., None] / 65535)).astype(np.uint16)


def test_damage_in_a_deep_file_is_named(tmp_path):
    for name in ("a.png", "a.tif"):
        im.write(tmp_path / name, levels(height=64, width=64), metadata={})
        whole = (tmp_path / name).read_bytes()
        for kept in range(40, len(whole) - 2000, len(whole) // 12):
            (tmp_path / name).write_bytes(whole[:kept])
            with pytest.raises(im.BadFile, match=f"{name}: (truncated or damaged|not an image)"):
                im.read_picture(tmp_path / name)


def test_formats_of_8_bits_refuse_16(tmp_path):
    for name in ("a.jpg", "a.webp", "a.bmp"):
        with pytest.raises(ValueError, match=f"{name}: this format has 8 bits; choose .png or .tif for 16"):
            im.write(tmp_path / name, levels(), metadata={})
        assert im.depth_of(tmp_path / name, "auto", 16) == 8
    assert im.depth_of(tmp_path / "a.png", "auto", 16) == 16
    assert im.depth_of(tmp_path / "a.png", "8", 16) == 8


def test_a_picture_is_read_in_strips(tmp_path):
    tall = levels(height=2 * deep.ROWS + 3, width=130)
    im.write(tmp_path / "a.tif", tall, metadata={})
    np.testing.assert_array_equal(im.read_picture(tmp_path / "a.tif").pixels, tall)
    parts = list(deep.strips(tmp_path / "a.tif", inverse=False, grey_profile=False))
    assert [len(part) for part in parts] == [deep.ROWS, deep.ROWS, 3]


def test_arrays_of_16_bits(tmp_path):
    rgba = levels(4)
    np.testing.assert_array_equal(im.read_picture(rgba[..., :3]).pixels, rgba[..., :3])
    np.testing.assert_array_equal(im.read_picture(rgba[..., 0]).pixels, grey_of(rgba))
    np.testing.assert_array_equal(im.read_picture(rgba).origin.alpha, rgba[..., 3])
    image = Image.fromarray(rgba[..., 0])  # I;16
    np.testing.assert_array_equal(im.read_picture(image).pixels, grey_of(rgba))


def test_without_libvips_one_sentence_and_never_8_bits(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        im.write(tmp_path / name, pixels, metadata={})
    tifffile.imwrite(tmp_path / "float.tif", pixels / np.float32(65535), photometric="rgb")
    monkeypatch.setitem(sys.modules, "pyvips", None)
    vips.loaded.cache_clear()
    try:
        for name in ("a.png", "a.tif", "float.tif"):
            with pytest.raises(ValueError, match="16-bit colours and colour profiles need libvips") as told:
                im.read_picture(tmp_path / name)
            assert "damaged" not in str(told.value)
        with pytest.raises(ValueError, match="need libvips"):
            im.write(tmp_path / "b.png", pixels, metadata={})
    finally:
        vips.loaded.cache_clear()
