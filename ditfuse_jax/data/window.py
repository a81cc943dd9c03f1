# SPDX-License-Identifier: Apache-2.0
"""Aligned uint8 crops: one window per sample, cut from every image of it."""

from typing import NamedTuple

import cv2
import numpy as np


class Window(NamedTuple):
    """A part of an image, in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def draw(rng, size: tuple[int, int], shape: tuple[int, int], *, smallest: float, flip: bool) -> Window:
    """A window of the shape's aspect inside an image of (height, width) `size`.

    Its side is uniform in [smallest, 1] of the largest that fits, its place is uniform.
    With `flip` half of them are mirrored.
    """
    height, width = size
    largest = min(height / shape[0], width / shape[1])
    scale = largest * rng.uniform(smallest, 1.0)
    high = min(height, max(1, round(scale * shape[0])))
    wide = min(width, max(1, round(scale * shape[1])))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    return Window(top, left, high, wide, bool(flip and rng.random() < 0.5))


def centre(size: tuple[int, int], shape: tuple[int, int]) -> Window:
    """The largest centred window of the shape's aspect: what validation sees."""
    height, width = size
    scale = min(height / shape[0], width / shape[1])
    high, wide = min(height, max(1, round(scale * shape[0]))), min(width, max(1, round(scale * shape[1])))
    return Window((height - high) // 2, (width - wide) // 2, high, wide, False)


def cut(image: np.ndarray, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """The window of `image`, resized to (height, width) `shape`; labels [H, W] keep their values."""
    part = image[window.top : window.top + window.height, window.left : window.left + window.width]
    if part.shape[:2] != tuple(shape):
        part = cv2.resize(part, (shape[1], shape[0]), interpolation=_interpolation(image, window, shape))
    return np.ascontiguousarray(part[:, ::-1] if window.flip else part)


def _interpolation(image, window: Window, shape) -> int:
    if image.ndim == 2:
        return cv2.INTER_NEAREST
    return cv2.INTER_AREA if window.height > shape[0] else cv2.INTER_CUBIC
