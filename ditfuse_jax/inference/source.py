# SPDX-License-Identifier: Apache-2.0
"""One picture of a scene as it enters the fusion: read when needed, over image 1, without what moved."""

from dataclasses import dataclass

import cv2
import numpy as np

from ditfuse_jax import image
from ditfuse_jax.image import Origin, Picture
from ditfuse_jax.inference import scene, thermal
from ditfuse_jax.registration import geometry, ghosts

Box = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is to be done to a picture; `read` does it."""

    given: object  # what `image.read_picture` takes
    limits: thermal.Range | None = None  # of counts that are stretched
    origin: Origin | None = None  # of image 1, whose colours it gets; None: it is image 1
    size: tuple[int, int] | None = None  # height and width to bring it to
    matrix: np.ndarray | None = None  # [3, 3] from image 1 to this one, see registration/geometry.py
    fill: np.ndarray | None = None  # [H, W, 3], image 1: where this one shows nothing
    same_light: bool = False  # whether `fill` is brought to this picture's exposure
    still: np.ndarray | None = None  # [H, W, 3]: what is taken where something moved
    moving: np.ndarray | None = None  # uint8 [H, ceil(W / 8)]: where, as bits; a stack has many of them
    box: Box | None = None  # what is left of it

    def read(self) -> Picture:
        """Pixels uint8 or uint16 [H, W, 3]. Raises ValueError as `image.read_picture` does."""
        picture = as_given(self.given, self.limits)
        if self.origin is not None:
            picture = scene.in_colours_of(self.origin, picture)
        pixels = self.changed(picture.pixels)
        return picture if pixels is picture.pixels else Picture(pixels, cropped(picture.origin, self.box))

    def changed(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels [H, W, 3] of the file: resized, brought over image 1, without what moved, cropped."""
        if self.size is not None:
            pixels = resized(pixels, self.size)
        if self.matrix is not None:
            pixels = over(self.matrix, pixels, self.fill, same_light=self.same_light)
        if self.moving is not None:
            moving = np.unpackbits(self.moving, axis=1, count=pixels.shape[1]).astype(bool)
            pixels = ghosts.without(pixels, moving, ghosts.matched(self.still, pixels))
        return pixels if self.box is None else np.ascontiguousarray(pixels[self.box])


def as_given(given, limits: thermal.Range | None) -> Picture:
    """As its file has it; with limits, its counts stretched to 16 bits."""
    if limits is None:
        return image.read_picture(given)
    return Picture(thermal.stretched(image.read_counts(given), limits))


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels [H, W, 3] at another size (height, width): mean of areas down, cubic up."""
    way = cv2.INTER_AREA if size[0] < pixels.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(pixels, size[::-1], interpolation=way)


def over(matrix: np.ndarray, pixels: np.ndarray, first: np.ndarray, *, same_light: bool) -> np.ndarray:
    """Pixels [H, W, 3] as image 1, `first`, sees them; where they show nothing, those of image 1.

    same_light: image 1 is brought to their exposure there.
    """
    size = first.shape[:2]
    inside = geometry.covered(matrix, size, pixels.shape[:2])[..., None]
    moved = geometry.warp(pixels, matrix, size, sharp=True)
    if inside.all():
        return moved
    return np.where(inside, moved, ghosts.matched(first, moved) if same_light else like(first, moved))


def like(pixels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pixels in the number of bits of another picture."""
    return image.shallow(pixels) if other.dtype == np.uint8 else image.deepened(pixels)


def cropped(origin: Origin, box: Box | None) -> Origin:
    """What goes with a picture after its pixels were cut to the box."""
    if box is None or origin.alpha is None:
        return origin
    return image.with_alpha(origin, np.ascontiguousarray(origin.alpha[box]))
