# SPDX-License-Identifier: Apache-2.0
"""Frames of a camera that stands still: where nothing changes, the mean of a frame and the one before.

d = |blur(now) - blur(before)|, of the channels the largest, in levels of 255
made = now + s (before - now) / 2        s: 1 up to SAME, 0 from CHANGED on, a straight line between

Noise of two frames is independent, so what flickers in one source changes half as much from frame to frame.
Both are files, so a frame is the same whoever makes it, alone or resumed. A camera stands still where s is 1
in most of image 1 and hardly a value is equal: pictures without noise do not flicker.
"""

from dataclasses import replace

import cv2
import numpy as np

from ditfuse_jax.image import Picture

BLUR = 2.0  # pixels
SAME, CHANGED = 2.0, 4.0  # levels of 255
ROWS = 256  # of a strip
SIDE = 1024  # pixels of the middle by which a camera is known to stand still
STILL = 0.5  # of them: from here on it does
EQUAL = 0.1  # of the values of two frames differ at most where there is no noise


def alike(now: Picture, before: Picture) -> float:
    """In how much of the two they differ by noise alone, the mean of s; 0 where they are equal or cannot be
    compared.
    """
    first, second = _middle(now.pixels), _middle(before.pixels)
    like = first.shape == second.shape and first.dtype == second.dtype
    return float(still(first, second).mean()) if like and np.mean(first != second) > EQUAL else 0.0


def steadied(now: Picture, before: Picture) -> Picture:
    """`now` with less noise; as it is where the other has another size, depth or profile."""
    like = now.pixels.shape == before.pixels.shape and now.bits == before.bits
    if not like or now.origin.profile != before.origin.profile:
        return now
    pixels = np.empty_like(now.pixels)
    share = still(now.pixels, before.pixels)
    for top in range(0, len(pixels), ROWS):
        rows = np.s_[top : top + ROWS]
        new = now.pixels[rows].astype(np.float32)
        half = 0.5 * share[rows, :, None]
        pixels[rows] = np.rint(new + half * (before.pixels[rows] - new))
    return replace(now, pixels=pixels)


def still(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """s above, float32 [H, W], of two uint8 or uint16 [H, W, 3]."""
    smooth = [cv2.GaussianBlur(each, (0, 0), BLUR) for each in (now, before)]
    apart = cv2.absdiff(*smooth).max(axis=-1).astype(np.float32)
    apart *= np.float32(255 / np.iinfo(now.dtype).max)
    return np.clip((CHANGED - apart) / (CHANGED - SAME), 0, 1)


def _middle(pixels: np.ndarray) -> np.ndarray:
    """At most SIDE x SIDE of them."""
    top, left = (max(0, (side - SIDE) // 2) for side in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE]
