# SPDX-License-Identifier: Apache-2.0
"""What the page shows: small copies and the colours of the maps."""

import numpy as np

from ditfuse_jax.serve import views

GREY = np.full((2, 3, 3), 128, np.uint8)


def test_small_copies_keep_the_aspect():
    assert views.shrink(np.zeros((30, 60, 3), np.uint8), 20).shape == (10, 20, 3)
    assert views.shrink(np.ones((60, 30), np.float32), 20).shape == (20, 10)
    assert views.shrink(GREY, 20) is GREY


def test_the_first_source_is_orange_and_the_second_blue():
    shown = views.origin(GREY, np.array([[1, 1, 1], [0, 0, 0]], np.float32)).astype(int)
    assert (shown[0, :, 0] > shown[0, :, 2] + 50).all()
    assert (shown[1, :, 2] > shown[1, :, 0] + 50).all()


def test_only_what_no_source_explains_is_red():
    levels = np.array([[0, 1, 4], [5, 24, 99]], np.float32)
    red = views.invented(GREY, levels).astype(int)
    np.testing.assert_array_equal(red[0], 128)
    assert (red[1, :, 0] > red[1, :, 1]).all()
    np.testing.assert_array_equal(red[1, 1], red[1, 2])
