# SPDX-License-Identifier: Apache-2.0
"""Brightness of a picture in tiles, taken from one pass over the whole picture, scaled down.

    M = T + blur(O - T)

T is a tile as the model decodes it, O the same place in the small picture, M what takes the place of T. How
bright a place of a bracket must be, and what more contrast turns about, the rest of the picture says; a tile
does not see it. Ours; the form is that of a two-band pyramid (Burt and Adelson, ACM TOG 1983).
"""

from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax.image import Geometry
from ditfuse_jax.inference.tiles import Tiling

WIDE = ("multi-exposure", "contrast+", "contrast-")  # tags whose results it brings nearer to the truth
BAND = 16.0  # pixels: brightness is what a Gaussian window of this standard deviation keeps


class Overview(NamedTuple):
    """A fused picture, scaled down."""

    pixels: np.ndarray  # float32 [h, w, 3] in [-1, 1], of the padded size
    geometry: Geometry


def wanted(kind: str | None, tiling: Tiling | None) -> bool:
    """kind: the prompt's tag, `prompt.kind_of`."""
    return tiling is not None and len(tiling.corners) > 1 and kind in WIDE


def toned(part: np.ndarray, overview: Overview, corner: tuple[int, int]) -> np.ndarray:
    """A tile float32 [h, w, >= 3] at `corner`, its result first -> the same with M in the place of T."""
    apart = seen_at(overview, corner, part.shape[:2]) - part[..., :3]
    even = cv2.GaussianBlur(apart, (0, 0), BAND, borderType=cv2.BORDER_REFLECT_101)
    return np.concatenate([part[..., :3] + even, part[..., 3:]], axis=-1)


def seen_at(overview: Overview, corner: tuple[int, int], tile: tuple[int, int]) -> np.ndarray:
    """The tile at `corner` (top, left) of the native picture, as the overview has it: float32 [*tile, 3].

    What sticks out of the picture is filled by reflection, as in `tiles.cut`.
    """
    height, width = overview.geometry.fused
    small = np.ascontiguousarray(overview.pixels[:height, :width])
    scales = [small / native for small, native in zip((height, width), overview.geometry.native, strict=True)]
    down, across = (s * (start + 0.5) - 0.5 for s, start in zip(scales, corner, strict=True))
    where = np.array([[scales[1], 0, across], [0, scales[0], down]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(small, where, tile[::-1], flags=how, borderMode=cv2.BORDER_REFLECT_101)
