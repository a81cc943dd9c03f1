# SPDX-License-Identifier: Apache-2.0
"""TIFF is written by tifffile: Pillow has no 16-bit colours there, libvips no EXIF."""

import os
import struct
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ditfuse_jax.image import exif as tables

ROWS = 64  # of a compressed strip
DESCRIPTION, XMP = 0x010E, 700  # tags
HEAD = {"<": b"II*\0\0\0\0\0", ">": b"MM\0*\0\0\0\0"}  # of a TIFF in each byte order


def write(file: Path, pixels: np.ndarray, *, exif: bytes, profile: bytes | None, xmp: bytes | None) -> None:
    """uint8 or uint16 [H, W], [H, W, 3], [H, W, 4], float32 [H, W] to a file; exif holds the description."""
    found = Image.Exif()
    found.load(exif)
    inner = {tag: found.get_ifd(tag) for tag in (tables.DETAILS, tables.PLACE)}
    inner = {tag: values for tag, values in inner.items() if values}
    texts = {tag: value for tag, value in found.items() if isinstance(value, str)}
    description = texts.pop(DESCRIPTION)
    tags = [(tag, "s", 0, value) for tag, value in texts.items()]
    tags += [(XMP, "B", len(xmp), xmp)] if xmp else []
    tags += [(tag + 1, "I", 1, 0) for tag in inner]  # stands in for `tag`, which tifffile does not write
    tifffile.imwrite(
        file,
        pixels,
        photometric="minisblack" if pixels.ndim == 2 else "rgb",
        extrasamples=["unassalpha"] * (pixels.shape[2:] == (4,)),
        compression="zlib",
        predictor=pixels.dtype != np.float32,  # of floats tifffile needs another library
        rowsperstrip=ROWS,
        description=description,
        metadata=None,
        software=False,
        iccprofile=profile,
        extratags=tags,
    )
    _append(file, inner)


def _append(file: Path, inner: dict[int, dict]) -> None:
    """Tables of EXIF to the end of a TIFF, and their places into the tags that stand in for theirs."""
    with tifffile.TiffFile(file, mode="r+b") as tiff:
        stream = tiff.filehandle
        for code, values in inner.items():
            table = ImageFileDirectory_v2(HEAD[tiff.byteorder], group=code)
            for tag, value in values.items():
                table[tag] = value
            stream.seek(0, os.SEEK_END)
            stream.write(b"\0" * (stream.tell() % 2))  # tables begin at even places
            place = stream.tell()
            stream.write(table.tobytes(place))
            tag = tiff.pages.first.tags[code + 1]
            tag.overwrite(place)
            stream.seek(tag.offset)
            stream.write(struct.pack(f"{tiff.byteorder}H", code))
