# SPDX-License-Identifier: Apache-2.0
"""A picture as its file holds it: pixels of 8 or 16 bits in its own colours, and what goes with them."""

from dataclasses import dataclass

import numpy as np

from ditfuse_jax.image import colour

DEEPER = 257  # 16-bit levels in one of 8 bits: 255 becomes 65535
BITS = ("auto", "8", "16")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a file holds besides pixels, and a result takes over from image 1."""

    format: str = ""  # in Pillow's words, such as JPEG; "" of an array
    profile: bytes | None = None  # ICC, of RGB; None: sRGB
    exif: bytes | None = None  # camera, date, place; upright
    xmp: bytes | None = None
    alpha: np.ndarray | None = None  # [H, W], uint8 or uint16; None: opaque


@dataclass(frozen=True)
class Picture:
    pixels: np.ndarray  # uint8 or uint16 [H, W, 3], upright, laid over black, in the colours of the profile
    origin: Origin = Origin()

    @property
    def bits(self) -> int:
        return bits_of(self.pixels)


def checked_bits(bits: str | int) -> str:
    """`bits` as one of BITS; ValueError for another."""
    if str(bits) not in BITS:
        raise ValueError(f"bits {bits!r} is not one of {', '.join(BITS)}")
    return str(bits)


def bits_of(pixels: np.ndarray) -> int:
    """8 or 16, of uint8 or uint16."""
    return 8 * pixels.dtype.itemsize


def shallow(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 [...] as uint8, rounded; uint8 is not copied."""
    return pixels if bits_of(pixels) == 8 else ((pixels + np.uint32(DEEPER // 2)) // DEEPER).astype(np.uint8)


def deepened(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 [...] as uint16; uint16 is not copied."""
    return pixels if bits_of(pixels) == 16 else pixels.astype(np.uint16) * np.uint16(DEEPER)


def seen(pixels: np.ndarray, profile: bytes | None = None) -> np.ndarray:
    """What the model sees of pixels [..., H, W, 3]: uint8 in sRGB. Without need, nothing is copied."""
    return shallow(colour.convert(pixels, profile, None))
