# SPDX-License-Identifier: Apache-2.0
"""Where blocks of one picture lie in another that is nearly over it, to a fraction of a pixel."""

from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax.registration import geometry, structure

SIDE = 48  # pixels of a block
MOST = 11  # blocks along the longer side
TEXTURE = 0.15  # mean length of the channels in a block that can be matched


class Matches(NamedTuple):
    points: np.ndarray  # float64 [n, 2]: x and y of the blocks' middles in the first picture
    moves: np.ndarray  # float64 [n, 2]: from there to where the second shows the same, in its pixels
    likeness: np.ndarray  # float64 [n]: correlation of the channels there, at most 1


NONE = Matches(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))


def match(first: np.ndarray, second: np.ndarray, matrix: np.ndarray, reach: int) -> Matches:
    """Blocks of grey uint8 [H, W], looked for within `reach` pixels of where the matrix says.

    Left out are blocks without edges, those that the second picture does not show whole, and those whose
    best place lies at the rim of the search. Channels are made of one block at a time, so that large
    pictures take no more memory or time.
    """
    size = first.shape
    moved = geometry.warp(second, matrix, size, sharp=False)
    inside = cv2.integral((~geometry.covered(matrix, size, second.shape)).astype(np.uint8))
    found = [_place(first, moved, *corner, side, reach) for corner, side in _corners(inside, size, reach)]
    found = [each for each in found if each is not None]
    return Matches(*map(np.array, zip(*found, strict=True))) if found else NONE


def _corners(outside: np.ndarray, size: tuple[int, int], reach: int):
    """((top, left), side) of the blocks whose search stays inside; outside: the integral of what is not."""
    side = min(SIDE, (min(size) - 2 * reach) // 2)
    if side < 8:
        return
    step = max(side // 2, (max(size) - side - 2 * reach) // MOST)
    for top in range(reach, size[0] - side - reach + 1, step):
        for left in range(reach, size[1] - side - reach + 1, step):
            a, b, c, d = top - reach, top + side + reach, left - reach, left + side + reach
            if outside[b, d] - outside[a, d] - outside[b, c] + outside[a, c] == 0:
                yield (top, left), side


def _place(first, second, top: int, left: int, side: int, reach: int):
    """(point, move, likeness) of one block, or None."""
    block = _channels(first, top, left, side)
    if structure.lengths(block).mean() < TEXTURE:
        return None
    area = _channels(second, top - reach, left - reach, side + 2 * reach)
    score = _correlation(block, area)
    row, column = np.unravel_index(np.argmax(score), score.shape)
    if not (0 < row < 2 * reach and 0 < column < 2 * reach):
        return None
    right = column - reach + _vertex(score[row, column - 1 : column + 2])
    down = row - reach + _vertex(score[row - 1 : row + 2, column])
    middle = (side - 1) / 2
    return (left + middle, top + middle), (right, down), float(score[row, column])


def _channels(grey: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """[DIRECTIONS, side, side] of a part, as those of the whole picture would be."""
    a, c = max(0, top - structure.MARGIN), max(0, left - structure.MARGIN)
    part = grey[a : top + side + structure.MARGIN, c : left + side + structure.MARGIN]
    return structure.channels(part)[:, top - a : top - a + side, left - c : left - c + side]


def _correlation(block: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Normalised, over all channels together: [2 reach + 1, 2 reach + 1]."""
    block, area = (each - each.mean((1, 2), keepdims=True) for each in (block, area))
    total = sum(cv2.matchTemplate(a, b, cv2.TM_CCORR) for a, b in zip(area, block, strict=True))
    ones = np.ones(block.shape[1:], np.float32)
    energy = cv2.matchTemplate(structure.lengths(area) ** 2, ones, cv2.TM_CCORR)
    return total / np.sqrt(np.maximum(energy * np.sum(block * block), 1e-12))


def _vertex(three: np.ndarray) -> float:
    """Where the parabola through three neighbours is highest, from the middle one."""
    low, middle, high = map(float, three)
    bend = low - 2 * middle + high
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (low - high) / bend, -0.5, 0.5))
