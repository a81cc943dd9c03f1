# SPDX-License-Identifier: Apache-2.0
"""The Laplacian pyramid (Burt and Adelson, 1983)."""

import cv2
import numpy as np

SMALLEST = 8  # pixels: a pyramid ends before its short side falls under this


def bands(image: np.ndarray) -> list[np.ndarray]:
    """Bands of float32 [H, W] or [H, W, C] from fine to coarse, the last one low-pass."""
    low, found = image, []
    while min(low.shape[:2]) >= 2 * SMALLEST:
        smaller = cv2.pyrDown(low)
        found.append(low - up(smaller, low))
        low = smaller
    return [*found, low]


def up(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The next coarser band at the size of `like`."""
    return cv2.pyrUp(image, dstsize=(like.shape[1], like.shape[0]))
