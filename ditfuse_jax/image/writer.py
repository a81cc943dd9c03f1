# SPDX-License-Identifier: Apache-2.0
"""Writes pictures: atomically, never over a file that is not ours, with what they were made with."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from ditfuse_jax.image import deep, tiff
from ditfuse_jax.image.picture import Origin, bits_of, deepened, shallow
from ditfuse_jax.image.reader import FORMATS, MAX_PIXELS, pillow

SAVE_OPTIONS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
DESCRIPTION = 0x010E  # EXIF tag ImageDescription: where formats without text chunks keep the metadata
MAX_SIDES = {"JPEG": 65500, "WEBP": 16383}  # pixels that libjpeg and libwebp can write
MAX_EXIF = 60_000  # bytes; all EXIF data of a JPEG must fit into 64 KB
DEEP = ("PNG", "TIFF")
WITH_ALPHA = ("PNG", "TIFF", "WEBP")
XMP_TEXT = "XML:com.adobe.xmp"  # in a PNG
NOTHING = Origin()
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


def check_depth(file: Path, bits: int) -> None:
    """Raises ValueError where the format of the file name has no such pictures."""
    if bits == 16 and FORMATS.get(file.suffix.lower()) not in DEEP:
        raise ValueError(f"{file}: this format has 8 bits; choose .png or .tif for 16, or say --bits 8")


def depth_of(file: Path, bits: str, first: int) -> int:
    """8 or 16: how a result is made for a file, from --bits and the depth of image 1."""
    holds = FORMATS.get(file.suffix.lower()) in DEEP
    return int(bits) if bits != "auto" else first if holds else 8


def read_metadata(file: Path) -> dict[str, str] | None:
    """The metadata of a picture that `write` made; None for every other file. Decodes no pixels."""
    try:
        with pillow(file) as image:
            texts = image.info if image.format == "PNG" else {}
            found = texts if MARK in texts else json.loads(image.getexif().get(DESCRIPTION, "null"))
    except Exception:  # Pillow's parsers raise nearly anything on damaged headers; such a file is not ours
        return None
    if not isinstance(found, dict) or found.get(MARK) != SOFTWARE:
        return None
    kept = {key: value for key, value in found.items() if isinstance(value, str)}
    return {key: value for key, value in kept.items() if key not in (MARK, XMP_TEXT)}


def write(
    file,
    image: np.ndarray,
    *,
    metadata: Mapping[str, str],
    overwrite: bool = False,
    origin: Origin = NOTHING,
) -> None:
    """Writes uint8 or uint16 [H, W, 3], or uint8 [H, W], under a temporary name, then renames.

    So `file` is whole or not there.

    The format follows the suffix. metadata becomes PNG text chunks, elsewhere and at 16 bits JSON in
    ImageDescription, with the mark by which `read_metadata` knows the picture again. origin: what is written
    of image 1: its profile, in whose colours the image is, EXIF, XMP, and alpha where the format has it.
    Raises ValueError as `check_writable` and `check_depth` do.
    """
    file = Path(file)
    kind = check_writable(file, overwrite=overwrite)
    check_depth(file, bits_of(image))
    if origin.alpha is not None and kind in WITH_ALPHA:
        image = with_alpha(image, origin.alpha)
    with _whole(file) as part:
        _save(part, image, kind, {**metadata, MARK: SOFTWARE}, origin)


def write_plane(file: Path, values: np.ndarray, *, metadata: Mapping[str, str], overwrite: bool) -> None:
    """uint16 or float32 [H, W], unchanged, to a TIFF, as `write` does. Raises ValueError as `check_plane`."""
    check_plane(file, overwrite=overwrite)
    exif = _exif({**metadata, MARK: SOFTWARE}, NOTHING).tobytes()
    with _whole(file) as part:
        tiff.write(part, values, exif=exif, profile=None, xmp=None)


def check_plane(file: Path, *, overwrite: bool = False) -> None:
    """Raises ValueError for a name that is no TIFF's, and as `check_writable` does."""
    if FORMATS.get(file.suffix.lower()) != "TIFF":
        raise ValueError(f"{file}: temperatures are written as .tif, at 16 bits or as floats; name it so")
    check_writable(file, overwrite=overwrite)


@contextlib.contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """A temporary name, whose file gets the name `file` when it is on the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
        with part.open("r+b") as stream:
            os.fsync(stream.fileno())
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def with_alpha(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """[H, W, 3] and alpha [H, W] as [H, W, 4] of the image's dtype: over black it looks as the image does."""
    alpha = deepened(alpha) if bits_of(image) == 16 else shallow(alpha)
    top = np.iinfo(image.dtype).max
    straight = np.minimum((image.astype(np.uint32) * top) // np.maximum(alpha, 1)[..., None], top)
    return np.dstack([np.where(alpha[..., None] > 0, straight, image).astype(image.dtype), alpha])


def _save(part: Path, image: np.ndarray, kind: str, metadata: dict[str, str], origin: Origin) -> None:
    kept = {"profile": origin.profile, "xmp": origin.xmp}
    if kind == "TIFF":
        tiff.write(part, image, exif=_exif(metadata, origin).tobytes(), **kept)
    elif bits_of(image) == 16:
        deep.write_png(part, image, exif=_exif(metadata, origin).tobytes(), **kept)
    else:
        options = SAVE_OPTIONS.get(kind, {}) | _metadata_option(kind, metadata, origin)
        with part.open("x+b") as stream:
            Image.fromarray(image).save(stream, kind, **options)


def _metadata_option(kind: str, metadata: dict[str, str], origin: Origin) -> dict:
    """Of Pillow's writers."""
    if kind == "BMP":
        return {}  # the format has no place for text
    options = {"icc_profile": origin.profile} if origin.profile else {}
    if kind != "PNG":
        return options | {"exif": _exif(metadata, origin)} | ({"xmp": origin.xmp} if origin.xmp else {})
    text = PngImagePlugin.PngInfo()
    for key, value in metadata.items():
        text.add_text(key, value)  # values beyond Latin-1 become UTF-8 chunks
    if origin.xmp:
        text.add_itxt(XMP_TEXT, origin.xmp.decode("utf-8", "replace"))
    return options | {"pnginfo": text} | ({"exif": origin.exif} if origin.exif else {})


def _exif(metadata: dict[str, str], origin: Origin) -> Image.Exif:
    exif = Image.Exif()
    if origin.exif:
        exif.load(origin.exif)
    exif[DESCRIPTION] = _description(dict(metadata), MAX_EXIF - len(origin.exif or b""))
    return exif


def _description(metadata: dict[str, str], longest: int) -> str:
    """JSON of the metadata, escaped, since EXIF strings are ASCII; the longest text is cut until it fits."""
    while len(text := json.dumps(metadata)) > longest:
        key = max(metadata, key=lambda key: len(metadata[key]))
        metadata[key] = metadata[key][: len(metadata[key]) * 9 // 10 - 3] + "..."
    return text
