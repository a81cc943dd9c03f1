# SPDX-License-Identifier: Apache-2.0
"""Frames of a camera that stands still: where nothing changes, the mean of a frame and the one before.

d = |blur(now) - blur(before)|, of the channels the largest, in levels of 255
made = now + s (before - now) / 2        s: 1 up to SAME, 0 from CHANGED on, a straight line between

Noise of two frames is independent, so what flickers in one source changes half as much from frame to frame.
Both are files, so a frame is the same whoever makes it, alone or resumed.
"""

from dataclasses import replace

import cv2
import numpy as np

from ditfuse_jax.image import Picture

BLUR = 2.0  # pixels
SAME, CHANGED = 2.0, 4.0  # levels of 255
ROWS = 256  # of a strip


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
