# SPDX-License-Identifier: Apache-2.0
"""Writes pictures: atomically, never over a file that is not ours, with what they were made with."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from ditfuse_jax.image.reader import FORMATS, MAX_PIXELS, OPENED

SAVE_OPTIONS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_lzw"},
}
DESCRIPTION = 0x010E  # EXIF tag ImageDescription: where formats without text chunks keep the metadata
MAX_SIDES = {"JPEG": 65500, "WEBP": 16383}  # pixels that libjpeg and libwebp can write
MAX_DESCRIPTION = 60_000  # bytes; all EXIF data of a JPEG must fit into 64 KB
MARK, SOFTWARE = "software", "ditfuse-jax"  # in the metadata of every picture that is written here


def check_writable(file: Path, *, overwrite: bool = False) -> str:
    """The format that a file name asks for.

    Raises ValueError for a suffix that no images are written as, a path that cannot be written, a symbolic
    link, and a file that `write` did not make. With overwrite the last one may be replaced.
    """
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"{file}: cannot write {suffix or 'a name without suffix'}; use one of {' '.join(FORMATS)}"
        )
    try:
        os.lstat(file)
    except FileNotFoundError:
        pass  # the usual case
    except OSError as error:
        raise ValueError(f"{file} cannot be written: {error.strerror}; choose another name") from error
    if file.is_symlink():
        raise ValueError(f"{file} is a symbolic link, which is not replaced; choose another name")
    if file.exists() and not file.is_file():
        raise ValueError(f"{file} is no file, so no picture can take its place; choose another name")
    if not overwrite and file.exists() and file.stat().st_size and read_metadata(file) is None:
        raise ValueError(
            f"{file} is there already and was not written by {SOFTWARE}; choose another name, or replace it "
            "with --overwrite (overwrite=True in Python)"
        )
    return FORMATS[suffix]


def check_fits(file: Path, height: int, width: int) -> None:
    """Raises ValueError for a picture that is too large for the format of its file name."""
    limit = MAX_SIDES.get(FORMATS[file.suffix.lower()], MAX_PIXELS)
    if max(height, width) > limit:
        raise ValueError(
            f"{file}: {width} x {height} pixels, a side is over {limit}, the most in this format; "
            "choose .png or .tif"
        )


def read_metadata(file: Path) -> dict[str, str] | None:
    """The metadata of a picture that `write` made; None for every other file. Decodes no pixels."""
    try:
        with Image.open(file, formats=OPENED) as image:
            png = image.format == "PNG"
            found = image.info if png else json.loads(image.getexif().get(DESCRIPTION, "null"))
    except Exception:  # Pillow's parsers raise nearly anything on damaged headers; such a file is not ours
        return None
    if not isinstance(found, dict) or found.get(MARK) != SOFTWARE:
        return None
    return {key: value for key, value in found.items() if isinstance(value, str) and key != MARK}


def write(file, image: np.ndarray, *, metadata: Mapping[str, str], overwrite: bool = False) -> None:
    """Writes uint8 [H, W, 3] under a temporary name, then renames: `file` is whole or not there.

    The format follows the suffix. metadata becomes PNG text chunks, elsewhere JSON in ImageDescription, with
    the mark by which `read_metadata` knows the picture again. Raises ValueError as `check_writable` does.
    """
    file = Path(file)
    kind = check_writable(file, overwrite=overwrite)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    options = SAVE_OPTIONS.get(kind, {}) | _metadata_option(kind, {**metadata, MARK: SOFTWARE})
    try:
        with part.open("x+b") as stream:
            Image.fromarray(image).save(stream, kind, **options)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _metadata_option(kind: str, metadata: Mapping[str, str]) -> dict:
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        for key, value in metadata.items():
            text.add_text(key, value)  # values beyond Latin-1 become UTF-8 chunks
        return {"pnginfo": text}
    if kind == "BMP":
        return {}  # the format has no place for text
    exif = Image.Exif()
    exif[DESCRIPTION] = _description(dict(metadata))
    return {"exif": exif}


def _description(metadata: dict[str, str]) -> str:
    """JSON of the metadata, escaped, since EXIF strings are ASCII; the longest text is cut until it fits."""
    while len(text := json.dumps(metadata)) > MAX_DESCRIPTION:
        key = max(metadata, key=lambda key: len(metadata[key]))
        metadata[key] = metadata[key][: len(metadata[key]) * 9 // 10 - 3] + "..."
    return text
