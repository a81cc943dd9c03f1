# SPDX-License-Identifier: Apache-2.0
"""Gaussian windows over pictures."""

import jax
import jax.numpy as jnp
import numpy as np

REACH = 3.0  # standard deviations at which a window ends


def reach(sigma: float) -> int:
    """Pixels from the middle of a window to its end."""
    return int(np.ceil(REACH * sigma))


def blur(x: jax.Array, sigma: float) -> jax.Array:
    """x float32 [B, H, W] or [B, H, W, C] under a window of this standard deviation, borders reflected.

    As two products with banded matrices: convolutions of one channel are slow on every backend.
    """
    down, across = (window_matrix(side, sigma) for side in x.shape[1:3])
    return jnp.einsum("ih,bhw...,jw->bij...", down, x, across, precision="highest")


def window_matrix(side: int, sigma: float) -> np.ndarray:
    """float32 [side, side]: row i holds the window around pixel i, what lies beyond a border reflected."""
    steps = np.arange(-reach(sigma), reach(sigma) + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    period = max(1, 2 * (side - 1))
    places = (np.arange(side)[:, None] + steps) % period
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], np.minimum(places, period - places)), kernel / kernel.sum())
    return matrix.astype(np.float32)


def detail(x: jax.Array, sigma: float) -> jax.Array:
    """What a window takes away: x minus its blur."""
    return x - blur(x, sigma)
