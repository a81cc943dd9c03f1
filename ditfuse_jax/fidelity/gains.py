# SPDX-License-Identifier: Apache-2.0
"""Gain and offset: where a result must be brighter, darker or of other contrast than any mix of its sources.

    M = mean M + a (A' - mean A') + b (B' - mean B')

a and b are shared by the colours, fitted in Gaussian windows and smoothed by them once more: the guided
filter (He, Sun and Tang, ECCV 2010) with two guides, applied to the originals as in bilateral guided
upsampling (Chen et al., SIGGRAPH Asia 2016). A ridge draws a and b to what is likely without the model: a
half each, or the share of each source in the contrast of both, raised until the mix has the contrast of the
stronger one (which MEF-SSIM asks for, Ma, Zeng and Wang, TIP 2015). So what one source has lost, burnt out
or cold, is taken from the other as it is there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.fidelity.windows import blur, reach

WINDOW = 8.0  # pixels, of the fit and of the smoothing
RIDGE = 20.0  # squared 8-bit levels a window, the model's own error
CONTRAST_RIDGE = 300.0  # toward shares of contrast: errors of brightness pass for detail
FLOOR = 20.0  # squared 8-bit levels of contrast that noise has
MOST = 1.5  # how far a mix is raised: where sources contradict each other it would be without end
CONTEXT = 2 * reach(WINDOW)  # pixels that a value depends on, on every side


class Gains(NamedTuple):
    first: jax.Array  # float32 [B, H, W, 1]
    second: jax.Array  # float32 [B, H, W, 1]
    offset: jax.Array  # float32 [B, H, W, 3]

    def apply(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """The result of these sources, float32 [B, H, W, 3]."""
        return self.first * first + self.second * second + self.offset


def fit(result: jax.Array, first: jax.Array, second: jax.Array, *, by_contrast: bool = False) -> Gains:
    """Fits the result [B, H, W, 3] by both round trips, in 8-bit levels.

    by_contrast: whether the ridge draws to shares of contrast, and more strongly, or to a half each.
    """
    mean_a, mean_b, mean_m = (blur(x, WINDOW) for x in (first, second, result))

    def covariance(x, y, mean_x, mean_y):
        return blur(jnp.sum(x * y, -1), WINDOW) - jnp.sum(mean_x * mean_y, -1)

    aa, bb = covariance(first, first, mean_a, mean_a), covariance(second, second, mean_b, mean_b)
    ab = covariance(first, second, mean_a, mean_b)
    likely_a, likely_b = _by_contrast(aa, bb, ab) if by_contrast else (0.5, 0.5)
    ridge = CONTRAST_RIDGE if by_contrast else RIDGE
    # Of what the ridge draws to, a rest is left, and gains are fitted to it.
    ar = covariance(first, result, mean_a, mean_m) - likely_a * aa - likely_b * ab
    br = covariance(second, result, mean_b, mean_m) - likely_a * ab - likely_b * bb
    aa, bb = aa + ridge, bb + ridge
    determinant = aa * bb - ab * ab  # positive by the ridge
    a = (likely_a + (bb * ar - ab * br) / determinant)[..., None]
    b = (likely_b + (aa * br - ab * ar) / determinant)[..., None]
    offset = mean_m - a * mean_a - b * mean_b
    return Gains(blur(a, WINDOW), blur(b, WINDOW), blur(offset, WINDOW))


def _by_contrast(aa: jax.Array, bb: jax.Array, ab: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gains of both sources that give the stronger one's contrast, from variances and covariance."""
    aa, bb = jnp.maximum(aa, 0.0) + FLOOR, jnp.maximum(bb, 0.0) + FLOOR
    share = aa / (aa + bb)
    mixed = jnp.square(share) * aa + jnp.square(1.0 - share) * bb + 2.0 * share * (1.0 - share) * (ab + FLOOR)
    raised = jnp.minimum(jnp.sqrt(jnp.maximum(aa, bb) / jnp.maximum(mixed, FLOOR)), MOST)
    return raised * share, raised * (1.0 - share)
