# SPDX-License-Identifier: Apache-2.0
"""What two pictures of one scene share, whatever their brightness: the direction of edges at every pixel.

Channel features of oriented gradients (CFOG: Ye, Bruzzone, Shan, Bovolo and Zhu, IEEE TGRS 57(11), 2019),
folded to half a turn, so that an edge from dark to bright is the same as one from bright to dark: infrared
pictures turn many of them around, exposures stretch them.
"""

import cv2
import numpy as np

DIRECTIONS = 6  # over half a turn
SMOOTH = 1.0  # pixels: before the gradient
SPREAD = 1.2  # pixels: of a channel, so that edges need not meet exactly
FLOOR = 4.0  # 8-bit levels a pixel: gradients of noise, which have no direction
MARGIN = 8  # pixels from the border of a picture to where its channels are those of a larger one


def channels(grey: np.ndarray) -> np.ndarray:
    """float32 [DIRECTIONS, H, W], about 1 long at edges and 0 on flat ground, of grey uint8 [H, W]."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), SMOOTH)
    right = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    angles = (np.arange(DIRECTIONS) * (np.pi / DIRECTIONS)).astype(np.float32)
    along = (np.abs(np.cos(a) * right + np.sin(a) * down) for a in angles)
    blurred = np.stack([cv2.GaussianBlur(each, (0, 0), SPREAD) for each in along])
    blurred -= blurred.min(axis=0)  # what all directions have is no edge
    return blurred / (lengths(blurred) + FLOOR)


def lengths(maps: np.ndarray) -> np.ndarray:
    """[H, W] of channels [DIRECTIONS, H, W]."""
    return np.sqrt(np.einsum("chw,chw->hw", maps, maps))
