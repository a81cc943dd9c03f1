# SPDX-License-Identifier: Apache-2.0
"""From opened files, PIL images and arrays to a `Picture`, in strips, so that no second copy is in memory."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ditfuse_jax.image import colour, deep, exif
from ditfuse_jax.image.faults import BadFile, damage_named
from ditfuse_jax.image.picture import Origin, Picture, bits_of

PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a TIFF tag and its value
OTHER_COLOURS = ("LAB", "HSV")  # which Pillow does not turn into RGB


class Strip(NamedTuple):
    """Rows of a stored picture, uint8 or uint16."""

    colours: np.ndarray  # [rows, W, 3], over black
    alpha: np.ndarray | None  # [rows, W]


def raw_mode(image: Image.Image) -> str:
    """Pillow's word for the stored values, such as "L;4" or "RGB;16B"; "" where it keeps none."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return arguments if isinstance(arguments, str) else arguments[0]


def white_is_zero(image: Image.Image) -> bool:
    return getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO


def from_pillow(image: Image.Image, name: str) -> Picture:
    """An opened image of 8 bits, or one of a caller's in any of Pillow's modes."""
    with damage_named(name):
        image.load()
    if image.mode in OTHER_COLOURS:
        raise BadFile(f"{name}: holds {image.mode} colours, which are not read; save it as RGB")
    profile = image.info.get("icc_profile")
    described = colour.mode_of(profile)
    of_rgb = described == "RGB" and image.mode not in ("1", "L", "LA", "CMYK")
    strips = _strips(image, profile if described == image.mode != "RGB" else None, name)
    found = _origin(image, profile if of_rgb else None)
    return assembled(strips, (image.height, image.width), exif.orientation(image), found)


def _strips(image: Image.Image, profile: bytes | None, name: str) -> Iterator[Strip]:
    for top in range(0, image.height, deep.ROWS):
        strip = image.crop((0, top, image.width, min(top + deep.ROWS, image.height)))
        if image.mode.startswith("I;16") or image.mode in ("I", "F"):
            yield _grey(np.asarray(strip)[..., None], name, inverse=white_is_zero(image))
        elif strip.has_transparency_data:
            strip = strip.convert("RGBA")
            black = Image.new("RGBA", strip.size, (0, 0, 0, 255))
            shown = np.asarray(Image.alpha_composite(black, strip).convert("RGB"))
            yield Strip(shown, np.asarray(strip.getchannel("A")))
        elif profile:
            yield Strip(np.asarray(colour.to_srgb(strip, profile)), None)
        else:
            yield Strip(np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB")), None)


def _grey(values: np.ndarray, name: str, *, inverse: bool) -> Strip:
    try:
        return _split(deep.to_levels(values, inverse=inverse))
    except deep.Outside as error:
        raise BadFile(f"{name}: {error}") from error


def from_deep(file: Path, header: Image.Image | None) -> Picture:
    """A PNG or TIFF of more than 8 bits; header: as Pillow opened it, None where it could not."""
    with damage_named(str(file)):
        head = deep.header(file)
        described = colour.mode_of(head.profile)
        inverse = header is not None and white_is_zero(header)
        levels = deep.strips(file, inverse=inverse, grey_profile=described == "L")
        strips = map(_split, levels)
        kept = head.profile if described == "RGB" and head.channels > 2 else None
        found = Origin(format="TIFF", profile=kept) if header is None else _origin(header, kept)
        turned = head.orientation if header is None else exif.orientation(header)
        try:
            return assembled(strips, head.size, turned, found)
        except deep.Outside as error:
            raise BadFile(f"{file}: {error}") from error


def _split(levels: np.ndarray) -> Strip:
    """uint16 [rows, W, 1 to 4] as colours over black and alpha."""
    channels = levels.shape[-1]
    colours = levels[..., :3] if channels > 2 else np.repeat(levels[..., :1], 3, axis=-1)
    if channels % 2:
        return Strip(colours, None)
    alpha = levels[..., -1]
    return Strip(over_black(colours, alpha), alpha)


def over_black(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint16 [..., 3] under alpha [...], rounded."""
    return ((colours.astype(np.uint32) * alpha[..., None] + deep.TOP // 2) // deep.TOP).astype(np.uint16)


def _origin(image: Image.Image, profile: bytes | None) -> Origin:
    form = "JPEG" if image.format == "MPO" else image.format or ""
    return Origin(format=form, profile=profile, exif=exif.of_image(image), xmp=exif.xmp(image))


def assembled(strips: Iterator[Strip], size: tuple[int, int], orientation: int, origin: Origin) -> Picture:
    """The upright picture of a stored one of this size (height, width)."""
    pixels, alpha, top = None, None, 0
    shape = size[::-1] if orientation > 4 else size
    for strip in strips:
        if pixels is None:
            pixels = np.empty((*shape, 3), strip.colours.dtype)
            alpha = None if strip.alpha is None else np.empty(shape, strip.alpha.dtype)
        rows = np.s_[top : top + len(strip.colours)]
        stored_view(pixels, orientation)[rows] = strip.colours
        if alpha is not None:
            stored_view(alpha, orientation)[rows] = strip.alpha
        top += len(strip.colours)
    if alpha is not None and alpha.min() == np.iinfo(alpha.dtype).max:
        alpha = None  # opaque
    return Picture(pixels, with_alpha(origin, alpha))


def with_alpha(origin: Origin, alpha: np.ndarray | None) -> Origin:
    return dataclasses.replace(origin, alpha=alpha)


def stored_view(upright: np.ndarray, orientation: int) -> np.ndarray:
    """An upright picture [H, W, ...] seen as the rows and columns of a file with this EXIF orientation."""
    if orientation > 4:
        upright = upright.swapaxes(0, 1)
    down = orientation in (3, 4, 6, 7)
    across = orientation in (2, 3, 7, 8)
    return upright[:: -1 if down else 1, :: -1 if across else 1]


def from_array(array: np.ndarray) -> Picture:
    """uint8 or uint16 [H, W], [H, W, 3] or [H, W, 4], which is not copied where it need not be."""
    fits = array.dtype in (np.uint8, np.uint16) and (
        array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))
    )
    if not fits or 0 in array.shape:
        raise ValueError(
            f"array {array.dtype}{list(array.shape)} is not an image: give uint8 or uint16 [H, W, 3], or "
            "[H, W] for grey; scale floats in [0, 1] by 255 and round first"
        )
    if array.ndim == 2:
        return Picture(np.repeat(array[..., None], 3, axis=-1))
    if array.shape[-1] == 3:
        return Picture(array)
    if bits_of(array) == 8:
        return from_pillow(Image.fromarray(np.ascontiguousarray(array)), "the array")
    return assembled(iter([_split(array)]), array.shape[:2], 1, Origin())
