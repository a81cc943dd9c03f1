# SPDX-License-Identifier: Apache-2.0
"""The noise that sampling starts from, at t = 0: a function of the seed and the latents' shape alone."""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from ditfuse_jax.bounds import check_seed
from ditfuse_jax.config import PATCH
from ditfuse_jax.inference import sampler

Shape = tuple[int, int, int]  # h, w, C of latents


def normal(shape: Shape, *, seed: int, draw: int = 0) -> np.ndarray:
    """float32 [h, w, C] of a seed: the values of jax.random.normal(key_of(seed), [h, w, C]).

    draw: further ones of the same seed, whose key is fold_in(key_of(seed), draw).
    """
    key = jax.random.fold_in(key_of(seed), draw) if draw else key_of(seed)
    height, width, channels = shape
    # the sampler's counts, so that new sizes need no new program; a short draw is a prefix of a long one
    count = sampler.padded_count(-(-height * width // PATCH**2)) * PATCH**2 * channels
    return np.asarray(_program()(key, count))[: height * width * channels].reshape(shape)


def key_of(seed: int) -> jax.Array:
    """The Threefry key of a seed of 64 bits; of one below 2**32 it is jax.random.key(seed).

    That function reads 32 bits alone: 2**32 + 1 would be another name of 1. Raises ValueError for others.
    """
    check_seed(seed)
    halves = np.array(divmod(int(seed), 2**32), np.uint32)
    return jax.random.wrap_key_data(halves, impl="threefry2x32")


@functools.cache
def _program():
    """Compiled once per padded count."""
    return jax.jit(lambda key, count: jax.random.normal(key, (count,)), static_argnums=1)


def starts(
    shapes: Sequence[Shape], seeds: Sequence[int], given: Sequence[np.ndarray | None], *, count: int
) -> list[list[np.ndarray]]:
    """`count` starts, each a list over images; every second one is the negative of the one before.

    What an odd function of the noise adds to the result cancels in such two (antithetic variates,
    Hammersley and Morton 1956).

    Args:
      shapes: of each image's latents. seeds: one for each.
      given: float32 [h, w, C] in the place of an image's first draw, or None.
    """
    if not len(seeds) == len(given) == len(shapes):
        raise ValueError(
            f"{len(seeds)} seeds and {len(given)} noise arrays for {len(shapes)} pairs; give one per pair"
        )
    first = [
        normal(shape, seed=seed) if noise is None else _checked(noise, shape)
        for shape, seed, noise in zip(shapes, seeds, given, strict=True)
    ]
    drawn = [first]
    for draw in range(1, -(-count // 2)):
        drawn.append([normal(shape, seed=seed, draw=draw) for shape, seed in zip(shapes, seeds, strict=True)])
    return [signed for noise in drawn for signed in (noise, [-part for part in noise])][:count]


def _checked(noise: np.ndarray, shape: Shape) -> np.ndarray:
    noise = np.asarray(noise, np.float32)
    if noise.shape != shape or not np.isfinite(noise).all():
        raise ValueError(f"noise {list(noise.shape)} must be finite and of the latents' shape {list(shape)}")
    return noise
