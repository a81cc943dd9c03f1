# SPDX-License-Identifier: Apache-2.0
"""The few sizes to which images are padded for the autoencoder, so that few programs do for all."""

import jax
import numpy as np

from ditfuse_jax.models.vae import VAE

MIN_STEP = 8  # latent cells


def padded_side(cells: int) -> int:
    """The next of two side lengths per octave, in latent cells (8, 16, 24, 32, 48, 64, 96, 128, ...)."""
    step = max(MIN_STEP, 2 ** ((cells - 1).bit_length() - 2))
    return -(-cells // step) * step


def pad(x: np.ndarray, unit: int) -> np.ndarray:
    """x [B, H, W, C] with zeros below and right, up to a padded side, in cells of `unit` x `unit` pixels."""
    below, right = (unit * padded_side(side // unit) - side for side in x.shape[1:3])
    return np.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))


def encode_rows(vae: VAE, pixels: jax.Array, sizes: jax.Array) -> jax.Array:
    """`vae.encode` of pixels [B, H, W, 3] where each row has its own size, int32 [B, 2], in pixels."""
    return jax.vmap(lambda image, size: vae.encode(image[None], size)[0])(pixels, sizes)
