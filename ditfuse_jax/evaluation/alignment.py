# SPDX-License-Identifier: Apache-2.0
"""Is a result where its sources are? Size and shift, by phase correlation."""

import math
from typing import NamedTuple

import cv2
import numpy as np

LARGEST_SHIFT = 0.75  # pixels; real pairs are themselves registered to about half a pixel
WEAKEST_PEAK = 0.1  # of the correlation: under it the shift is not known


class Shift(NamedTuple):
    """Of the result against the source that it resembles more, in pixels: right and down are positive."""

    right: float
    down: float
    peak: float  # height of the correlation peak, at most about 1

    @property
    def moved(self) -> bool:
        return self.peak >= WEAKEST_PEAK and math.hypot(self.right, self.down) > LARGEST_SHIFT


def shift(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> Shift:
    """Grey float64 [H, W] each. A source that the result ignores has no peak, so the higher one counts."""
    window = cv2.createHanningWindow(fused.shape[::-1], cv2.CV_64F)
    found = []
    for source in (first, second):
        if source.std() and fused.std():
            # copies: OpenCV multiplies the window into images whose sizes need no padding
            (right, down), peak = cv2.phaseCorrelate(source.copy(), fused.copy(), window)
            found.append(Shift(right, down, peak))
    return max(found, key=lambda one: one.peak, default=Shift(0.0, 0.0, 0.0))
