# SPDX-License-Identifier: Apache-2.0
"""A drawn scene: shapes of all sizes under uneven light, the same in other light and for other eyes."""

import cv2
import numpy as np

from ditfuse_jax.registration import geometry


def draw(seed: int = 0, size: tuple[int, int] = (240, 320), count: int = 90) -> np.ndarray:
    """uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    picture = np.full((*size, 3), 120, np.uint8)
    for _ in range(count):
        middle = tuple(int(rng.integers(0, side)) for side in size[::-1])
        axes = tuple(int(each) for each in rng.integers(4, 30, 2))
        colour = tuple(int(each) for each in rng.integers(20, 235, 3))
        cv2.ellipse(picture, middle, axes, float(rng.integers(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    uneven = cv2.GaussianBlur(rng.normal(0, 1, size).astype(np.float32), (0, 0), 12)
    light = 1 + 0.25 * uneven / np.abs(uneven).max()  # so that no level belongs to one thing alone
    return np.rint(picture * light[..., None]).clip(0, 255).astype(np.uint8)


def infrared(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: other levels, half of them turned around, blurred."""
    grey = picture[..., 0].astype(np.float32)
    other = 30 + 200 * np.abs(np.sin(grey / 40))
    return np.repeat(cv2.GaussianBlur(other, (0, 0), 1.2)[..., None], 3, -1).astype(np.uint8)


def exposed(picture: np.ndarray, stop: float) -> np.ndarray:
    light = (picture / 255.0) ** 2.2 * 2.0**stop
    return np.rint(255 * light.clip(0, 1) ** (1 / 2.2)).astype(np.uint8)


def moved(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The picture as a camera sees it of which `matrix` takes the first one's pixels to its own."""
    return geometry.warp(picture, np.linalg.inv(matrix), picture.shape[:2], sharp=True)


def movement(right: float, down: float, degrees: float, size=(240, 320)) -> np.ndarray:
    return geometry.shift(right, down) @ geometry.turn(degrees, size)
