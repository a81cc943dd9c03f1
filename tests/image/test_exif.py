# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from PIL import Image, ImageOps

from ditfuse_jax import image as im
from ditfuse_jax.image import exif

MAKE, DATE, ORIENTATION, TAKEN, MAKER_NOTE = 0x010F, 0x0132, 0x0112, 0x9003, 0x927C
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6" xmp:Rating="4"/></x:xmpmeta>'
NAMES = ("a.png", "a.jpg", "a.tif", "a.webp", "deep.png", "deep.tif")


def camera(orientation=6):
    found = Image.Exif()
    found[MAKE], found[DATE], found[ORIENTATION] = "Canon", "2026:05:01 10:11:12", orientation
    found[exif.DETAILS] = {TAKEN: "2026:05:01 10:11:12", 0x829A: 0.004, MAKER_NOTE: b"x" * 20_000}
    found[exif.PLACE] = {1: "N", 2: (50.0, 3.0, 2.5)}
    return found


def photo(height=20, width=24):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_camera_date_and_place_go_from_image_1_to_the_result(tmp_path, name):
    Image.fromarray(photo()).save(tmp_path / "photo.jpg", exif=camera(), xmp=XMP)
    found = im.read_picture(tmp_path / "photo.jpg")
    assert found.origin.format == "JPEG"
    pixels = found.pixels.astype(np.uint16) * 257 if "deep" in name else found.pixels
    im.write(tmp_path / name, pixels, metadata={"prompt": "融合"}, origin=found.origin)
    with Image.open(tmp_path / name) as image:
        made = image.getexif()
        assert made[MAKE] == "Canon"
        assert made[DATE] == "2026:05:01 10:11:12"
        assert made.get(ORIENTATION, 1) == 1
        details = made.get_ifd(exif.DETAILS)
        assert details[TAKEN] == "2026:05:01 10:11:12"
        assert float(details[0x829A]) == pytest.approx(0.004)
        assert MAKER_NOTE not in details
        assert made.get_ifd(exif.PLACE)[2] == (50.0, 3.0, 2.5)
        assert exif.xmp(image) == XMP.replace(b'"6"', b'"1"')
    assert im.read_metadata(tmp_path / name) == {"prompt": "融合"}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "deep.png"])
def test_pictures_are_turned_as_pillow_turns_them(tmp_path, orientation, name):
    turn = Image.Exif()
    turn[ORIENTATION] = orientation
    if name == "deep.png":
        stored = photo().astype(np.uint16) * 257
        im.write(tmp_path / name, stored, metadata={}, origin=im.Origin(exif=turn.tobytes()))
    else:
        Image.fromarray(photo()).save(tmp_path / name, exif=turn)
    with Image.open(tmp_path / name) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(im.read(tmp_path / name), wanted)
    if name == "a.jpg":
        assert im.read_size(tmp_path / name) == wanted.shape[:2]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own
def test_damaged_exif_is_left_away(tmp_path):
    whole = camera().tobytes()
    for kept in (8, 20, 60, 200):
        Image.fromarray(photo()).save(tmp_path / "a.jpg", exif=whole[:kept])
        found = im.read_picture(tmp_path / "a.jpg")
        im.write(tmp_path / "b.jpg", found.pixels, metadata={}, overwrite=True, origin=found.origin)


def test_long_metadata_and_exif_fit_a_jpeg_together(tmp_path):
    large = Image.Exif()
    large[exif.DETAILS] = {0xA000 + i: b"y" * 900 for i in range(0x10, 0x28)}
    Image.fromarray(photo()).save(tmp_path / "a.jpg", exif=large)
    found = im.read_picture(tmp_path / "a.jpg")
    assert len(found.origin.exif) > 15_000
    im.write(tmp_path / "b.jpg", found.pixels, metadata={"prompt": "p" * 80_000}, origin=found.origin)
    assert im.read_metadata(tmp_path / "b.jpg")["prompt"].endswith("...")
