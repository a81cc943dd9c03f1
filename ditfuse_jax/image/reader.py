# SPDX-License-Identifier: Apache-2.0
"""The one reader of pictures, for inference and training: upright uint8 [H, W, 3], or labels [H, W].

Grey is repeated over the channels, transparent pixels are laid over black, 16-bit integers and floats in
[0, 1] are scaled and rounded to 8 bits, never clipped or stretched.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ditfuse_jax.image.geometry import check_size

MAX_PIXELS = 100_000_000
FORMATS = {  # what is read and written; no other decoder of Pillow's is ever started
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
OPENED = tuple(sorted(set(FORMATS.values())))
UNREAD = (  # pictures all the same: a folder job names them instead of leaving them out
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".gif", ".dds", ".psd", ".exr", ".hdr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"),
)
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a TIFF tag and its value
GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads levels of 2 and 4 bits over 0 .. 255


class BadFile(ValueError):
    """A file that cannot be used as a picture. In a training run it is replaced by another draw."""


class Decoded(NamedTuple):
    image: Image.Image  # upright, in one of Pillow's modes
    stored: str  # how the file holds its values, in Pillow's words for raw modes: "L;4", "RGB;16B"
    white_is_zero: bool


def read(source) -> np.ndarray:
    """An input of the library as uint8 [H, W, 3] RGB, see above.

    Args:
      source: a path, a PIL image, or an array: uint8 or uint16 [H, W], uint8 [H, W, 3] or [H, W, 4].
    Raises ValueError that names file, rule and way out for whatever is no still image of usable size.
    """
    if isinstance(source, np.ndarray):
        return _check_side(_rgb(Decoded(_from_array(source), "", False), "the array"), "the array")
    if isinstance(source, Image.Image):
        return _check_side(_rgb(_decode(source, "the PIL image"), "the PIL image"), "the PIL image")
    return _check_side(read_file(Path(source)), str(source))


def read_file(file: Path, *, shortest: int | None = None) -> np.ndarray:
    """A file as uint8 [H, W, 3] RGB of any size up to MAX_PIXELS.

    `shortest` lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, as long as its short side keeps that
    many pixels. Raises BadFile naming the file, the reason and the way out.
    """
    return _rgb(_decode_file(file, shortest), str(file))


def is_picture(file: Path) -> bool:
    """Whether a file of this name is meant as a picture, readable or not; not those that begin with a dot."""
    return file.suffix.lower() in (*FORMATS, *UNREAD) and not file.name.startswith(".")


def reduction(side: int, shortest: int) -> int:
    """1, 2, 4 or 8: how far a JPEG of this short side can be decoded smaller and keep `shortest` pixels."""
    return next((factor for factor in (8, 4, 2) if math.ceil(side / factor) >= shortest), 1)


def read_labels(file: Path) -> np.ndarray:
    """Class indices, uint8 [H, W]: the numbers in the file, of 1, 2, 4 or 8 bits, grey or with a palette.

    Raises BadFile, also for pictures that hold no indices: colours, alpha, 16 bits.
    """
    found = _decode_file(file)
    if found.image.mode not in ("1", "L", "P"):
        raise BadFile(f"{file} has mode {found.image.mode}; labels are one 8-bit channel of class indices")
    return np.asarray(found.image).astype(np.uint8) // np.uint8(GREY_STEPS.get(found.stored, 1))


def read_size(file: Path) -> tuple[int, int]:
    """Height, width of an image file by its header alone, before its EXIF tag turns it upright.

    Raises ValueError as `read` does for a file that is no image or has no usable size.
    """
    with _open(file) as image:
        check_size(image.height, image.width, str(file))
        return image.height, image.width


def _open(file: Path) -> Image.Image:
    """The image with its header read, but no pixels decoded."""
    if not file.is_file():
        raise BadFile(f"{file}: no such file; check the path")
    try:
        return Image.open(file, formats=OPENED)
    except Image.DecompressionBombError as error:
        raise BadFile(_too_large(str(file), "far more than 100")) from error
    except PermissionError as error:
        raise BadFile(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged headers
        raise BadFile(
            f"{file}: not an image that can be read; give a PNG, JPEG, TIFF, WebP or BMP file"
        ) from error


def _decode_file(file: Path, shortest: int | None = None) -> Decoded:
    with _open(file) as image:
        if shortest is not None and image.format in ("JPEG", "MPO"):
            factor = reduction(min(image.size), shortest)
            image.draft(None, (image.width // factor, image.height // factor))
        return _decode(image, str(file))


def _decode(image: Image.Image, name: str) -> Decoded:
    if image.width * image.height > MAX_PIXELS:
        raise BadFile(_too_large(name, f"{image.width * image.height / 1e6:.0f}"))
    with _damage_named(name):
        # An MPO is a phone's JPEG with a thumbnail or second view behind it: its first picture is the photo.
        several = getattr(image, "is_animated", False) and image.format != "MPO"
        stored = _raw_mode(image)
        inverse = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
    if several:
        raise BadFile(f"{name}: holds several frames or pages; give one still image, save the wanted frame")
    with _damage_named(name):
        image.load()
        return Decoded(ImageOps.exif_transpose(image), stored, inverse)


@contextlib.contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise BadFile(f"{name}: truncated or damaged ({error}); copy or export the file again") from error


def _raw_mode(image: Image.Image) -> str:
    """Pillow's word for the stored values; "" where it keeps none."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return arguments if isinstance(arguments, str) else arguments[0]


def _too_large(name: str, megapixels: str) -> str:
    return f"{name}: {megapixels} megapixels, more than {MAX_PIXELS // 10**6}; scale the image down first"


def _from_array(array: np.ndarray) -> Image.Image:
    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    colour = array.ndim == 3 and array.shape[-1] in (3, 4) and array.dtype == np.uint8
    if not (grey or colour) or 0 in array.shape:
        raise ValueError(
            f"array {array.dtype}{list(array.shape)} is not an image: give uint8 [H, W, 3], or [H, W] for "
            "grey; scale floats in [0, 1] by 255 and round first"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _rgb(found: Decoded, name: str) -> np.ndarray:
    """uint8 [H, W, 3] of an image in any of Pillow's modes."""
    image = found.image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        grey = _scale_deep(np.asarray(image), found, name)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return np.array(image.convert("RGB"))


def _scale_deep(values: np.ndarray, found: Decoded, name: str) -> np.ndarray:
    """One-channel 16-bit integers, or floats in [0, 1], as uint8."""
    top = 1.0 if found.image.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= top):
        raise BadFile(
            f"{name}: values {values.min()} .. {values.max()} lie outside 0 .. {top:g}; "
            "save it as 8- or 16-bit PNG or TIFF"
        )
    values = values.astype(np.float64)
    return np.rint((top - values if found.white_is_zero else values) * (255.0 / top)).astype(np.uint8)


def _check_side(image: np.ndarray, name: str) -> np.ndarray:
    check_size(image.shape[0], image.shape[1], name)
    return image
