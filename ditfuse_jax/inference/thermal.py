# SPDX-License-Identifier: Apache-2.0
"""Thermal pictures: counts of 12 to 16 bits stretched to all levels, and colours for what came of them.

u = (count - low) / (high - low)       low, high: the range, by default the 1st and the 99th percentile
0 <= u <= 1 is a straight line over all levels but KNEE of them at each end; beyond, the levels run out
ever more slowly and so keep their order: nothing is clipped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax import image
from ditfuse_jax.image import Picture

PERCENTILES = (1.0, 99.0)
KNEE = 0.05  # of the levels, at each end
NARROW = 0.05  # of the range that a picture could use: under it, hardly anything is to be seen
MOST = 3_000_000  # values that are looked at
PALETTES = ("inferno", "magma", "plasma", "viridis", "turbo", "hot", "jet", "bone")


class Range(NamedTuple):
    """Of counts."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.6g} {self.high:.6g}"


def own_values(files: Sequence[Path]) -> np.ndarray:
    """The infrared picture of these files as `image.read_stored` has it; ValueError where it is none."""
    found = image.read_stored(files[-1]) if len(files) < 3 else None
    if found is None:
        raise ValueError(
            f"{files[-1]} holds no temperatures: it is no grey picture of more than 8 bits and no "
            "radiometric JPEG; leave --temperatures away"
        )
    return found


def used(counts: np.ndarray) -> Range:
    """The range of one picture, float32 [H, W]."""
    low, high = (float(value) for value in np.percentile(counts, PERCENTILES))
    return Range(low, high if high > low else low + 1.0)


def stretched(counts: np.ndarray, limits: Range) -> np.ndarray:
    """uint16 [H, W, 3] of counts float32 [H, W]."""
    u = (counts - np.float32(limits.low)) / np.float32(limits.high - limits.low)
    slope = (1 - 2 * KNEE) / KNEE
    inner = KNEE + (1 - 2 * KNEE) * u
    below = KNEE / (1 + slope * np.maximum(0, -u))
    above = 1 - KNEE / (1 + slope * np.maximum(0, u - 1))
    levels = np.where(u < 0, below, np.where(u > 1, above, inner))
    return np.repeat(np.rint(65535 * levels).astype(np.uint16)[..., None], 3, axis=-1)


def told(counts: np.ndarray, limits: Range, *, unit: str) -> str:
    """For people: what was stretched to what, and what lies beyond."""
    beyond = float(np.mean((counts < limits.low) | (counts > limits.high)))
    return (
        f"image 2 holds {unit} {counts.min():g} .. {counts.max():g}: {limits.low:g} .. {limits.high:g} are "
        f"stretched, {beyond:.1%} lie beyond"
    )


def narrow(picture: Picture) -> float | None:
    """The share of its range that a picture uses, specks left out, where that is under NARROW."""
    thin = max(1, int((picture.pixels.size / MOST) ** 0.5))
    luma = image.luma(picture.pixels[::thin, ::thin])
    low, high = np.percentile(luma, (0.1, 99.9))
    share = float(high - low) / np.iinfo(picture.pixels.dtype).max
    return share if share < NARROW else None


def coloured(fused: np.ndarray, weights: np.ndarray, infrared: np.ndarray, palette: str) -> np.ndarray:
    """The result with the infrared's share in colours: F + (1 - w) (palette(I) - I), of its shape and bits.

    Args:
      fused: uint8 or uint16 [H, W, 3]. weights: float32 [H, W], 1 where the visible source was taken.
      infrared: uint8 or uint16 [H, W, 3]. palette: one of PALETTES.
    """
    infrared = image.shallow(infrared)
    grey = np.rint(image.luma(infrared)).astype(np.uint8)
    table = getattr(cv2, f"COLORMAP_{palette.upper()}")
    colours = cv2.cvtColor(cv2.applyColorMap(grey, table), cv2.COLOR_BGR2RGB)
    share = (1 - weights)[..., None]
    top = np.iinfo(fused.dtype).max
    made = fused + np.float32(top / 255) * share * (colours.astype(np.float32) - infrared)
    return np.rint(np.clip(made, 0, top)).astype(fused.dtype)
