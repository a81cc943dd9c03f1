# SPDX-License-Identifier: Apache-2.0
"""Gain and offset: where a result must be brighter, darker or of other contrast than any mix of its sources.

    M = E + a (A' - mean A') + b (B' - mean B') + mean (M - E),    E = (A' + B') / 2

a and b are shared by the colours, fitted in Gaussian windows and smoothed by them once more: the guided
filter (He, Sun and Tang, ECCV 2010) with two guides, applied to the originals as in bilateral guided
upsampling (Chen et al., SIGGRAPH Asia 2016).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.fidelity.windows import blur, reach

WINDOW = 8.0  # pixels, of the fit and of the smoothing
RIDGE = 20.0  # squared 8-bit levels a window, the model's own error
FAR_RIDGE = 300.0  # the same where sources differ by stops: errors of brightness pass for detail
CONTEXT = 2 * reach(WINDOW)  # pixels that a value depends on, on every side


class Gains(NamedTuple):
    first: jax.Array  # float32 [B, H, W, 1]
    second: jax.Array  # float32 [B, H, W, 1]
    offset: jax.Array  # float32 [B, H, W, 3]

    def apply(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """The result of these sources, float32 [B, H, W, 3]."""
        return 0.5 * (first + second) + self.first * first + self.second * second + self.offset


def fit(result: jax.Array, first: jax.Array, second: jax.Array, *, ridge: float = RIDGE) -> Gains:
    """Fits the result [B, H, W, 3] by both round trips, in 8-bit levels; a ridge draws toward their mean."""
    rest = result - 0.5 * (first + second)
    mean_a, mean_b, mean_r = (blur(x, WINDOW) for x in (first, second, rest))

    def covariance(x, y, mean_x, mean_y):
        return blur(jnp.sum(x * y, -1), WINDOW) - jnp.sum(mean_x * mean_y, -1)

    aa = covariance(first, first, mean_a, mean_a) + ridge
    bb = covariance(second, second, mean_b, mean_b) + ridge
    ab = covariance(first, second, mean_a, mean_b)
    ar, br = covariance(first, rest, mean_a, mean_r), covariance(second, rest, mean_b, mean_r)
    determinant = aa * bb - ab * ab  # positive by the ridge
    a = ((bb * ar - ab * br) / determinant)[..., None]
    b = ((aa * br - ab * ar) / determinant)[..., None]
    offset = mean_r - a * mean_a - b * mean_b
    return Gains(blur(a, WINDOW), blur(b, WINDOW), blur(offset, WINDOW))
