# SPDX-License-Identifier: Apache-2.0
"""HEIC of phones and RAW of cameras, by the plugins of the extra `raw`, which are imported on use."""

from pathlib import Path

import numpy as np
from PIL import Image

from ditfuse_jax.image import colour, decode, exif
from ditfuse_jax.image.faults import BadFile, damage_named
from ditfuse_jax.image.picture import Origin, Picture

HEIF, RAW = "HEIF", "RAW"
HEIF_SUFFIXES = (".heic", ".heif")
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef")
BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")  # after "ftyp" in a HEIF file
TURNED = (5, 6)  # LibRaw's flips that exchange height and width
LIKE_SRGB = (2.4, 12.92)  # power and slope of its curve


def kind_of(file: Path) -> str | None:
    """HEIF or RAW; None for all other files, also missing ones. RAW is known by its suffix alone."""
    if not file.is_file():
        return None
    if file.suffix.lower() in RAW_SUFFIXES:
        return RAW
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
    except OSError:
        return None
    return HEIF if head[4:8] == b"ftyp" and head[8:] in BRANDS else None


def read_size(file: Path, kind: str) -> tuple[int, int]:
    """Height, width, upright; develops nothing."""
    if kind == HEIF:
        with damage_named(str(file)):
            return _heif(file).size[::-1]
    with damage_named(str(file)), _rawpy(file).imread(str(file)) as raw:
        sizes = raw.sizes
        height, width = sizes.iheight, sizes.iwidth
        return (width, height) if sizes.flip in TURNED else (height, width)


def read_depth(file: Path, kind: str) -> int:
    """8 or 16."""
    if kind == HEIF:
        with damage_named(str(file)):
            return 16 if ";16" in _heif(file).mode else 8
    return 16


def read(file: Path, kind: str) -> Picture:
    """RAW is developed to 16-bit sRGB with the camera's white balance, each exposure as bright as it is."""
    return _read_heif(file) if kind == HEIF else _read_raw(file)


def _read_heif(file: Path) -> Picture:
    with damage_named(str(file)):
        found = _heif(file)
        pixels, known = np.asarray(found), Image.Exif()
        if found.info.get("exif"):
            known.load(found.info["exif"])
    profile = found.info.get("icc_profile")
    origin = Origin(
        format=HEIF,
        profile=profile if colour.mode_of(profile) == "RGB" else None,
        exif=exif.kept(known),
        xmp=exif.upright_xmp(found.info.get("xmp")),
    )
    picture = decode.from_array(pixels)
    return Picture(picture.pixels, decode.with_alpha(origin, picture.origin.alpha))


def _heif(file: Path):
    """Opened, not decoded; turned as the file says, 10 and 12 bits as 16."""
    try:
        import pillow_heif
    except ImportError as error:
        raise _missing("pillow_heif", file) from error
    return pillow_heif.open_heif(file, convert_hdr_to_8bit=False)


def _read_raw(file: Path) -> Picture:
    with damage_named(str(file)), _rawpy(file).imread(str(file)) as raw:
        how = {"use_camera_wb": True, "no_auto_bright": True, "gamma": LIKE_SRGB}
        return Picture(raw.postprocess(output_bps=16, **how), Origin(format=RAW))


def _rawpy(file: Path):
    try:
        import rawpy
    except ImportError as error:
        raise _missing("rawpy", file) from error
    return rawpy


def _missing(name: str, file: Path) -> BadFile:
    return BadFile(
        f"{file}: {file.suffix or 'HEIC'} files need {name}; pip install 'ditfuse-jax[raw]', or export "
        "it as TIFF or JPEG"
    )
