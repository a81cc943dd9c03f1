# SPDX-License-Identifier: Apache-2.0
"""uint8 <-> float32 in [-1, 1], for NumPy and JAX arrays alike, also under jit, nowhere else. BT.601 luma."""

import numpy as np

# In the reference's order of operations (ToTensor, then Normalize). XLA turns a division by a constant into a
# product, which is another number in the last bit for 205 of the 256 levels; a table is the same everywhere.
LEVELS = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


def to_pixels(image):
    """uint8 [..., 3] -> float32 in [-1, 1], bit for bit the reference's."""
    xp = image.__array_namespace__()
    return xp.take(xp.asarray(LEVELS), image)


def to_image(pixels):
    """float32 [..., 3] in [-1, 1] -> uint8, clipped and rounded (the reference truncates)."""
    return ((pixels * 0.5 + 0.5).clip(0.0, 1.0) * 255.0).round().astype(np.uint8)


def luma(image: np.ndarray) -> np.ndarray:
    """BT.601 luminance of uint8 or float [..., 3], float32 [...] in the units of the image."""
    return image.astype(np.float32) @ LUMA
