# SPDX-License-Identifier: Apache-2.0
"""What fusion without a network can do: uint8 [H, W, 3] twice -> uint8 [H, W, 3]."""

import cv2
import numpy as np

SMALLEST = 8  # pixels: a pyramid ends before its short side falls under this


def mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return _to_uint8((first.astype(np.float32) + second) / 2)


def maximum(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.maximum(first, second)


def laplacian(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of every band the stronger source, of what remains the mean (Burt and Adelson, 1983).

    Strength is summed over the channels, so that a pixel's colours all come from one source.
    """
    *bands, (low1, low2) = zip(_pyramid(first), _pyramid(second), strict=True)
    image = (low1 + low2) / 2
    for one, two in reversed(bands):
        stronger = np.abs(one).sum(-1, keepdims=True) >= np.abs(two).sum(-1, keepdims=True)
        image = _up(image, one) + np.where(stronger, one, two)
    return _to_uint8(image)


def mertens(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """OpenCV's exposure fusion with its own weights. Its result leaves [0, 1], hence the clipping."""
    return _to_uint8(255 * cv2.createMergeMertens().process([first, second]))


BASELINES = {"mean": mean, "maximum": maximum, "Laplacian pyramid": laplacian, "Mertens": mertens}


def _pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Bands from fine to coarse, the last one low-pass; float32 [h, w, 3] each."""
    low, bands = image.astype(np.float32), []
    while min(low.shape[:2]) >= 2 * SMALLEST:
        smaller = cv2.pyrDown(low)
        bands.append(low - _up(smaller, low))
        low = smaller
    return [*bands, low]


def _up(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    return cv2.pyrUp(image, dstsize=(like.shape[1], like.shape[0]))


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.rint(image).clip(0, 255).astype(np.uint8)
