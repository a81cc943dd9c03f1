# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from ditfuse_jax import image as im


def gradient(height=20, width=24):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 7, (rows + columns) * 3], axis=-1).astype(np.uint8)


def test_fit_then_restore_is_exact_below_max_side():
    image = gradient(37, 21)
    sizes = im.Geometry((37, 21), (37, 21), (48, 32))
    fitted = im.fit(image, sizes)
    assert fitted.shape == (48, 32, 3)
    np.testing.assert_array_equal(fitted[37, :21], image[35])  # reflected, not black
    np.testing.assert_array_equal(im.to_image(im.restore(im.to_pixels(fitted), sizes)), image)


def test_fit_pads_the_smallest_image_to_a_coarse_multiple():
    sizes = im.Geometry((16, 17), (16, 17), (64, 64))
    assert im.fit(gradient(16, 17), sizes).shape == (64, 64, 3)


def test_restore_brings_back_the_exact_native_size():
    image = np.tile(np.linspace(0, 255, 301).astype(np.uint8)[None, :, None], (203, 1, 3))
    sizes = im.Geometry((203, 301), (86, 128), (96, 128))
    back = im.to_image(im.restore(im.to_pixels(im.fit(image, sizes)), sizes))
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).max() <= 3  # a ramp survives resampling but for its ends


def test_sizes_must_match():
    with pytest.raises(ValueError, match="a.png 24 x 20 and b.png 24 x 21; crop or resize both"):
        im.check_same_size(gradient(), gradient(21), ("a.png", "b.png"))
