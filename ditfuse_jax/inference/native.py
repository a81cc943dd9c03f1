# SPDX-License-Identifier: Apache-2.0
"""From decoded maps to the picture at its native size, rebuilt from the sources' own pixels, in blocks.

+-- HALO -------------+
|   +-------------+   |     every block has one shape, whatever the picture's, and so one program;
|   |    BLOCK    |   |     beyond the picture it is filled by reflection
|   +-------------+   |
+---------------------+
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax import fidelity, image

BLOCK = 256  # pixels a side
SIDE = BLOCK + 2 * fidelity.HALO


class Native(NamedTuple):
    """A picture of the first input's size."""

    image: np.ndarray  # uint8 or uint16 [H, W, 3]
    pixels: np.ndarray | None  # float32 [H, W, 3] in [-1, 1]: `image` before rounding; None without maps
    weights: np.ndarray | None  # float32 [H, W], 1: the first source; None also where nothing was rebuilt
    invented: np.ndarray | None  # float32 [H, W], 8-bit levels from anything that the sources explain
    explained: float | None  # share of the pixels that the sources explain


class Kept(NamedTuple):
    """What is kept of every pixel beside the picture, float32."""

    pixels: np.ndarray  # [H, W, 3]
    weights: np.ndarray  # [H, W]
    invented: np.ndarray  # [H, W]

    @classmethod
    def empty(cls, height: int, width: int) -> "Kept":
        return cls(np.empty((height, width, 3), np.float32), *np.empty((2, height, width), np.float32))


def finish(
    bands: Iterable[np.ndarray],
    originals: Sequence[np.ndarray],
    *,
    strength: float,
    kind: str | None,
    bits: int = 8,
    profile: bytes | None = None,
    maps: bool = True,
) -> Native:
    """`rebuilt`, or `raw` where strength is 0, in the colours of the originals.

    profile: theirs; bands are sRGB. bits: 8 or 16 of the result. maps: whether more than the picture is kept.
    """
    bands = (image.convert_floats(band, profile) for band in bands)
    if strength == 0:
        return raw(bands, originals[0].shape[:2], bits=bits, maps=maps)
    return rebuilt(bands, originals, strength=strength, kind=kind, bits=bits, maps=maps)


def raw(bands: Iterable[np.ndarray], size: tuple[int, int], *, bits: int = 8, maps: bool = True) -> Native:
    """The decoded result as it is: bands float32 [rows, W, >= 3], from the top, for a picture of `size`."""
    picture = _empty(*size, bits)
    kept = np.empty((*size, 3), np.float32) if maps else None
    top = 0
    for band in bands:
        rows = np.s_[top : top + len(band)]
        pixels = np.clip(band[..., :3], -1.0, 1.0)
        picture[rows] = image.to_levels(pixels, bits)
        if maps:
            kept[rows] = pixels
        top += len(band)
    return Native(picture, kept, None, None, None)


def rebuilt(
    bands: Iterable[np.ndarray],
    originals: Sequence[np.ndarray],
    *,
    strength: float,
    kind: str | None,
    bits: int = 8,
    maps: bool = True,
) -> Native:
    """The decoded result made of the sources' pixels.

    Args:
      bands: float32 [rows, W, 9] from the top of the picture: result and round trips of both sources.
      originals: two of [H, W, 3], each uint8 or uint16.
      strength: 0 leaves the result as it is, 1 takes the rebuilt one, between them they are mixed.
      kind: the prompt's tag, which may choose priors.
      bits, maps: as in `finish`.
    """
    height, width = originals[0].shape[:2]
    picture, explained = _empty(height, width, bits), 0
    kept = Kept.empty(height, width) if maps else None
    for top, cut in _strips(bands, height):
        rows = np.s_[top : min(top + BLOCK, height)]
        around = _reflected(top, height)
        for left in range(0, width, BLOCK):
            columns = _reflected(left, width)
            sources = _block(originals, around, columns)
            block = _program()(cut(columns), sources, np.float32(strength), kind=kind)
            made = Kept(*(np.asarray(part)[: rows.stop - top, : width - left] for part in block))
            place = rows, np.s_[left : left + BLOCK]
            picture[place] = image.to_levels(made.pixels, bits)
            explained += np.count_nonzero(made.invented <= fidelity.EXPLAINED)
            for whole, part in zip(kept or (), made if maps else (), strict=True):
                whole[place] = part
    return Native(picture, *(kept or (None,) * 3), explained / (height * width))


def _empty(height: int, width: int, bits: int) -> np.ndarray:
    return np.empty((height, width, 3), np.uint8 if bits == 8 else np.uint16)


def _block(originals: Sequence[np.ndarray], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[2, SIDE, SIDE, 3], uint8, or uint16 where one of them is."""
    parts = [each[rows[:, None], columns] for each in originals]
    deep = any(image.bits_of(part) == 16 for part in parts)
    return np.stack([image.deepened(part) for part in parts] if deep else parts)


def _strips(bands: Iterable[np.ndarray], height: int) -> Iterator[tuple[int, Callable]]:
    """(top, cut) for top 0, BLOCK, 2 BLOCK ..., as soon as the bands reach so far.

    cut(columns) gives maps [SIDE, SIDE, C] whose row i is row top - HALO + i of the picture. Bands are held
    as they come and dropped when the strips are past them: joined, they would be in memory twice.
    """
    held, start, stop, top = [], 0, 0, 0  # rows start .. stop of the picture
    for band in bands:
        held.append(band)
        stop += len(band)
        while top < height and stop >= min(height, top + BLOCK + fidelity.HALO):
            rows = np.maximum(_reflected(top, height) - start, 0)  # those before `start` lie beyond the halo
            yield top, functools.partial(_cut, tuple(held), rows)
            top += BLOCK
            while held and start + len(held[0]) <= top - fidelity.HALO:
                start += len(held.pop(0))


def _cut(held: Sequence[np.ndarray], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Rows and columns of bands that follow each other."""
    low, high, at, parts = rows.min(), rows.max() + 1, 0, []
    for band in held:
        parts.append(band[max(0, low - at) : max(0, high - at)][:, columns])
        at += len(band)
    return np.concatenate(parts)[rows - low]


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
