# SPDX-License-Identifier: Apache-2.0
"""The translucent blue overlay with which the model answers a segmentation prompt, and masks out of it.

An overlay of opacity p over a picture is marked = plain + p (colour - plain). Colour and opacity differ
between checkpoints, so they are estimated from the picture itself.
"""

from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax.image.geometry import check_same_size

COLOUR = (0, 0, 255)  # RGB; the paper says blue
OPACITY = 0.5  # inside; 0.25 on the edge of the mask
LEAST_CHANGE = 20.0  # grey levels of blueness: less is noise of the model, not an overlay
SMOOTH = 1.5  # pixels: sigma of the Gaussian that keeps such noise from starting a mask
LEAST_SHARE = 1e-3  # of the pixels: fewer are no thing
ROUNDS = 4  # of fitting colour and opacity to the marked pixels, and marking again
FLATTEST = 8.0  # standard deviation in grey levels under which a region does not tell colour from opacity
TOLERANCE = 10.0  # grey levels by which an unmarked picture, computed from the marked one, may leave 0 to 255


class Overlay(NamedTuple):
    """A decoded answer."""

    mask: np.ndarray  # bool [H, W]
    colour: tuple[float, float, float]  # RGB, 0 to 255
    opacity: float  # inside; 0 where nothing is marked


def decode(marked: np.ndarray, plain: np.ndarray) -> Overlay:
    """The mask of an answer, given the plain fusion of the same pair; uint8 [H, W, 3] each, one size.

    Where the blueness rises at least half as much as anywhere is a start; then colour and opacity are fitted
    there, and the pixels at least half as opaque are taken, a few times.
    """
    check_same_size(marked, plain, ("the marked picture", "the plain one"))
    marked, plain = marked.astype(np.float32), plain.astype(np.float32)
    rise = cv2.GaussianBlur(blueness(marked) - blueness(plain), (0, 0), SMOOTH)
    highest = np.quantile(rise, 1 - LEAST_SHARE)
    if highest < LEAST_CHANGE:
        return Overlay(np.zeros(rise.shape, bool), COLOUR, 0.0)
    mask = rise >= highest / 2
    colour, strength = COLOUR, OPACITY
    for _ in range(ROUNDS):
        colour, strength = _fit(marked[mask], plain[mask])
        found = opacity(marked, plain, colour) >= strength / 2
        if found.mean() < LEAST_SHARE:
            break
        mask = found
    return Overlay(mask, colour, strength)


def decode_alone(marked: np.ndarray) -> Overlay:
    """Without the plain fusion: pixels that the usual overlay explains and few pictures hold.

    Weaker than `decode`: what is deep blue by nature is taken for marked.
    """
    share = OPACITY
    below = (marked.astype(np.float32) - share * np.array(COLOUR, np.float32)) / (1 - share)
    possible = ((below >= -TOLERANCE) & (below <= 255 + TOLERANCE)).all(-1)
    mask = possible & (blueness(marked.astype(np.float32)) >= share * 255 / 2)
    return Overlay(mask, COLOUR, share if mask.any() else 0.0)


def opacity(marked: np.ndarray, plain: np.ndarray, colour=COLOUR) -> np.ndarray:
    """How opaque an overlay of `colour` is, [H, W, 3] each; float32 [H, W].

    The least-squares p of marked = plain + p (colour - plain), per pixel.
    """
    plain = plain.astype(np.float32)
    away = np.array(colour, np.float32) - plain
    along = ((marked - plain) * away).sum(-1)
    return along / np.maximum(np.square(away).sum(-1), 1.0)


def marked_pixels(marked: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Bool [H, W]: at least as opaque as this project's own overlay is on the edge of its mask."""
    return opacity(marked, plain) >= OPACITY / 2


def blueness(image: np.ndarray) -> np.ndarray:
    """Blue less the mean of red and green, float32 [H, W] of float32 [H, W, 3]."""
    return image[..., 2] - (image[..., 0] + image[..., 1]) / 2


def _fit(marked: np.ndarray, plain: np.ndarray) -> tuple[tuple[float, float, float], float]:
    """Colour and opacity of the least-squares marked = (1 - p) plain + p colour; float32 [n, 3] each."""
    centre_m, centre_p = marked.mean(0), plain.mean(0)
    spread = np.square(plain - centre_p).mean()
    if np.sqrt(spread) < FLATTEST:
        strength = OPACITY
    else:
        kept = ((marked - centre_m) * (plain - centre_p)).mean() / spread
        strength = float(np.clip(1 - kept, 0.05, 1.0))
    colour = (centre_m - (1 - strength) * centre_p) / strength
    return tuple(float(level) for level in colour.clip(0, 255)), strength
