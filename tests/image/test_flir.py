# SPDX-License-Identifier: Apache-2.0
"""Radiometric JPEG of FLIR cameras, of files that the tests make."""

import numpy as np
import pytest

import thermal_file as made
from ditfuse_jax import image
from ditfuse_jax.image import flir, radiometric, temperature

COUNTS = np.linspace(12000, 20000, 48 * 64).reshape(48, 64).astype(np.uint16)
PHOTO = np.repeat(np.add.outer(np.arange(144), np.arange(192)).astype(np.uint8)[..., None] // 2, 3, -1)


def records(form="raw", **others):
    own = {1: made.counts_record(COUNTS, form), 32: made.camera_record(), 14: made.photo_record(PHOTO)}
    return own | {int(kind[1:]): record for kind, record in others.items()}


@pytest.mark.parametrize("form", ["raw", "png", "right png"])
def test_counts_come_as_they_are_stored(tmp_path, form):
    made.write(tmp_path / "a.jpg", records(form))
    found = flir.read(tmp_path / "a.jpg")
    np.testing.assert_array_equal(found.counts, COUNTS)
    assert np.abs(found.photo.astype(int) - PHOTO).max() <= 2  # JPEG
    assert found.inset == flir.Inset()


def test_a_file_of_many_segments_is_put_together(tmp_path):
    noise = np.random.default_rng(0).integers(0, 65536, (240, 320)).astype(np.uint16)
    made.write(tmp_path / "a.jpg", records(_1=made.counts_record(noise, "raw")))
    np.testing.assert_array_equal(flir.read(tmp_path / "a.jpg").counts, noise)


def test_degrees_are_those_of_other_programs(tmp_path):
    """Within 0.001 of flyr 5.1.0 on this file; and what a body of 30 degrees sends comes back as 30."""
    made.write(tmp_path / "a.jpg", records())
    known = flir.read(tmp_path / "a.jpg").constants
    counts = np.array([[12000, 14000, 16000, 20000]], np.uint16)
    degrees = [148.53323, 168.47891, 187.15536, 221.68718]
    np.testing.assert_allclose(temperature.celsius(counts, known)[0], degrees, atol=1e-3)
    near = known._replace(emissivity=1.0, distance=0.0)
    sent = known.r1 / (known.r2 * (np.exp(known.b / 303.15) - known.f)) - known.o
    assert temperature.celsius(np.array([[sent]]), near).item() == pytest.approx(30, abs=1e-3)
    assert temperature.celsius(np.uint16([[0]]), near).item() == pytest.approx(-273.15)  # no light at all


def test_one_file_is_a_pair_placed_as_it_says(tmp_path):
    """Half the photograph's width, its middle 4 pixels to the right and 6 up."""
    made.write(tmp_path / "a.jpg", records(_42=made.inset_record(2.0, 4, -6)))
    visible, degrees = image.read_pair(tmp_path / "a.jpg")
    assert visible.pixels.shape == (72, 96, 3)
    assert degrees.shape == (72, 96)
    own = flir.read(tmp_path / "a.jpg")
    np.testing.assert_array_equal(visible.pixels, own.photo[30:102, 52:148])
    plane = radiometric.read_degrees(tmp_path / "a.jpg")
    assert plane.shape == (48, 64)
    np.testing.assert_allclose(degrees[:, 0].mean(), plane[:, 0].mean(), atol=0.05)
    np.testing.assert_allclose(degrees[36, 48], plane[24, 32], atol=1.0)
    assert image.read_counts(tmp_path / "a.jpg").dtype == np.float32
    assert b"FLIR Systems" in visible.origin.exif


def test_a_thermal_plane_wider_than_the_photograph_is_cut(tmp_path):
    made.write(tmp_path / "a.jpg", records(_42=made.inset_record(0.8, 0, 0)))
    visible, degrees = image.read_pair(tmp_path / "a.jpg")
    assert visible.pixels.shape[:2] == degrees.shape == (144, 192)


def test_a_photograph_of_luma_and_differences_becomes_rgb(tmp_path):
    luma = np.dstack([PHOTO[..., 0], np.full(PHOTO.shape[:2], 128), np.full(PHOTO.shape[:2], 128)])
    made.write(tmp_path / "a.jpg", records(_14=made.photo_record(luma.astype(np.uint8), "PNG")))
    np.testing.assert_array_equal(flir.read(tmp_path / "a.jpg").photo, PHOTO)


def test_other_files_are_none(tmp_path):
    image.write(tmp_path / "a.jpg", PHOTO, metadata={})
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe1")
    for name in ("a.jpg", "b.jpg", "nowhere.jpg"):
        assert not image.is_flir(tmp_path / name)
    assert image.read_counts(tmp_path / "a.jpg") is None
    with pytest.raises(image.BadFile, match="a.jpg is no radiometric JPEG"):
        flir.read(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"_1": b"\2\0"}, "truncated or damaged"),
        ({"_1": made.pixels_record(64, 48, b"short")}, "truncated or damaged"),
        ({"_1": made.pixels_record(65535, 65535, b"")}, "65535 x 65535 counts"),
        ({"_14": made.pixels_record(64, 48, b"DAT")}, "a photograph that is neither JPEG nor PNG"),
        ({"_32": made.camera_record(_32=0.0)}, "no usable constants"),
        ({"_32": made.camera_record(_88=float("nan"))}, "no usable constants"),
        ({"_42": made.inset_record(0.0, 0, 0)}, "a picture in picture of ratio 0"),
        ({"_42": made.inset_record(2.0, 5000, 0)}, "a side is under 16"),
    ],
)
def test_what_is_damaged_is_named(tmp_path, wrong, message):
    made.write(tmp_path / "a.jpg", records(**wrong))
    with pytest.raises(ValueError, match=f"a.jpg.*{message}"):
        image.read_pair(tmp_path / "a.jpg")


def test_missing_parts_are_named(tmp_path):
    made.write(tmp_path / "a.jpg", {kind: r for kind, r in records().items() if kind != 14})
    with pytest.raises(
        image.BadFile, match="holds no photograph; give one as image 1 and this file as image"
    ):
        image.read_pair(tmp_path / "a.jpg")
    made.write(tmp_path / "a.jpg", {14: made.photo_record(PHOTO)})
    with pytest.raises(image.BadFile, match="no record 1"):
        image.read_counts(tmp_path / "a.jpg")


def test_whatever_is_cut_off_only_badfile_is_raised(tmp_path):
    made.write(tmp_path / "a.jpg", records("png"))
    whole = (tmp_path / "a.jpg").read_bytes()
    for length in range(0, len(whole) // 2, 211):
        (tmp_path / "cut.jpg").write_bytes(whole[:length])
        with pytest.raises(image.BadFile):
            flir.read(tmp_path / "cut.jpg")


def test_a_huge_photograph_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(flir, "MOST_PHOTO", 1000)
    made.write(tmp_path / "a.jpg", records())
    with pytest.raises(image.BadFile, match="a photograph of 192 x 144 pixels"):
        flir.read(tmp_path / "a.jpg")
