# SPDX-License-Identifier: Apache-2.0
"""Matrices between pictures, and pictures through them.

A matrix [3, 3] takes a pixel (x, y) of the first picture to the place in the second that shows the same
point; whole numbers are the middles of pixels.
"""

import cv2
import numpy as np

BACK = cv2.WARP_INVERSE_MAP  # the matrix goes from the picture that is made to the one that is there


def shift(right: float, down: float) -> np.ndarray:
    """Matrix [3, 3]."""
    return np.array([[1.0, 0.0, right], [0.0, 1.0, down], [0.0, 0.0, 1.0]])


def turn(degrees: float, size: tuple[int, int]) -> np.ndarray:
    """Matrix [3, 3] about the middle of a picture of size (height, width)."""
    middle = (size[1] - 1) / 2, (size[0] - 1) / 2
    return np.vstack([cv2.getRotationMatrix2D(middle, degrees, 1.0), [0.0, 0.0, 1.0]])


def scale(size: tuple[int, int], to: tuple[int, int]) -> np.ndarray:
    """Matrix [3, 3] from pixels of a picture (height, width) to those of the same picture at another size."""
    down, right = to[0] / size[0], to[1] / size[1]
    return np.array([[right, 0, right / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points float64 [n, 2] (x, y) through a matrix."""
    return cv2.perspectiveTransform(np.asarray(points, np.float64).reshape(1, -1, 2), matrix)[0]


def grid(size: tuple[int, int], count: int = 9) -> np.ndarray:
    """Points float64 [count^2, 2] all over a picture of size (height, width)."""
    across, down = np.linspace(0, size[1] - 1, count), np.linspace(0, size[0] - 1, count)
    return np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)


def distance(matrix: np.ndarray, other: np.ndarray, size: tuple[int, int]) -> float:
    """Mean pixels between where two matrices take the points of a picture."""
    points = grid(size)
    return float(np.linalg.norm(apply(matrix, points) - apply(other, points), axis=1).mean())


def warp(picture: np.ndarray, matrix: np.ndarray, size: tuple[int, int], *, sharp: bool) -> np.ndarray:
    """The second picture [H, W] or [H, W, C] as the first, of `size`, sees it; reflected at its borders.

    sharp: Lanczos for what people see, else linear for what is measured.
    """
    way = cv2.INTER_LANCZOS4 if sharp else cv2.INTER_LINEAR
    border = cv2.BORDER_REFLECT_101
    return cv2.warpPerspective(picture, matrix, size[::-1], flags=way | BACK, borderMode=border)


def covered(matrix: np.ndarray, size: tuple[int, int], by: tuple[int, int]) -> np.ndarray:
    """bool [H, W]: pixels of the first picture, of `size`, that the second, of size `by`, shows."""
    there = np.ones(by, np.uint8)
    return cv2.warpPerspective(there, matrix, size[::-1], flags=cv2.INTER_NEAREST | BACK) > 0


def rectangle(inside: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a large rectangle of True alone in bool [H, W], False along its borders.

    The side with the largest share of False is cut away, again and again.
    Raises ValueError where nothing is left.
    """
    top, left, (bottom, right) = 0, 0, inside.shape
    while top < bottom and left < right:
        rows, columns = inside[top:bottom, left:right], inside[top:bottom, left:right]
        sides = [rows[0].mean(), rows[-1].mean(), columns[:, 0].mean(), columns[:, -1].mean()]
        worst = int(np.argmin(sides))
        if sides[worst] == 1.0:
            return slice(top, bottom), slice(left, right)
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    raise ValueError("the pictures show no common part; leave --crop away or give other pictures")
