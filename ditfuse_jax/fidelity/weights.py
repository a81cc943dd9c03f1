# SPDX-License-Identifier: Apache-2.0
"""One weight a pixel between two sources: where the model takes the one, and where the other.

    r = sum (2 M - A' - B') (A' - B') / (sum |A' - B'|^2 + ridge)      in [-1, 1], over a Gaussian window
    w = sigmoid(STEEP r)                                               1: the first source, 0: the second

r is 2 w - 1 of the least-squares weight in M - B' = w (A' - B'), a local linear model as in the guided
filter (He, Sun and Tang, ECCV 2010), of details alone, since the model's errors of brightness are larger than
those of detail. The sigmoid decides where the fit is clear and stays at a half where the sources agree.
"""

import jax
import jax.numpy as jnp

from ditfuse_jax.fidelity.windows import blur, detail, reach

FINE = 2.0  # pixels: details are what a window of this standard deviation takes away
WINDOW = 2.0  # pixels, of the fit
RIDGE = 50.0  # squared 8-bit levels: the model's own error, so that equal sources decide nothing
STEEP = 8.0
CONTEXT = reach(FINE) + reach(WINDOW)  # pixels that a weight depends on, on every side

SHARP_STEEP = 8.0  # of the logarithm of the sources' sharpness ratio
REFEREE = 2.0  # STEEP of the model where sharpness leads
SHARP_FLOOR = 20.0  # squared 8-bit levels of curvature that noise has


def by_model(result: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """Logits float32 [B, H, W] of the weight, from the model's result and the round trips [B, H, W, 3]."""
    return STEEP * preference(result, first, second)


def by_sharpness(result: jax.Array, round_trips, originals) -> jax.Array:
    """Logits where the sharper source is taken, as in focus stacking, and the model decides close calls.

    Sharpness is the local energy of the Laplacian (Nayar and Nakagawa, PAMI 1994).
    """
    sharp = [blur(jnp.sum(jnp.square(laplacian(source)), -1), WINDOW) + SHARP_FLOOR for source in originals]
    return SHARP_STEEP * jnp.log(sharp[0] / sharp[1]) + REFEREE * preference(result, *round_trips)


def preference(result: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """r of the module's formula, float32 [B, H, W]."""
    result, first, second = (detail(x, FINE) for x in (result, first, second))
    apart = first - second
    along = blur(jnp.sum((2.0 * result - first - second) * apart, -1), WINDOW)
    energy = blur(jnp.sum(apart * apart, -1), WINDOW) + RIDGE
    return jnp.clip(along / energy, -1.0, 1.0)


def laplacian(x: jax.Array) -> jax.Array:
    """Sum of the four neighbours minus four times the pixel; x [B, H, W, C], borders reflected."""
    wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric")
    around = wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:]
    return around - 4.0 * x
