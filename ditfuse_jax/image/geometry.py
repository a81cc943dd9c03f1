# SPDX-License-Identifier: Apache-2.0
"""Sizes of pictures: which can be fused, and the way to a size that the model knows and back."""

from typing import NamedTuple

import numpy as np
from PIL import Image

MIN_SIDE = 16  # pixels: one patch of the released VAE
MAX_ASPECT = 8  # the longer side by the shorter


class Geometry(NamedTuple):
    """Sizes (height, width) on the way of an image through the model, all in pixels."""

    native: tuple[int, int]  # of the first input, and of the result
    fused: tuple[int, int]  # native, or scaled down
    padded: tuple[int, int]  # fused, padded at the bottom and right to a shape that the model knows


def fit(image: np.ndarray, sizes: Geometry) -> np.ndarray:
    """uint8 [H, W, 3] of the native -> of the padded size: Lanczos down if needed, then reflected borders."""
    if sizes.fused != sizes.native:
        image = np.asarray(Image.fromarray(image).resize(sizes.fused[::-1], Image.Resampling.LANCZOS))
    bottom, right = (pad - side for pad, side in zip(sizes.padded, sizes.fused, strict=True))
    return np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="reflect")


def restore(pixels: np.ndarray, sizes: Geometry) -> np.ndarray:
    """float32 [H, W, 3] in [-1, 1] of the padded size -> the native size: `fit` undone.

    Works on floats, so that rounding happens once, in `to_image`.
    """
    pixels = pixels[: sizes.fused[0], : sizes.fused[1]]
    if sizes.fused != sizes.native:
        planes = [Image.fromarray(np.ascontiguousarray(pixels[..., c])) for c in range(pixels.shape[-1])]
        planes = [np.asarray(plane.resize(sizes.native[::-1], Image.Resampling.LANCZOS)) for plane in planes]
        pixels = np.stack(planes, axis=-1)
    return np.clip(pixels, -1.0, 1.0)


def check_size(height: int, width: int, name: str) -> None:
    """Raises ValueError for sides, in pixels, that cannot be fused: too short, or too unequal."""
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"{name}: {width} x {height} pixels, a side is under {MIN_SIDE}; give a larger image"
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(
            f"{name}: {width} x {height} pixels, the longer side is over {MAX_ASPECT} times the shorter; "
            "crop it, or fuse it in parts"
        )


def check_same_size(first: np.ndarray, second: np.ndarray, names: tuple[str, str]) -> None:
    """Raises ValueError unless both images [H, W, 3] have one size: fused pixels must show the same point."""
    if first.shape != second.shape:
        sizes = " and ".join(
            f"{name} {image.shape[1]} x {image.shape[0]}"
            for name, image in zip(names, (first, second), strict=True)
        )
        raise ValueError(f"different sizes: {sizes}; crop or resize both to one size, or add --resize-second")
