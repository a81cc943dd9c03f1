# SPDX-License-Identifier: Apache-2.0
"""What an edited picture shows: how much of it is marked, and whether light and contrast obey."""

from typing import NamedTuple

import numpy as np

from ditfuse_jax.data import segmentation
from ditfuse_jax.data.pairs import luma


class Ordering(NamedTuple):
    """Shares of scenes, in [0, 1]."""

    adjacent: np.ndarray  # float [k - 1]: each neighbour larger than the one before
    chain: float  # all of them at once


def ordering(values: np.ndarray) -> Ordering:
    """values [n, k]: one row per scene, in the order in which they should grow. Equal values do not count."""
    grows = np.diff(values, axis=1) > 0
    return Ordering(grows.mean(axis=0), float(grows.all(axis=1).mean()))


def luminance(image: np.ndarray) -> float:
    return float(luma(image).mean())


def contrast(image: np.ndarray) -> float:
    """Standard deviation of the luminance."""
    return float(luma(image).std())


def opacity(marked: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """How opaque the overlay of `marked` is over `plain`, uint8 [H, W, 3] each; float32 [H, W].

    The least-squares a of marked = plain + a * (blue - plain), per pixel.
    """
    plain = plain.astype(np.float32)
    away = np.array(segmentation.COLOUR, np.float32) - plain
    along = ((marked - plain) * away).sum(-1)
    return along / np.maximum(np.square(away).sum(-1), 1.0)


def marked_pixels(marked: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Bool [H, W]: at least as opaque as the overlay is on the edge of its mask."""
    return opacity(marked, plain) >= segmentation.OPACITY / 2


class Overlap(NamedTuple):
    """Pixels, summed over pictures."""

    intersection: int = 0
    union: int = 0

    def add(self, found: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> "Overlap":
        """With one more picture: bool [H, W] each; pixels that are not valid do not count."""
        both, either = (found & truth & valid).sum(), ((found | truth) & valid).sum()
        return Overlap(self.intersection + int(both), self.union + int(either))

    @property
    def iou(self) -> float:
        """nan where the class is neither there nor found."""
        return self.intersection / self.union if self.union else float("nan")
