# SPDX-License-Identifier: Apache-2.0
"""Windows that slide over an image: Gaussian and square means, Sobel gradients, all in float64."""

import cv2
import numpy as np

SMOOTH = np.array([1.0, 2.0, 1.0])
DIFFERENCE = np.array([-1.0, 0.0, 1.0])


def gaussian(size: int, sigma: float) -> np.ndarray:
    """Float64 [size], sum 1: one factor of MATLAB's `fspecial('gaussian', size, sigma)`."""
    x = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(x**2) / (2 * sigma**2))
    return weights / weights.sum()


def square(size: int) -> np.ndarray:
    """Float64 [size], sum 1: one factor of the mean over size x size pixels."""
    return np.full(size, 1 / size)


def filter_valid(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Separable correlation, only where the whole window lies in the image.

    image float64 [H, W], window [n] -> float64 [H - n + 1, W - n + 1].
    """
    before, after = (len(window) - 1) // 2, len(window) // 2
    filtered = cv2.sepFilter2D(image, cv2.CV_64F, window, window, anchor=(before, before))
    return filtered[before : image.shape[0] - after, before : image.shape[1] - after]


def filter_zero(image: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Separable correlation to the same size, zeros around the image (MATLAB's `filter2(..., 'same')`)."""
    return cv2.sepFilter2D(image, cv2.CV_64F, across, down, borderType=cv2.BORDER_CONSTANT)


def sobel(image: np.ndarray, *, border: int) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal and vertical Sobel differences, float64 [H, W] each. border: OpenCV's BORDER_..."""
    across = cv2.sepFilter2D(image, cv2.CV_64F, DIFFERENCE, SMOOTH, borderType=border)
    down = cv2.sepFilter2D(image, cv2.CV_64F, SMOOTH, DIFFERENCE, borderType=border)
    return across, down


def check_sides(image: np.ndarray, smallest: int, name: str) -> None:
    """Raises ValueError where a side is too short for the metric's windows."""
    height, width = image.shape[:2]
    if min(height, width) < smallest:
        raise ValueError(
            f"{name} needs sides of at least {smallest} pixels and this image is {width} x {height}; "
            "score larger images or leave this metric away"
        )
