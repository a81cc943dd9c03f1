# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from ditfuse_jax.registration import geometry


def test_a_shift_moves_whole_pixels_unchanged():
    picture = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    seen = geometry.warp(picture, geometry.shift(3, -2), (20, 30), sharp=True)
    np.testing.assert_array_equal(seen[2:, :-3], picture[:-2, 3:])


def test_middles_of_pixels_stay_middles_at_another_size():
    points = geometry.apply(geometry.scale((8, 8), (4, 4)), np.array([[0.5, 0.5], [6.5, 6.5]]))
    np.testing.assert_allclose(points, [[0, 0], [3, 3]])


def test_what_is_covered_is_where_the_other_has_pixels():
    inside = geometry.covered(geometry.shift(3, -2), (8, 10), (8, 10))
    drawn = np.zeros((8, 10), bool)
    drawn[2:, :7] = True
    np.testing.assert_array_equal(inside, drawn)


def test_the_rectangle_holds_no_border():
    inside = geometry.covered(geometry.shift(5, 7) @ geometry.turn(3, (60, 80)), (60, 80), (60, 80))
    rows, columns = geometry.rectangle(inside)
    assert inside[rows, columns].all()
    assert inside[rows, columns].size > 0.8 * inside.sum()
    with pytest.raises(ValueError, match="show no common part"):
        geometry.rectangle(np.zeros((4, 4), bool))
