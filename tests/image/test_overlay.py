# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from ditfuse_jax.data.segmentation import overlay
from ditfuse_jax.image import overlay as masks
from synthetic import noise

RNG = np.random.default_rng(0)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def scene():
    """A picture with a bright and a blue part, and the mask of a thing."""
    image, mask = noise(3, 96, 96, 3), np.zeros((96, 96), bool)
    image[:12], image[12:20] = (255, 255, 255), (90, 150, 235)
    cv2.circle(view := mask.astype(np.uint8), (50, 52), 26, 1, -1)
    return image, view.astype(bool)


def speckle(image, sigma):
    """As another draw of the model: equal but for noise."""
    return np.rint(image + sigma * RNG.standard_normal(image.shape)).clip(0, 255).astype(np.uint8)


def test_overlay_is_found_where_it_was_laid():
    """All but the soft edge: a Gaussian of half a pixel here."""
    image, mask = noise(3, 64, 64, 3), np.zeros((64, 64), bool)
    image[:8] = 255, 255, 255
    mask[4:40, 10:50] = True
    found = masks.marked_pixels(overlay(image, mask), image)
    assert iou(found, mask) > 0.95
    assert not masks.marked_pixels(image, image).any()


def test_opacity_is_that_of_the_overlay():
    """Rounding to 8 bit moves it by about 1 / 255."""
    image = np.full((32, 32, 3), (180, 120, 60), np.uint8)
    marked = overlay(image, np.ones((32, 32), bool))
    np.testing.assert_allclose(masks.opacity(marked, image), masks.OPACITY, atol=0.01)


@pytest.mark.parametrize("sigma", [0, 6])
@pytest.mark.parametrize(
    ("colour", "opacity"), [((0, 0, 255), 0.5), ((20, 60, 250), 0.35), ((0, 0, 200), 0.8)]
)
def test_colour_and_opacity_are_estimated(sigma, colour, opacity):
    image, mask = scene()
    marked = image.copy()
    marked[mask] = np.rint((1 - opacity) * image[mask] + opacity * np.array(colour)).astype(np.uint8)
    found = masks.decode(speckle(marked, sigma), image)
    assert iou(found.mask, mask) > 0.95
    assert found.opacity == pytest.approx(opacity, abs=0.06)
    assert found.colour == pytest.approx(colour, abs=25)


def test_own_overlay_is_decoded_over_bright_and_blue():
    image, _ = scene()
    mask = np.zeros((96, 96), bool)
    mask[4:40, 10:70] = True
    found = masks.decode(overlay(image, mask), image)
    assert iou(found.mask, mask) > 0.95
    everywhere = np.ones((96, 96), bool)
    assert masks.decode(overlay(image, everywhere), image).mask.mean() > 0.95


def test_noise_alone_is_no_mask():
    image, _ = scene()
    found = masks.decode(speckle(image, 6), image)
    assert not found.mask.any()
    assert found.opacity == 0
    assert not masks.decode(image, image).mask.any()


def test_without_the_plain_picture_the_overlay_still_shows():
    image = (
        noise(5, 96, 96, 3) // 5 + noise(6, 96, 96)[..., None] // 2
    )  # a strong blue of its own would count
    mask = scene()[1]
    assert iou(masks.decode_alone(overlay(image, mask)).mask, mask) > 0.9
    assert not masks.decode_alone(image).mask.any()


def test_pictures_of_two_sizes_are_named():
    image, _ = scene()
    with pytest.raises(ValueError, match="the marked picture 96 x 96 and the plain one 80 x 96"):
        masks.decode(image, image[:, :80])
