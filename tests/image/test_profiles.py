# SPDX-License-Identifier: Apache-2.0
import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from ditfuse_jax import image as im
from ditfuse_jax.image import colour, vips

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def wide():
    """The Display P3 of phones."""
    return bytes(vips.loaded().Image.profile_load("p3"))


def photo(dtype=np.uint8):
    rows, columns = np.mgrid[:40, :48]
    unit = np.stack([rows / 39, columns / 47, (rows + columns) / 86], axis=-1) * 0.3 + 0.35
    return np.rint(unit * np.iinfo(dtype).max).astype(dtype)


def by_pillow(pixels, profile):
    """What ImageCms makes of 8-bit pixels of this profile in sRGB."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    image = Image.fromarray(pixels)
    made = ImageCms.profileToProfile(image, opened, ImageCms.createProfile("sRGB"), renderingIntent=1)
    return np.asarray(made)


def test_a_wide_profile_is_seen_in_srgb_and_stays_with_its_pixels(tmp_path, wide):
    Image.fromarray(photo()).save(tmp_path / "a.png", icc_profile=wide)
    found = im.read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(found.pixels, photo())
    assert found.origin.profile == wide
    assert np.abs(im.read(tmp_path / "a.png").astype(int) - by_pillow(photo(), wide)).max() <= 1
    assert np.abs(im.read(tmp_path / "a.png").astype(int) - photo()).max() > 3


def test_16_bits_are_converted_at_16_bits(wide):
    deep = photo(np.uint16)
    made = im.convert(deep, wide, None)
    assert np.abs(made / 257 - by_pillow(photo(), wide)).max() < 1.5
    assert len(np.unique(made)) > 1000  # not 256 levels spread
    assert np.abs(im.convert(made, None, wide).astype(int) - deep).max() < 64  # a quarter of an 8-bit level


def test_floats_go_the_same_way(wide):
    pixels = im.to_pixels(photo())
    made = im.convert_floats(np.concatenate([pixels, pixels], -1), wide)
    wanted = im.to_pixels(im.convert(photo(np.uint16), None, wide))
    np.testing.assert_allclose(made, np.concatenate([wanted, wanted], -1), atol=0.01)


def test_srgb_changes_nothing():
    for pixels in (photo(), photo(np.uint16)):
        assert im.convert(pixels, SRGB, None) is pixels
        assert im.convert(pixels, None, SRGB) is pixels
    floats = im.to_pixels(photo())
    assert im.convert_floats(floats, SRGB) is floats
    assert im.seen(photo(), SRGB).dtype == np.uint8


@pytest.mark.parametrize("content", [b"", b"no profile", SRGB[:200]])
def test_damaged_profiles_are_left_away(tmp_path, content):
    Image.fromarray(photo()).save(tmp_path / "a.png", icc_profile=content)
    found = im.read_picture(tmp_path / "a.png")
    assert found.origin.profile is None
    np.testing.assert_array_equal(found.pixels, photo())


def test_printers_inks_by_their_profile(tmp_path):
    inks = bytes(vips.loaded().Image.profile_load("cmyk"))
    assert colour.mode_of(inks) == "CMYK"
    image = Image.fromarray(photo()).convert("CMYK")
    image.save(tmp_path / "a.tif", icc_profile=inks)
    found = im.read_picture(tmp_path / "a.tif")
    assert found.origin.profile is None  # what is read is sRGB
    wanted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(inks)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    np.testing.assert_array_equal(found.pixels, np.asarray(wanted))


def test_a_profile_of_colours_does_not_describe_grey(tmp_path, wide):
    grey = photo()[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png", icc_profile=wide)
    found = im.read_picture(tmp_path / "a.png")
    assert found.origin.profile is None
    np.testing.assert_array_equal(found.pixels[..., 2], grey)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "deep.png", "deep.tif"])
def test_the_profile_is_written(tmp_path, wide, name):
    pixels = photo(np.uint16 if "deep" in name else np.uint8)
    im.write(tmp_path / name, pixels, metadata={}, origin=im.Origin(profile=wide))
    assert im.read_picture(tmp_path / name).origin.profile == wide
