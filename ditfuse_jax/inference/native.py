# SPDX-License-Identifier: Apache-2.0
"""From decoded maps to the picture at its native size, rebuilt from the sources' own pixels, in blocks.

+-- HALO -------------+
|   +-------------+   |     every block has one shape, whatever the picture's, and so one program;
|   |    BLOCK    |   |     beyond the picture it is filled by reflection
|   +-------------+   |
+---------------------+
"""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax import fidelity, image

BLOCK = 256  # pixels a side
SIDE = BLOCK + 2 * fidelity.HALO


class Native(NamedTuple):
    """A picture of the first input's size."""

    image: np.ndarray  # uint8 [H, W, 3]
    pixels: np.ndarray  # float32 [H, W, 3] in [-1, 1]: `image` before rounding
    weights: np.ndarray | None  # float32 [H, W], 1: the first source; None where nothing was rebuilt
    invented: np.ndarray | None  # float32 [H, W], 8-bit levels from anything that the sources explain
    explained: float | None  # share of the pixels that the sources explain


def finish(
    bands: Iterable[np.ndarray], originals: np.ndarray, *, strength: float, kind: str | None
) -> Native:
    """`rebuilt`, or `raw` where strength is 0."""
    if strength == 0:
        return raw(bands, originals.shape[1:3])
    return rebuilt(bands, originals, strength=strength, kind=kind)


def raw(bands: Iterable[np.ndarray], size: tuple[int, int]) -> Native:
    """The decoded result as it is: bands float32 [rows, W, >= 3], from the top, for a picture of `size`."""
    pixels, picture = np.empty((*size, 3), np.float32), np.empty((*size, 3), np.uint8)
    top = 0
    for band in bands:
        rows = np.s_[top : top + len(band)]
        pixels[rows] = np.clip(band[..., :3], -1.0, 1.0)
        picture[rows] = image.to_image(pixels[rows])
        top += len(band)
    return Native(picture, pixels, None, None, None)


def rebuilt(
    bands: Iterable[np.ndarray], originals: np.ndarray, *, strength: float, kind: str | None
) -> Native:
    """The decoded result made of the sources' pixels.

    Args:
      bands: float32 [rows, W, 9] from the top of the picture: result and round trips of both sources.
      originals: uint8 [2, H, W, 3].
      strength: 0 leaves the result as it is, 1 takes the rebuilt one, between them they are mixed.
      kind: the prompt's tag, which may choose priors.
    """
    height, width = originals.shape[1:3]
    pixels, picture = np.empty((height, width, 3), np.float32), np.empty((height, width, 3), np.uint8)
    weights, invented = np.empty((2, height, width), np.float32)
    for top, strip in _strips(bands, height):
        rows = np.s_[top : min(top + BLOCK, height)]
        sources = originals[:, _reflected(top, height)]
        for left in range(0, width, BLOCK):
            columns = _reflected(left, width)
            made = _program()(strip[:, columns], sources[:, :, columns], np.float32(strength), kind=kind)
            place = (rows, np.s_[left : min(left + BLOCK, width)])
            shape = weights[place].shape
            pixels[place], weights[place], invented[place] = (
                np.asarray(part)[: shape[0], : shape[1]] for part in made
            )
        picture[rows] = image.to_image(pixels[rows])
    return Native(picture, pixels, weights, invented, float(np.mean(invented <= fidelity.EXPLAINED)))


def _strips(bands: Iterable[np.ndarray], height: int) -> Iterator[tuple[int, np.ndarray]]:
    """(top, rows [SIDE, W, C]) for top 0, BLOCK, 2 BLOCK ..., as soon as the bands reach so far.

    Row i of such a strip is row top - HALO + i of the picture.
    """
    held, start, top = None, 0, 0  # rows of the picture from `start`
    for band in bands:
        held = band if held is None else np.concatenate([held, band])
        while top < height and start + len(held) >= min(height, top + BLOCK + fidelity.HALO):
            rows = np.maximum(_reflected(top, height) - start, 0)  # those before `held` lie beyond the halo
            yield top, held[rows]
            top += BLOCK
            dropped = max(0, top - fidelity.HALO - start)
            held, start = held[dropped:], start + min(dropped, len(held))


def _reflected(start: int, side: int) -> np.ndarray:
    """int [SIDE]: the pixels from start - HALO on, those outside of 0 .. side - 1 by reflection."""
    period = 2 * (side - 1)
    index = np.arange(start - fidelity.HALO, start - fidelity.HALO + SIDE) % period
    return np.minimum(index, period - index)


@functools.cache
def _program():
    """Compiled once per kind."""

    def run(maps: jax.Array, originals: jax.Array, strength: jax.Array, *, kind: str | None):
        result, *trips = jnp.split(maps[None], 3, axis=-1)
        sources = image.to_pixels(originals)[None]
        made = fidelity.rebuild(result, jnp.stack(trips, 1), sources, kind=kind)
        result = jnp.clip(result, -1.0, 1.0)
        pixels = jnp.clip(result + strength * (made.pixels - result), -1.0, 1.0)
        inner = np.s_[0, fidelity.HALO : -fidelity.HALO, fidelity.HALO : -fidelity.HALO]
        return pixels[inner], made.weights[inner], made.invented[inner]

    return jax.jit(run, static_argnames="kind")
