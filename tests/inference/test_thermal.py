# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from PIL import Image

from ditfuse_jax import image
from ditfuse_jax.image import Picture
from ditfuse_jax.inference import thermal


def counts(low=7250, high=7800, size=(40, 60)):
    ramp = np.linspace(low, high, size[0] * size[1], dtype=np.float32)
    return np.random.default_rng(0).permutation(ramp).reshape(size)


def test_counts_use_all_levels_and_none_is_clipped():
    values = np.unique(counts())
    made = thermal.stretched(values[None], thermal.used(values))[0, :, 0].astype(int)
    assert made.min() < 0.05 * 65535
    assert made.max() > 0.95 * 65535
    assert (np.diff(made) > 0).all()
    hot = np.append(values, [9000, 12000, 16000]).astype(np.float32)  # far beyond the range
    made = thermal.stretched(hot[None], thermal.used(values))[0, :, 0].astype(int)
    assert (np.diff(made) > 0).all()


def test_a_given_range_makes_equal_counts_equal():
    limits = thermal.Range(7000, 8000)
    one, other = (thermal.stretched(values, limits) for values in (counts(), counts(7300, 7900)))
    np.testing.assert_allclose(thermal.stretched(np.float32([[7500]]), limits), 65535 / 2, atol=1)
    assert other.mean() > one.mean()
    assert thermal.used(np.full((4, 4), 5.0, np.float32)) == (5.0, 6.0)


@pytest.mark.parametrize("form", ["I;16", "I;16B", "float", "array", "pil"])
def test_counts_are_read_as_they_are_stored(tmp_path, form):
    values = np.rint(counts())
    file = tmp_path / ("a.png" if form == "I;16" else "a.tif")
    if form == "float":
        values = values.astype(np.float32) / 25  # kelvin
        Image.fromarray(values).save(file)
    else:
        Image.fromarray(values.astype(">u2" if form == "I;16B" else np.uint16)).save(file)
    with Image.open(file) as opened:
        source = {"array": values.astype(np.uint16), "pil": opened}.get(form, file)
        np.testing.assert_array_equal(image.read_counts(source), values)


def test_what_holds_no_counts_is_none(tmp_path):
    picture = np.zeros((20, 20, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    for source in (picture, tmp_path / "a.png", Image.fromarray(picture), Picture(picture)):
        assert image.read_counts(source) is None
    bad = np.full((20, 20), np.nan, np.float32)
    Image.fromarray(bad).save(tmp_path / "nan.tif")
    with pytest.raises(ValueError, match="values that are no numbers"):
        image.read_counts(tmp_path / "nan.tif")


def test_a_picture_of_few_levels_is_told():
    narrow = (120 + np.random.default_rng(0).integers(0, 8, (40, 60, 3))).astype(np.uint8)
    assert 0.01 < thermal.narrow(Picture(narrow)) < 0.05
    wide = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert thermal.narrow(Picture(wide)) is None


def test_colours_come_where_the_infrared_was_taken():
    fused = np.full((8, 8, 3), 100, np.uint8)
    infrared = np.full((8, 8, 3), 100, np.uint8)
    weights = np.zeros((8, 8), np.float32)
    weights[:4] = 1
    for picture in (fused, fused.astype(np.uint16) * 257):
        made = thermal.coloured(picture, weights, infrared, "inferno")
        assert made.dtype == picture.dtype
        np.testing.assert_array_equal(made[:4], picture[:4])
        assert np.ptp(made[4:].astype(int), axis=-1).min() > 0.2 * np.iinfo(made.dtype).max
