# SPDX-License-Identifier: Apache-2.0
"""What an edited picture shows: whether light and contrast obey."""

from typing import NamedTuple

import numpy as np

from ditfuse_jax.image import luma


class Ordering(NamedTuple):
    """Shares of scenes, in [0, 1]."""

    adjacent: np.ndarray  # float [k - 1]: each neighbour larger than the one before
    chain: float  # all of them at once


def ordering(values: np.ndarray) -> Ordering:
    """values [n, k]: one row per scene, in the order in which they should grow. Equal values do not count."""
    grows = np.diff(values, axis=1) > 0
    return Ordering(grows.mean(axis=0), float(grows.all(axis=1).mean()))


def luminance(image: np.ndarray) -> float:
    return float(luma(image).mean())


def contrast(image: np.ndarray) -> float:
    """Standard deviation of the luminance."""
    return float(luma(image).std())
