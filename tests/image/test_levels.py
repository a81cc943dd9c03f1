# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np

from conftest import golden
from ditfuse_jax import image as im


def test_pixels_are_the_reference_ones():
    data = np.load(golden("processor/processor_phi3.npz"))
    for i in (0, 1):
        image = data[f"p0_image{i}_uint8"]
        want = data[f"p0_pixel{i}"].reshape(3, *image.shape[:2]).transpose(1, 2, 0)
        np.testing.assert_array_equal(im.to_pixels(image), want)


def test_every_level_survives_the_way_to_floats_and_back():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(im.to_image(im.to_pixels(levels)), levels)


def test_output_is_rounded_and_clipped():
    pixels = np.array([-3.0, (100.6 / 255) * 2 - 1, 3.0], np.float32)
    np.testing.assert_array_equal(im.to_image(pixels), [0, 101, 255])


def test_numpy_and_jax_arrays_give_the_same_bits():
    levels = np.arange(256, dtype=np.uint8).reshape(2, 128)
    pixels = im.to_pixels(levels)
    for way in (im.to_pixels, jax.jit(im.to_pixels)):
        np.testing.assert_array_equal(way(jax.numpy.asarray(levels)), pixels)
    for way in (im.to_image, jax.jit(im.to_image)):
        found = way(jax.numpy.asarray(pixels))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, levels)
