# SPDX-License-Identifier: Apache-2.0
"""Arrays as other libraries write them."""

import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.inference.arrays import readable

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def read(*images, channels="rgb", value_range=None):
    return readable(images, channels=channels, value_range=value_range)


def test_jax_arrays_floats_and_bgr_become_the_same_picture():
    bgr, alpha = RGB[..., ::-1], np.full((2, 3, 1), 7, np.uint8)
    (plain,) = read(jnp.asarray(RGB))
    (turned, with_alpha, grey) = read(bgr, np.concatenate([bgr, alpha], -1), RGB[..., 0], channels="bgr")
    unit, signed = RGB / np.float32(255), RGB / np.float32(127.5) - np.float32(1)
    (zero_one,), (one_one,) = read(unit, value_range=(0, 1)), read(signed, value_range=(-1, 1))
    for each in (plain, turned, zero_one, one_one, with_alpha[..., :3]):
        np.testing.assert_array_equal(each, RGB)
    np.testing.assert_array_equal(with_alpha[..., 3:], alpha)
    np.testing.assert_array_equal(grey, RGB[..., 0])
    assert read("a.png") == ["a.png"]


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([RGB / 255.0], {}, r"image 1 is float64\[2, 3, 3\]; say what is black .* value_range=\(0, 1\)"),
        ([RGB * 1.0], {"value_range": (0, 1)}, r"values 0 \.\. 17, outside 0 \.\. 1; clip it first"),
        ([RGB * np.nan], {"value_range": (0, 1)}, "values nan"),
        ([RGB / 255], {"value_range": (1, 0)}, "black must be less than white"),
        ([RGB / 255], {"value_range": "all"}, "value_range 'all' is no pair of numbers"),
        ([RGB], {"channels": "bgrr"}, r"channels 'bgrr' is not one of rgb, bgr \(did you mean bgr\?\)"),
        ([RGB, 3], {}, "image 2 is 3 of type int; give a path"),
        (None, {}, "images None of type NoneType is no sequence"),
    ],
)
def test_what_is_no_picture_is_one_sentence(images, options, message):
    with pytest.raises(ValueError, match=message):
        readable(images, **({"channels": "rgb", "value_range": None} | options))
