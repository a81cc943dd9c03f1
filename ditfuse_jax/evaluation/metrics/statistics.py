# SPDX-License-Identifier: Apache-2.0
"""Moments and correlations: SD, CC, SCD."""

import numpy as np


def deviation(fused: np.ndarray) -> float:
    """SD: standard deviation over all pixels in grey levels; higher is called better.

    Population form, grey [H, W] in 0 to 255. Traps: the paper's Table II prints it on [0, 1]; arithmetic
    of uint8 wraps.
    """
    return float(fused.std(dtype=np.float64))


def tang_deviation(fused: np.ndarray) -> float:
    """SD of the image on [0, 1], as the paper's Table II prints it (0.27)."""
    return deviation(fused) / 255.0


def correlation(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """CC: mean of Pearson's r(A, F) and r(B, F), -1 to 1; higher is called better. nan for a constant image.

    Source: Deshmukh and Bhosale 2010. Trap: the mean of the sources is near its best.
    """
    return (pearson(first, fused) + pearson(second, fused)) / 2


def scd(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """SCD: r(F - B, A) + r(F - A, B), sum of the correlations of differences, -2 to 2; higher is better.

    Source: Aslantas and Bendes 2015. nan where the fused image is a source. Trap: differences of uint8 clip.
    """
    return pearson(fused - second, first) + pearson(fused - first, second)


def pearson(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two images [H, W]; nan where one is constant."""
    one, other = one - one.mean(dtype=np.float64), other - other.mean(dtype=np.float64)
    power = np.sqrt(np.square(one).sum() * np.square(other).sum())
    return float((one * other).sum() / power) if power > 1e-9 else float("nan")
