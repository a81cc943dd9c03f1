# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from pictures import triple

from ditfuse_jax.evaluation import alignment


@pytest.mark.parametrize(("right", "down"), [(0, 0), (2, -3), (-5, 1)])
def test_whole_shifts_are_found(right, down):
    first, second, fused = (image[8:-8, 8:-8] for image in triple(112, 128))
    moved = np.roll(triple(112, 128)[2], (down, right), (0, 1))[8:-8, 8:-8]
    found = alignment.shift(first, second, moved)
    assert (found.right, found.down) == pytest.approx((right, down), abs=0.3)
    assert found.moved == bool(right or down)


def test_a_source_that_the_result_ignores_does_not_count():
    first, _, _ = triple(96, 96)
    unrelated = np.random.default_rng(5).integers(0, 256, first.shape).astype(float)
    assert not alignment.shift(unrelated, first, first).moved
    assert not alignment.shift(first, unrelated, first).moved


def test_the_images_stay_as_they_are():
    """OpenCV writes into its arguments at 48 x 64 and other sizes with a fast transform."""
    images = triple(48, 64)
    kept = [image.copy() for image in images]
    alignment.shift(*images)
    np.testing.assert_array_equal(images, kept)


def test_constant_images_have_no_known_shift():
    flat = np.full((48, 48), 7.0)
    assert alignment.shift(flat, flat, triple(48, 48)[0]) == (0, 0, 0)
