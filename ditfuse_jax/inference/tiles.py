# SPDX-License-Identifier: Apache-2.0
"""A picture as overlapping native tiles of one shape, and back from top to bottom without a seam.

+-----------+---+-------+
|  tile 0   | 01| tile 1|      neighbours share at least a quarter of a tile; there the weights of
+-----------+---+-------+      both fall off like a tent and sum to one
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

STRIDE = 0.75  # of a tile's side, at most
BLOCK = 8  # pixels: agreement is asked of every block of this side
AGREEMENT = 2.0  # 8-bit levels: what rounding and JPEG do to two copies of one picture


class Tiling(NamedTuple):
    """Where the tiles of one picture lie, in pixels. The last of a row or column may stick out of it."""

    size: tuple[int, int]  # height, width of the picture
    tile: tuple[int, int]  # height, width of every tile
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def corners(self) -> list[tuple[int, int]]:
        """(top, left) of every tile, row by row."""
        return [(top, left) for top in self.tops for left in self.lefts]

    @property
    def covered(self) -> tuple[int, int]:
        """Height, width of what the tiles cover."""
        return self.tops[-1] + self.tile[0], self.lefts[-1] + self.tile[1]


def tiling(height: int, width: int, *, tile: tuple[int, int], unit: int) -> Tiling:
    """The fewest tiles, about evenly spaced, whose neighbours overlap by a quarter or more.

    unit: pixels; all corners are multiples of it, so that tiles share the cells of one noise.
    """
    starts = (_starts(side, part, unit) for side, part in zip((height, width), tile, strict=True))
    return Tiling((height, width), tile, *starts)


def _starts(side: int, part: int, unit: int) -> tuple[int, ...]:
    spare = max(0, -(-(side - part) // unit))  # units that the last tile starts at
    gaps = -(-spare // max(1, int(STRIDE * part) // unit))
    return tuple(round(i * spare / gaps) * unit for i in range(gaps + 1)) if gaps else (0,)


def cut(picture: np.ndarray, tiles: Tiling, corner: tuple[int, int]) -> np.ndarray:
    """picture [H, W, ...] of any dtype -> its tile [h, w, ...] at `corner`, filled up by reflection."""
    part = picture[corner[0] :, corner[1] :][: tiles.tile[0], : tiles.tile[1]]
    missing = [(0, side - have) for side, have in zip(tiles.tile, part.shape[:2], strict=True)]
    return (
        np.pad(part, missing + [(0, 0)] * (picture.ndim - 2), "reflect") if any(map(any, missing)) else part
    )


def bands(parts: Iterable[np.ndarray], tiles: Tiling) -> Iterator[np.ndarray]:
    """Tiles float32 [h, w, C], in the order of `corners` -> the picture, as bands [rows, W, C] from its top.

    A band comes as soon as no further tile touches it, so that memory holds one row of tiles. Where tiles
    overlap, the result is their mean under tent windows, taken one at a time (West 1979, incremental weighted
    mean): what all tiles agree on is kept to the bit.
    """
    parts, window = iter(parts), _tent(tiles.tile)[..., None]
    mean, total = None, None
    for top, following in zip(tiles.tops, (*tiles.tops[1:], tiles.size[0]), strict=True):
        for left in tiles.lefts:
            part = next(parts)
            if mean is None:
                mean = np.zeros((tiles.tile[0], tiles.covered[1], part.shape[-1]), np.float32)
                total = np.zeros((*mean.shape[:2], 1), np.float32)
            place = np.s_[:, left : left + tiles.tile[1]]
            total[place] += window
            mean[place] += np.where(total[place] == window, 1, window / total[place]) * (part - mean[place])
        ready = following - top
        yield mean[:ready, : tiles.size[1]].copy()
        for array in (mean, total):
            _scroll(array, ready)


def _scroll(array: np.ndarray, rows: int) -> None:
    """Moves an array of this module up by `rows` in place, zeros below."""
    left = max(0, len(array) - rows)
    array[:left] = array[rows:]
    array[left:] = 0


def _tent(tile: tuple[int, int]) -> np.ndarray:
    """float32 [h, w], largest in the middle, positive everywhere."""
    rows, columns = (np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) for side in tile)
    return (rows[:, None] * columns / (rows.max() * columns.max())).astype(np.float32)


def agree(first: np.ndarray, second: np.ndarray, *, tolerance: float = AGREEMENT) -> bool:
    """Whether fusion has nothing to decide between two tiles, uint8 [h, w, 3].

    In none of their BLOCK x BLOCK blocks do they differ by more than `tolerance` levels in the mean of the
    absolute difference. Noisier sources are never called equal, which costs time and no quality. Tasks that
    change the picture (light, contrast, segmentation) must not skip such tiles.
    """
    apart = np.abs(first.astype(np.int16) - second).mean(-1)
    height, width = (-(-side // BLOCK) * BLOCK for side in apart.shape)
    apart = np.pad(apart, [(0, height - apart.shape[0]), (0, width - apart.shape[1])], "reflect")
    return bool(apart.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean((1, 3)).max() <= tolerance)
