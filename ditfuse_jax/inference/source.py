# SPDX-License-Identifier: Apache-2.0
"""One picture of a scene as it enters the fusion: read when it is needed, over image 1, without what moved."""

from dataclasses import dataclass

import cv2
import numpy as np

from ditfuse_jax import image
from ditfuse_jax.inference import thermal
from ditfuse_jax.registration import geometry, ghosts

Box = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True, kw_only=True)
class Source:
    """Reading it gives uint8 [H, W, 3], of image 1's size or that of `box`."""

    given: object  # what `image.read` takes
    limits: thermal.Range | None = None  # of counts that are stretched
    size: tuple[int, int] | None = None  # to bring it to first
    matrix: np.ndarray | None = None  # [3, 3], see registration/geometry.py
    fill: np.ndarray | None = None  # uint8 [H, W, 3], image 1: where this one shows nothing
    same_light: bool = False  # whether `fill` is brought to this picture's exposure
    still: np.ndarray | None = None  # uint8 [H, W, 3]: what is taken where something moved
    moving: np.ndarray | None = None  # bool [H, W]
    box: Box | None = None

    def read(self) -> np.ndarray:
        picture = self.whole()
        return picture if self.box is None else np.ascontiguousarray(picture[self.box])

    def whole(self) -> np.ndarray:
        """Before it is cropped."""
        picture = as_given(self.given, self.limits)
        if self.size is not None:
            picture = resized(picture, self.size)
        if self.matrix is not None:
            picture = self._over_first(picture)
        if self.moving is not None:
            expected = ghosts.matched(self.still, picture)
            picture = ghosts.without(picture, self.moving, expected)
        return picture

    def _over_first(self, picture: np.ndarray) -> np.ndarray:
        size = self.fill.shape[:2]
        inside = geometry.covered(self.matrix, size, picture.shape[:2])[..., None]
        moved = geometry.warp(picture, self.matrix, size, sharp=True)
        fill = ghosts.matched(self.fill, moved) if self.same_light else self.fill
        return np.where(inside, moved, fill)


def read(source) -> np.ndarray:
    """A `Source`, or anything that `image.read` takes, as uint8 [H, W, 3]."""
    return source.read() if isinstance(source, Source) else image.read(source)


def as_given(source, limits: thermal.Range | None) -> np.ndarray:
    """A picture uint8 [H, W, 3]; with limits, its counts stretched."""
    if limits is None:
        return image.read(source)
    return thermal.stretched(image.read_counts(source), limits)


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] at another size (height, width): area down, cubic up."""
    smaller = size[0] < picture.shape[0]
    way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(picture, size[::-1], interpolation=way)
