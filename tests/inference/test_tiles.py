# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from ditfuse_jax.inference.tiles import agree, bands, cut, tiling


@pytest.mark.parametrize("size", [(16, 300), (256, 256), (257, 700), (1000, 310), (448, 449)])
def test_tiles_cover_the_picture_and_overlap_by_a_quarter(size):
    tiles = tiling(*size, tile=(256, 192), unit=16)
    for side, part, starts in zip(size, tiles.tile, (tiles.tops, tiles.lefts), strict=True):
        assert starts[0] == 0
        assert all(start % 16 == 0 for start in starts)
        assert 0 <= starts[-1] + part - side < max(16, part - side + 1)
        assert all(0 < b - a <= 0.75 * part for a, b in zip(starts, starts[1:], strict=False))


def test_a_tile_beyond_the_border_is_filled_by_reflection():
    picture = np.random.default_rng(0).integers(0, 256, (20, 70, 3), dtype=np.uint8)
    tiles = tiling(20, 70, tile=(64, 64), unit=16)
    part = cut(picture, tiles, tiles.corners[-1])
    assert part.shape == (64, 64, 3)
    left = tiles.lefts[-1]
    np.testing.assert_array_equal(part[:20, : 70 - left], picture[:, left:])
    np.testing.assert_array_equal(part[20:39, : 70 - left], picture[18::-1, left:])


def test_what_tiles_agree_on_comes_back_to_the_bit():
    picture = np.random.default_rng(0).standard_normal((150, 131, 9)).astype(np.float32)
    tiles = tiling(150, 131, tile=(64, 64), unit=16)
    pieces = list(bands((cut(picture, tiles, corner) for corner in tiles.corners), tiles))
    assert len(pieces) == len(tiles.tops)
    np.testing.assert_array_equal(np.concatenate(pieces), picture)


def test_neighbours_are_mixed_by_their_tents():
    """One row of two tiles, 0 and 1: the mean rises without a step across the overlap."""
    tiles = tiling(32, 48, tile=(32, 32), unit=16)
    flat = [np.full((32, 32, 1), value, np.float32) for value in (0, 1)]
    (mixed,) = bands(iter(flat), tiles)
    place = np.arange(16) + 0.5
    np.testing.assert_allclose(mixed[5, 16:32, 0], place / 16, atol=1e-6)
    assert mixed[:, :16].max() == 0
    assert mixed[:, 32:].min() == 1


def test_a_band_comes_before_the_tiles_below_it_are_made():
    tiles = tiling(150, 64, tile=(64, 64), unit=16)
    made = []

    def parts():
        for corner in tiles.corners:
            made.append(corner)
            yield np.zeros((64, 64, 3), np.float32)

    next(bands(parts(), tiles))
    assert len(made) == 1


def test_only_sources_that_differ_by_rounding_agree():
    rng = np.random.default_rng(0)
    first = rng.integers(20, 230, (33, 40, 3), dtype=np.uint8)
    noise = rng.integers(-2, 3, first.shape)
    assert agree(first, first + noise.astype(np.uint8))  # wraps to the signed sum
    spot = first.copy()
    spot[24:32, 8:16] += 10  # one block
    assert not agree(first, spot)
