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

    Each lies where the sources' Laplacians differ most, so the choice is no method's.
    """
    height, width = first.shape[:2]
    side = max(8, round(SHARE * min(height, width)))
    bands = [cv2.Laplacian(luma(picture).astype(np.float32), cv2.CV_32F) for picture in (first, second)]
    energy = cv2.integral(np.abs(bands[0] - bands[1]))
    sums = energy[side:, side:] - energy[:-side, side:] - energy[side:, :-side] + energy[:-side, :-side]
    found = []
    while len(found) < count and sums.max() >= 0:
        top, left = (int(place) for place in np.unravel_index(sums.argmax(), sums.shape))
        found.append(Box(top, left, side))
        sums[max(0, top - side + 1) : top + side, max(0, left - side + 1) : left + side] = -1
    return tuple(found)
