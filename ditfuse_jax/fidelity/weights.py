# SPDX-License-Identifier: Apache-2.0
"""One weight a pixel between the sources, fitted where all of them went through the autoencoder.

    M - B' = w (A' - B')      least squares in Gaussian windows, w shrunk towards 1/2 where A' and B' agree
    F      = B + w (A - B)    the same weight on the originals: what the autoencoder lost cancels

A local linear model of one image by another is the guided filter's (He, Sun and Tang, ECCV 2010); fitting at
one quality and applying at another is bilateral guided upsampling (Chen et al., SIGGRAPH Asia 2016).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LEVEL = 1 / 127.5  # an 8-bit level in pixels of [-1, 1]
WINDOW, SMOOTH = 3.0, 1.0  # standard deviations in pixels: of the fit, of the weights after it
RIDGE = 5.0 * LEVEL**2
REACH = 3.0  # standard deviations at which a window ends
HALO = int(np.ceil(REACH * (WINDOW + max(WINDOW, SMOOTH))))  # pixels that a result depends on, on every side
EXPLAINED = 16.0  # 8-bit levels of `invented` up to which the sources explain a pixel


class Rebuilt(NamedTuple):
    pixels: jax.Array  # float32 [B, H, W, 3] in [-1, 1]
    weights: jax.Array  # float32 [B, H, W], 1 where the first source is taken, 0 where the second
    invented: (
        jax.Array
    )  # float32 [B, H, W], 8-bit levels: how far the result is from what weights can explain


def rebuild(
    result: jax.Array, round_trips: jax.Array, originals: jax.Array, *, kind: str | None = None
) -> Rebuilt:
    """The decoded result made of the originals.

    Args:
      result: float32 [B, H, W, 3] in [-1, 1], the decoder's.
      round_trips: float32 [B, 2, H, W, 3], the sources through the autoencoder. originals: the sources.
      kind: the prompt's tag, see `prompt.TASK_TAGS`; every kind is fitted alike.
    """
    first, second = round_trips[:, 0], round_trips[:, 1]
    apart = first - second
    along = blur(jnp.sum((result - second) * apart, -1), WINDOW)
    energy = blur(jnp.sum(apart * apart, -1), WINDOW)
    weights = blur(jnp.clip((along + 0.5 * RIDGE) / (energy + RIDGE), 0.0, 1.0), SMOOTH)
    each = weights[..., None]
    error = jnp.mean(jnp.square(result - second - each * apart), -1)
    invented = jnp.sqrt(jnp.maximum(blur(error, WINDOW), 0.0)) / LEVEL
    pixels = originals[:, 1] + each * (originals[:, 0] - originals[:, 1])
    return Rebuilt(pixels, weights, invented)


def blur(x: jax.Array, sigma: float) -> jax.Array:
    """x float32 [B, H, W] under a Gaussian window of this standard deviation in pixels, borders reflected.

    As two products with banded matrices: convolutions of one channel are slow on every backend.
    """
    down, across = (window_matrix(side, sigma) for side in x.shape[1:])
    return jnp.einsum("ih,bhw,jw->bij", down, x, across, precision="highest")


def window_matrix(side: int, sigma: float) -> np.ndarray:
    """float32 [side, side]: row i holds the window around pixel i, what lies beyond a border reflected."""
    reach = int(np.ceil(REACH * sigma))
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    period = max(1, 2 * (side - 1))
    places = (np.arange(side)[:, None] + steps) % period
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], np.minimum(places, period - places)), kernel / kernel.sum())
    return matrix.astype(np.float32)
