# SPDX-License-Identifier: Apache-2.0
"""The one motion that most blocks agree on: a shift, or turn, scale and shift with a little perspective."""

import cv2
import numpy as np

from ditfuse_jax.registration import geometry

MODELS = ("translation", "homography")
NEAR = 1.5  # pixels: blocks that lie within it of the common motion agree
FEW = 6  # blocks under which there is no motion to speak of
ROUNDS = 12  # of reweighting
STIFF = 1.0  # how much the blocks must say before the motion is more than turn, scale and shift


def fit(points: np.ndarray, moves: np.ndarray, *, model: str, spread: float) -> np.ndarray:
    """The matrix [3, 3] that takes points [n, 2] to points + moves, by most of them.

    Iterated least squares with Tukey's biweight, from the motion that most blocks support.
    model: one of MODELS. spread: half the longer side of the picture, in pixels.
    """
    if len(points) < FEW:
        return np.eye(3)
    matrix = start = _start(points, moves, model)
    width = 4 * NEAR
    for _ in range(ROUNDS):
        apart = np.linalg.norm(geometry.apply(matrix, points) - points - moves, axis=1)
        weights = np.square(np.maximum(0.0, 1.0 - np.square(apart / width)))
        if np.count_nonzero(weights) < FEW:
            return start
        matrix = _least_squares(points, moves, weights, model, spread)
        width = max(1.5 * NEAR, width / 1.5)
    return matrix


def _start(points: np.ndarray, moves: np.ndarray, model: str) -> np.ndarray:
    if model == "translation":
        support = (np.linalg.norm(moves[:, None] - moves[None], axis=-1) < 2 * NEAR).sum(1)
        return geometry.shift(*moves[np.argmax(support)])
    cv2.setRNGSeed(0)  # equal pictures, equal results
    found, _ = cv2.estimateAffinePartial2D(
        points, points + moves, method=cv2.RANSAC, ransacReprojThreshold=2 * NEAR
    )
    return np.eye(3) if found is None else np.vstack([found, [0.0, 0.0, 1.0]])


def _least_squares(points, moves, weights, model: str, spread: float) -> np.ndarray:
    if model == "translation":
        return geometry.shift(*(weights[:, None] * moves).sum(0) / weights.sum())
    middle = points.mean(0)
    to = np.array([[1 / spread, 0, -middle[0] / spread], [0, 1 / spread, -middle[1] / spread], [0, 0, 1]])
    scaled = ((each - middle) / spread for each in (points, points + moves))
    matrix = np.linalg.inv(to) @ _homography(*scaled, weights) @ to
    return matrix / matrix[2, 2]


def _homography(points: np.ndarray, moved: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """u (g x + h y + 1) = a x + b y + c and v (g x + h y + 1) = d x + e y + f by weighted least squares.

    a - e, b + d, g and h, what goes beyond turn, scale and shift, are held back by STIFF.
    """
    (x, y), (u, v) = points.T, moved.T
    zero, one, root = np.zeros_like(x), np.ones_like(x), np.sqrt(weights)[:, None]
    across = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    down = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    beyond = np.zeros((4, 8))
    beyond[0, [0, 4]], beyond[1, [1, 3]], beyond[2, 6], beyond[3, 7] = (1, -1), (1, 1), 1, 1
    rows = np.concatenate([root * across, root * down, np.sqrt(STIFF * weights.sum()) * beyond])
    values = np.concatenate([root[:, 0] * u, root[:, 0] * v, np.zeros(4)])
    return np.append(np.linalg.lstsq(rows, values, rcond=None)[0], 1.0).reshape(3, 3)
