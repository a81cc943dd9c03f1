# SPDX-License-Identifier: Apache-2.0
"""The one reader of pictures, for inference and training: a `Picture`, upright uint8 [H, W, 3], or labels.

Grey is repeated over the channels, transparent pixels are laid over black, floats in [0, 1] are scaled to 16
bits, never clipped or stretched. What the model sees is sRGB, rounded to 8 bits.
"""

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ditfuse_jax.image import camera, decode, deep, exif, libtiff, png
from ditfuse_jax.image.faults import BadFile, damage_named
from ditfuse_jax.image.geometry import check_size
from ditfuse_jax.image.picture import Picture, seen

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
# Pictures all the same: a folder job names them instead of leaving them out
UNREAD = (".avif", ".jxl", ".jp2", ".gif", ".dds", ".psd", ".exr", ".hdr")
GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads levels of 2 and 4 bits over 0 .. 255


def read(source) -> np.ndarray:
    """An input of the library as the model sees it: uint8 [H, W, 3], sRGB. See `read_picture`."""
    found = read_picture(source)
    return seen(found.pixels, found.origin.profile)


def read_picture(source) -> Picture:
    """An input of the library, see above.

    Args:
      source: a path, a PIL image, an array uint8 or uint16 [H, W], [H, W, 3] or [H, W, 4], or a Picture.
    Raises ValueError that names file, rule and way out for whatever is no still image of usable size.
    """
    if isinstance(source, Picture):
        found, name = source, "the picture"
    elif isinstance(source, np.ndarray):
        found, name = decode.from_array(source), "the array"
    elif isinstance(source, Image.Image):
        found, name = decode.from_pillow(_checked(source, "the PIL image"), "the PIL image"), "the PIL image"
    else:
        found, name = _read_file(Path(source)), str(source)
    check_size(*found.pixels.shape[:2], name)
    return found


def read_file(file: Path, *, shortest: int | None = None) -> np.ndarray:
    """A file as uint8 [H, W, 3] sRGB of any size up to MAX_PIXELS.

    `shortest` lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, as long as its short side keeps that
    many pixels. Raises BadFile naming the file, the reason and the way out.
    """
    found = _read_file(file, shortest)
    return seen(found.pixels, found.origin.profile)


def _read_file(file: Path, shortest: int | None = None) -> Picture:
    if kind := camera.kind_of(file):
        _check_limits(*camera.read_size(file, kind)[::-1], False, str(file))
        return camera.read(file, kind)
    if head := _beyond_pillow(file):
        _check_limits(head.size[1], head.size[0], head.pages > 1, str(file))
        return decode.from_deep(file, None)
    with _open(file) as image:
        if shortest is not None and image.format in ("JPEG", "MPO"):
            factor = reduction(min(image.size), shortest)
            image.draft(None, (image.width // factor, image.height // factor))
        _checked(image, str(file))
        if deep.is_deep(image, decode.raw_mode(image)):
            return decode.from_deep(file, image)
        found = decode.from_pillow(image, str(file))
        with damage_named(str(file)):
            png.check_rows(image, file)
        return found


def is_picture(file: Path) -> bool:
    """Whether a file of this name is meant as a picture, readable or not; not those that begin with a dot."""
    known = (*FORMATS, *camera.HEIF_SUFFIXES, *camera.RAW_SUFFIXES, *UNREAD)
    return file.suffix.lower() in known and not file.name.startswith(".")


def reduction(side: int, shortest: int) -> int:
    """1, 2, 4 or 8: how far a JPEG of this short side can be decoded smaller and keep `shortest` pixels."""
    return next((factor for factor in (8, 4, 2) if math.ceil(side / factor) >= shortest), 1)


def read_labels(file: Path) -> np.ndarray:
    """Class indices, uint8 [H, W]: the numbers in the file, of 1, 2, 4 or 8 bits, grey or with a palette.

    Raises BadFile, also for pictures that hold no indices: colours, alpha, 16 bits.
    """
    with _open(file) as image:
        stored = decode.raw_mode(_checked(image, str(file)))
        if image.mode not in ("1", "L", "P"):
            raise BadFile(f"{file} has mode {image.mode}; labels are one 8-bit channel of class indices")
        with damage_named(str(file)):
            upright = ImageOps.exif_transpose(image)
            png.check_rows(image, file)
    return np.asarray(upright).astype(np.uint8) // np.uint8(GREY_STEPS.get(stored, 1))


def read_size(file: Path) -> tuple[int, int]:
    """Height, width of an image file by its header alone; of a PNG before its EXIF tag turns it upright.

    Raises ValueError as `read` does for a file that is no image or has no usable size.
    """
    if kind := camera.kind_of(file):
        size = camera.read_size(file, kind)
    elif head := _beyond_pillow(file):
        size = head.size
    else:
        with _open(file) as image:
            size = image.height, image.width
            if image.format != "PNG" and exif.orientation(image) > 4:  # in a PNG it may follow the pixels
                size = size[::-1]
    check_size(*size, str(file))
    return size


def read_depth(file: Path) -> int:
    """8 or 16: the bits of an image file that `read_picture` keeps, by its header. Raises as `read_size`."""
    if kind := camera.kind_of(file):
        return camera.read_depth(file, kind)
    if _beyond_pillow(file):
        return 16
    with _open(file) as image:
        return 16 if deep.is_deep(image, decode.raw_mode(image)) else 8


def _beyond_pillow(file: Path) -> deep.Header | None:
    """The header of a TIFF that Pillow does not know, such as floats in colour; None for all other files."""
    try:
        if not deep.is_tiff(file):
            return None
        with pillow(file):
            return None
    except Image.UnidentifiedImageError:
        return deep.header_or_none(file)
    except Exception:  # `_open` says what is wrong
        return None


def pillow(file: Path) -> Image.Image:
    """Opened by Pillow, without its warning of large pictures, since the limit here is MAX_PIXELS."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file, formats=OPENED)


def _open(file: Path) -> Image.Image:
    """The image with its header read, but no pixels decoded."""
    if not file.is_file():
        raise BadFile(f"{file}: no such file; check the path")
    libtiff.silence()
    try:
        return pillow(file)
    except Image.DecompressionBombError as error:
        raise BadFile(_too_large(str(file), "far more than 100")) from error
    except PermissionError as error:
        raise BadFile(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged headers
        raise BadFile(
            f"{file}: not an image that can be read; give a PNG, JPEG, TIFF, WebP or BMP file"
        ) from error


def _checked(image: Image.Image, name: str) -> Image.Image:
    """The same image; BadFile for too many pixels, and for several frames."""
    with damage_named(name):
        # An MPO is a phone's JPEG with a thumbnail or second view behind it: its first picture is the photo.
        several = getattr(image, "is_animated", False) and image.format != "MPO"
    _check_limits(image.width, image.height, several, name)
    return image


def _check_limits(width: int, height: int, several: bool, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise BadFile(_too_large(name, f"{width * height / 1e6:.0f}"))
    if several:
        raise BadFile(f"{name}: holds several frames or pages; give one still image, save the wanted frame")


def _too_large(name: str, megapixels: str) -> str:
    return f"{name}: {megapixels} megapixels, more than {MAX_PIXELS // 10**6}; scale the image down first"
