# SPDX-License-Identifier: Apache-2.0
"""PNG and TIFF of more than 8 bits, read by libvips, strip by strip; PNG written by it too."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ditfuse_jax.image import vips
from ditfuse_jax.image.colour import EMBEDDED, INTENT

ROWS = 256  # of a strip
SIGNATURES = (b"II*\0", b"MM\0*")  # of TIFF
BITS_PER_SAMPLE, SAMPLE_FORMAT, FLOATS = 258, 339, 3  # TIFF tags, and a value
TOP = 65535


class Outside(ValueError):
    """Values that are no levels of brightness."""


class Header(NamedTuple):
    size: tuple[int, int]  # height, width as stored
    channels: int  # 1, 2, 3 or 4: grey or colours, and alpha
    profile: bytes | None
    orientation: int
    pages: int


def is_deep(image: Image.Image, stored: str) -> bool:
    """Whether an image that Pillow opened from a file has more than 8 bits; stored: its raw mode."""
    if image.format == "PNG":
        return "16B" in stored
    tags = getattr(image, "tag_v2", {})
    floats = FLOATS in tags.get(SAMPLE_FORMAT, ())
    return image.format == "TIFF" and (max(tags.get(BITS_PER_SAMPLE, (1,))) > 8 or floats)


def is_tiff(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) in SIGNATURES


def header(file: Path) -> Header:
    """Of a PNG or TIFF; decodes nothing. Raises an error of libvips for what it cannot read."""
    image = _open(file)
    fields = set(image.get_fields())
    return Header(
        (image.height, image.width),
        image.bands,
        bytes(image.get(EMBEDDED)) if EMBEDDED in fields else None,
        image.get("orientation") if "orientation" in fields else 1,
        image.get("n-pages") if "n-pages" in fields else 1,
    )


def header_or_none(file: Path) -> Header | None:
    """None for what libvips cannot read."""
    try:
        return header(file)
    except vips.loaded().Error:
        return None


def strips(file: Path, *, inverse: bool, grey_profile: bool) -> Iterator[np.ndarray]:
    """uint16 [ROWS or fewer, W, 1 to 4] from the top of the stored picture.

    Other colours than grey and RGB become sRGB, and grey where it has a profile. Floats in [0, 1] are scaled;
    inverse: 0 of theirs is white. Raises Outside for other values, and an error of libvips for damage.
    """
    image = _open(file)
    if image.interpretation in ("cmyk", "lab", "labs", "xyz"):
        image = image.colourspace("rgb16")
    elif grey_profile and image.bands == 1 and image.format == "ushort":
        image = image.icc_transform("srgb", embedded=True, depth=16, **INTENT)
    if image.bands > 4:
        raise ValueError(f"{image.bands} channels, more than colours and alpha")
    region = vips.loaded().Region.new(image)
    for top in range(0, image.height, ROWS):
        rows = min(ROWS, image.height - top)
        values = np.frombuffer(region.fetch(0, top, image.width, rows), NUMBERS[image.format])
        yield to_levels(values.reshape(rows, image.width, image.bands), inverse=inverse)


def values(file: Path) -> np.ndarray:
    """What a PNG or TIFF stores, [H, W, channels], unchanged. Raises an error of libvips for damage."""
    image = _open(file)
    return np.frombuffer(image.write_to_memory(), NUMBERS[image.format]).reshape(
        image.height, image.width, image.bands
    )


NUMBERS = {
    **{"uchar": np.uint8, "char": np.int8, "ushort": np.uint16, "short": np.int16},
    **{"uint": np.uint32, "int": np.int32, "float": np.float32, "double": np.float64},
}


def to_levels(values: np.ndarray, *, inverse: bool = False) -> np.ndarray:
    """Whole numbers in 0 .. 65535, or floats in [0, 1], as uint16. Raises Outside for others."""
    floats = np.issubdtype(values.dtype, np.floating)
    top = 1.0 if floats else TOP
    if not (values.min() >= 0 and values.max() <= top):  # also where it holds NaN
        raise Outside(
            f"values {values.min():g} .. {values.max():g} lie outside 0 .. {top:g}; save it as 8- or "
            "16-bit PNG or TIFF; temperatures are read only as image 2, with --task ivif"
        )
    if floats:
        values = np.rint(values.astype(np.float64) * TOP)
    levels = values.astype(np.uint16)
    return TOP - levels if inverse and floats else levels


def _open(file: Path):
    image = vips.loaded().Image
    load = image.tiffload if is_tiff(file) else image.pngload
    return load(str(file), access="sequential", fail_on="error")


def write_png(
    file: Path, pixels: np.ndarray, *, exif: bytes, profile: bytes | None, xmp: bytes | None
) -> None:
    """uint16 [H, W, 3 or 4] to a file."""
    image = vips.from_array(np.ascontiguousarray(pixels))
    for name, content in {EMBEDDED: profile, "xmp-data": xmp, "exif-data": exif}.items():
        image = vips.with_blob(image, name, content) if content else image
    image.pngsave(str(file))
