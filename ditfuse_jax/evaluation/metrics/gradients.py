# SPDX-License-Identifier: Apache-2.0
"""How much changes from pixel to pixel: SF, AG."""

import numpy as np


def spatial_frequency(fused: np.ndarray) -> float:
    """SF: sqrt(mean of squared row differences + mean of squared column differences), grey levels.

    Higher is called better. Source: Eskicioglu and Fisher 1995. Grey [H, W] in 0 to 255; means over the
    differences that exist. Traps: noise raises it; VIFB divides by all pixels (0.1 % less at 640 x 480).
    """
    across, down = np.diff(fused, axis=1), np.diff(fused, axis=0)
    return float(np.sqrt(np.square(across).mean() + np.square(down).mean()))


def average_gradient(fused: np.ndarray) -> float:
    """AG: mean of sqrt((g_x^2 + g_y^2) / 2) in grey levels; higher is called better.

    Source: Cui et al. 2015. Central differences, one-sided at borders. Trap: noise raises it.
    """
    return float(_gradient(fused).mean())


def tang_average_gradient(fused: np.ndarray) -> float:
    """AG as MATLAB toolboxes compute it: the sum over all pixels divided by (H - 1)(W - 1)."""
    height, width = fused.shape
    return float(_gradient(fused).sum() / ((height - 1) * (width - 1)))


def _gradient(image: np.ndarray) -> np.ndarray:
    down, across = np.gradient(image.astype(np.float64))
    return np.sqrt((across**2 + down**2) / 2)
