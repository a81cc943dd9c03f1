# SPDX-License-Identifier: Apache-2.0
"""The sources of one fusion: read, of one size, in the colours of image 1."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax import image
from ditfuse_jax.image import Origin, Picture
from ditfuse_jax.prompt import NUM_SOURCES


class Scene(NamedTuple):
    pixels: tuple[np.ndarray, ...]  # [H, W, 3] each, uint8 or uint16, as its file has them
    origin: Origin  # of image 1, whose profile describes all

    @property
    def size(self) -> tuple[int, int]:
        """Height, width."""
        return self.pixels[0].shape[:2]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The sources as `read` takes them, without reading them again."""
        first, *others = self.pixels
        return Picture(first, self.origin), *(Picture(each, plain(self.origin)) for each in others)

    def seen(self, part: np.ndarray) -> np.ndarray:
        """Pixels of this scene [H, W, 3] as the model sees them: uint8, sRGB."""
        return image.seen(part, self.origin.profile)


def read(images: Sequence) -> Scene:
    """Two images to fuse; each a path, a PIL image, an array or a picture, see `image.read_picture`.

    Raises ValueError for another number than two, for images of different sizes, and as `read_picture` does.
    """
    if isinstance(images, str | Path) or len(images) != NUM_SOURCES:
        count = "one image" if isinstance(images, str | Path) else f"{len(images)} images"
        raise ValueError(f"{count} to fuse in one pass; give a sequence of {NUM_SOURCES}")
    first = image.read_picture(images[0])
    second = in_colours_of(first.origin, image.read_picture(images[1]))
    names = tuple(name(source, f"image {number}") for number, source in enumerate(images, 1))
    image.check_same_size(first.pixels, second.pixels, names)
    return Scene((first.pixels, second.pixels), first.origin)


def in_colours_of(origin: Origin, picture: Picture) -> Picture:
    """The picture in another one's colours."""
    pixels = image.convert(picture.pixels, picture.origin.profile, origin.profile)
    return Picture(pixels, plain(origin))


def plain(origin: Origin) -> Origin:
    """Its profile alone."""
    return Origin(profile=origin.profile)


def name(source, fallback: str) -> str:
    """Of an input, for errors."""
    return str(source) if isinstance(source, str | Path) else fallback
