# SPDX-License-Identifier: Apache-2.0
"""The rough turn and shift between two pictures: phase correlation of their edges, for every small turn."""

import cv2
import numpy as np

from ditfuse_jax.registration import geometry, structure

TURNS = np.arange(-4.5, 4.6, 1.5)  # degrees
FARTHEST = 0.25  # of a side: shifts beyond are not looked for
WHITEN = 0.5  # power of the amplitude that is divided out: 0 is plain correlation, 1 phase alone


def rough(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The matrix [3, 3] from `first` to `second`, both grey uint8 [H, W] of one size, about 256 pixels."""
    size = first.shape
    window = cv2.createHanningWindow(size[::-1], cv2.CV_32F)
    one = _spectrum(first, window)
    best, found = -np.inf, np.eye(3)
    for degrees in TURNS:
        turn = geometry.turn(degrees, size)
        peak, shift = _peak(one, _spectrum(geometry.warp(second, turn, size, sharp=False), window), size)
        if peak > best:
            best, found = peak, turn @ shift
    return found


def _spectrum(grey: np.ndarray, window: np.ndarray) -> np.ndarray:
    maps = structure.channels(grey)
    return np.fft.rfft2((maps - maps.mean((1, 2), keepdims=True)) * window).astype(np.complex64)


def _peak(one: np.ndarray, other: np.ndarray, size: tuple[int, int]) -> tuple[float, np.ndarray]:
    """The highest correlation in standard deviations, and the shift there as a matrix [3, 3]."""
    cross = np.sum(np.conj(one) * other, axis=0)
    amplitude = np.sqrt(np.sum(np.abs(one) ** 2, 0) * np.sum(np.abs(other) ** 2, 0))
    surface = np.fft.irfft2(cross / (amplitude + 1e-3 * amplitude.mean() + 1e-12) ** WHITEN, s=size)
    surface = cv2.GaussianBlur(surface, (0, 0), 1.0)
    steps = [np.fft.fftfreq(side, 1 / side) for side in size]
    near = (np.abs(step) <= FARTHEST * side for step, side in zip(steps, size, strict=True))
    allowed = np.logical_and.outer(*near)
    row, column = np.unravel_index(np.argmax(np.where(allowed, surface, -np.inf)), size)
    spread = float(surface[allowed].std()) + 1e-12
    return float(surface[row, column]) / spread, geometry.shift(steps[1][column], steps[0][row])
