# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax import fidelity, image
from ditfuse_jax.inference import native


def scene(height, width, seed=0):
    """Bands-to-be of result and round trips, float32 [H, W, 9], and originals, uint8 [2, H, W, 3]."""
    rng = np.random.default_rng(seed)
    originals = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    first, second = image.to_pixels(originals) * 0.8
    mask = (np.arange(width) < width // 2)[None, :, None]
    return np.concatenate([np.where(mask, first, second), first, second], axis=-1), originals


def test_blocks_equal_the_whole_picture():
    """Larger than a block on both sides, in bands of another height, with nothing left over."""
    height, width = native.BLOCK + 60, native.BLOCK + 37
    maps, originals = scene(height, width)
    bands = (maps[top : top + 100] for top in range(0, height, 100))
    made = native.rebuilt(bands, originals, strength=1.0, kind=None)
    trips = jnp.stack([maps[None, ..., 3:6], maps[None, ..., 6:]], 1)
    whole = fidelity.rebuild(maps[None, ..., :3], trips, image.to_pixels(originals)[None])
    np.testing.assert_allclose(made.weights, whole.weights[0], atol=1e-4)
    np.testing.assert_allclose(made.pixels, np.clip(whole.pixels[0], -1, 1), atol=1e-4)
    np.testing.assert_allclose(made.invented, whole.invented[0], atol=1e-2)
    assert made.explained == np.mean(made.invented <= fidelity.EXPLAINED)
    np.testing.assert_array_equal(made.image, image.to_image(made.pixels))


@pytest.mark.parametrize("size", [(16, 128), (17, 16), (native.BLOCK, native.BLOCK + 1)])
def test_every_size_comes_back_exactly(size):
    maps, originals = scene(*size)
    made = native.finish([maps], originals, strength=1.0, kind=None)
    assert made.image.shape == made.pixels.shape == (*size, 3)
    assert made.weights.shape == made.invented.shape == size
    half = size[1] // 2
    np.testing.assert_allclose(made.image[:, : half - 8], originals[0, :, : half - 8], atol=3)
    np.testing.assert_allclose(made.image[:, half + 8 :], originals[1, :, half + 8 :], atol=3)


def test_strength_mixes_the_result_with_the_rebuilt_one():
    maps, originals = scene(40, 50)
    none, half, full = (native.rebuilt([maps], originals, strength=s, kind=None) for s in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(none.pixels, maps[..., :3], atol=1e-6)
    np.testing.assert_allclose(half.pixels, (none.pixels + full.pixels) / 2, atol=1e-6)
    assert np.abs(full.pixels - none.pixels).max() > 0.05


def test_strength_0_leaves_the_decoded_pixels():
    maps, originals = scene(40, 50)
    made = native.finish([maps[:30, :, :3], maps[30:, :, :3]], originals, strength=0.0, kind=None)
    np.testing.assert_array_equal(made.image, image.to_image(maps[..., :3]))
    assert made.weights is made.invented is made.explained is None


def test_sources_that_agree_come_back_to_the_level():
    originals = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 30, 30, 3), dtype=np.uint8), 2, 0)
    maps = np.concatenate([image.to_pixels(originals[0])] * 3, axis=-1)
    made = native.finish([maps], originals, strength=1.0, kind=None)
    np.testing.assert_array_equal(made.image, originals[0])
    assert made.explained == 1
