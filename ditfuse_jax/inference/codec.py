# SPDX-License-Identifier: Apache-2.0
"""Pixels to latents and back: images are brought to a shape that the model knows, encoded, decoded."""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from ditfuse_jax import image
from ditfuse_jax.image import Geometry
from ditfuse_jax.inference.network import Network
from ditfuse_jax.models import padded_vae
from ditfuse_jax.ops.products import exact_products


def encode(vae: Network, pictures: Iterable[np.ndarray], sizes: Geometry, *, factor: int) -> np.ndarray:
    """uint8 [H, W, 3] of the native size -> latents float32 [n, h, w, C], the mode of the posterior.

    factor: pixels per latent cell side.
    """
    pixels = image.to_pixels(np.stack([image.fit(picture, sizes) for picture in pictures]))
    run, size = _programs().encode, np.array(sizes.padded, np.int32)
    latents = np.asarray(run(vae.graph, vae.params, padded_vae.pad(pixels, factor), size))
    height, width = (side // factor for side in sizes.padded)
    return latents[:, :height, :width]


def decode(vae: Network, latents: np.ndarray, *, factor: int) -> np.ndarray:
    """Latents [n, h, w, C] -> pixels float32 [n, H, W, 3] of the padded size, about in [-1, 1]."""
    run, size = _programs().decode, np.array(latents.shape[1:3], np.int32)
    pixels = np.asarray(run(vae.graph, vae.params, padded_vae.pad(latents, 1), size))
    return pixels[:, : factor * latents.shape[1], : factor * latents.shape[2]]


class _Programs(NamedTuple):
    encode: Callable
    decode: Callable


@functools.cache
def _programs() -> _Programs:
    """Compiled once per number of images and padded size."""

    def encode(graph: nnx.GraphDef, params: nnx.State, pixels: jax.Array, size: jax.Array) -> jax.Array:
        return nnx.merge(graph, params).encode(pixels, size)

    def decode(graph: nnx.GraphDef, params: nnx.State, latents: jax.Array, size: jax.Array) -> jax.Array:
        return nnx.merge(graph, params).decode(latents, size)

    return _Programs(*(jax.jit(exact_products(f), static_argnames="graph") for f in (encode, decode)))
