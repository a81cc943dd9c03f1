# SPDX-License-Identifier: Apache-2.0
"""uint8 and uint16 <-> float32 in [-1, 1], nowhere else; for NumPy and JAX arrays, also under jit. Luma."""

import numpy as np

# In the reference's order of operations (ToTensor, then Normalize). XLA turns a division by a constant into a
# product, which is another number in the last bit for 205 of the 256 levels; a table is the same everywhere.
LEVELS = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
TOP = 65535.0  # of 16 bits
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


def to_pixels(image):
    """uint8 [..., 3] -> float32 in [-1, 1], bit for bit the reference's; or uint16."""
    xp = image.__array_namespace__()
    if image.dtype == np.uint16:
        return image.astype(np.float32) * np.float32(2 / TOP) - np.float32(1)
    return xp.take(xp.asarray(LEVELS), image)


def to_image(pixels):
    """float32 [..., 3] in [-1, 1] -> uint8, clipped and rounded (the reference truncates)."""
    return ((pixels * 0.5 + 0.5).clip(0.0, 1.0) * 255.0).round().astype(np.uint8)


def to_levels(pixels, bits: int):
    """As `to_image`, of 8 bits or of 16."""
    if bits == 8:
        return to_image(pixels)
    return ((pixels * 0.5 + 0.5).clip(0.0, 1.0) * TOP).round().astype(np.uint16)


def luma(image: np.ndarray) -> np.ndarray:
    """BT.601 luminance of uint8 or float [..., 3], float32 [...] in the units of the image."""
    return image.astype(np.float32) @ LUMA
