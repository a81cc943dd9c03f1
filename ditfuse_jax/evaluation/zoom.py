# SPDX-License-Identifier: Apache-2.0
"""Boxes that a figure enlarges: where one source shows what the other does not."""

from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax.image import luma

SHARE = 0.2  # of the shorter side: the side of a box


class Box(NamedTuple):
    top: int
    left: int
    side: int

    def cut(self, picture: np.ndarray) -> np.ndarray:
        return picture[self.top : self.top + self.side, self.left : self.left + self.side]


def boxes(first: np.ndarray, second: np.ndarray, count: int) -> tuple[Box, ...]:
    """`count` squares that do not overlap, uint8 [H, W, 3] each; fewer where there is no room.

    They lie in turn where source 1 has most detail (of its Laplacian) that source 2 lacks, and the other way
    round, so the choice is no method's.
    """
    side = max(8, round(SHARE * min(first.shape[:2])))
    one, two = (np.abs(cv2.Laplacian(luma(x).astype(np.float32), cv2.CV_32F)) for x in (first, second))
    sums = [_sums(np.maximum(more - less, 0), side) for more, less in ((one, two), (two, one))]
    found = []
    while len(found) < count and sums[0].max() >= 0:
        top, left = np.unravel_index(sums[len(found) % 2].argmax(), sums[0].shape)
        found.append(Box(int(top), int(left), side))
        for taken in sums:
            taken[max(0, top - side + 1) : top + side, max(0, left - side + 1) : left + side] = -1
    return tuple(found)


def _sums(values: np.ndarray, side: int) -> np.ndarray:
    """Over every square: float64 [H - side + 1, W - side + 1] of float32 [H, W]."""
    whole = cv2.integral(values)
    return whole[side:, side:] - whole[:-side, side:] - whole[side:, :-side] + whole[:-side, :-side]
