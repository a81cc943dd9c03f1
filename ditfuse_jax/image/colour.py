# SPDX-License-Identifier: Apache-2.0
"""Colour profiles: the model sees sRGB, a result has the colours of image 1.

    sources --> sRGB --> model --> result, round trips --> colours of image 1: there the fit is made

Relative colorimetric with black point compensation, as photo editors have it.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

from ditfuse_jax.image import vips

SAME = 1  # 8-bit levels: a profile that moves no colour further is sRGB
INTENT = {"intent": "relative", "black_point_compensation": True}
EMBEDDED = "icc-profile-data"


@functools.lru_cache(maxsize=64)
def is_srgb(profile: bytes) -> bool:
    """Whether a usable profile moves no colour."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    moved = _transform(profile, "RGB")(Image.fromarray(cube))
    return int(np.abs(np.asarray(moved).astype(int) - cube).max()) <= SAME


@functools.lru_cache(maxsize=64)
def mode_of(profile: bytes | None) -> str | None:
    """Pillow's mode of the pixels that a profile describes; None where it is damaged or of no use here.

    RGB only where colours also go back into it.
    """
    if not profile:
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[opened.profile.xcolor_space.strip()]
        _transform(profile, mode)
        if mode == "RGB":
            ImageCms.buildTransform(ImageCms.createProfile("sRGB"), opened, "RGB", "RGB")
    except (ImageCms.PyCMSError, OSError, KeyError):
        return None
    return mode


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An 8-bit image of mode L or CMYK by its profile, which is of that mode, as sRGB."""
    return _transform(profile, image.mode)(image)


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str):
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    made = ImageCms.buildTransform(
        opened,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return lambda image: ImageCms.applyTransform(image, made)


def convert(pixels: np.ndarray, source: bytes | None, target: bytes | None) -> np.ndarray:
    """uint8 or uint16 [..., H, W, 3] from one RGB profile to another at the same depth; None is sRGB.

    Where both are the same, the pixels themselves.
    """
    source, target = (None if each is None or is_srgb(each) else each for each in (source, target))
    if source == target:
        return pixels
    flat = np.ascontiguousarray(pixels).reshape(-1, *pixels.shape[-2:])  # [rows, W, 3]
    image = vips.from_array(flat)
    known = {"input_profile": "srgb"} if source is None else {"embedded": True}
    image = image if source is None else vips.with_blob(image, EMBEDDED, source)
    between = image.icc_import(**known, **INTENT)
    between = between if target is None else vips.with_blob(between, EMBEDDED, target)
    depth = 8 * pixels.dtype.itemsize
    wanted = {"output_profile": "srgb"} if target is None else {}
    return between.icc_export(depth=depth, **wanted, **INTENT).numpy().reshape(pixels.shape)


def convert_floats(pixels: np.ndarray, target: bytes | None) -> np.ndarray:
    """sRGB float32 [H, W, 3 n] in [-1, 1] to another profile, rounded to 16 bits on the way.

    Where that is sRGB too, the pixels themselves.
    """
    if target is None or is_srgb(target):
        return pixels
    parts = []
    for part in np.split(pixels, pixels.shape[-1] // 3, axis=-1):
        deep = np.rint((part * 0.5 + 0.5).clip(0, 1) * 65535).astype(np.uint16)
        parts.append(convert(deep, None, target).astype(np.float32) / 65535 * 2 - 1)
    return np.concatenate(parts, axis=-1)
