# SPDX-License-Identifier: Apache-2.0
"""Radiometric JPEG of FLIR cameras: thermal counts, a photograph, and how one lies over the other.

    JPEG: APP1 segments "FLIR\\0", 1, number, last number, a part of the FFF
    FFF:  "FFF\\0" ... version at 0x14, place and length of the directory at 0x18; 32 bytes for each record:
          kind, ..., place at 12, length at 16
    records: 1 counts, 14 photograph, 32 constants of the camera, 42 picture in picture

Places by the table of FLIR tags of ExifTool; each record says its own order of bytes.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ditfuse_jax.image.faults import BadFile, damage_named
from ditfuse_jax.image.temperature import Constants

START, APP1, SCAN = b"\xff\xd8", 0xE1, 0xDA
MARK = b"FLIR\0"
COUNTS, PHOTO, CAMERA, INSET = 1, 14, 32, 42  # kinds of records
HEAD, ENTRY, PAYLOAD = 64, 32, 32  # bytes: of the FFF, of a directory entry, before the pixels of a record
VERSIONS = range(100, 200)
MOST_PIXELS = 10_000_000  # of a thermal plane; the largest cameras have 1.3
MOST_PHOTO = 50_000_000  # pixels
PNG, JPEG = b"\x89PNG", b"\xff\xd8\xff"


class Inset(NamedTuple):
    """How the thermal plane lies in the photograph."""

    ratio: float = 1.0  # width of the photograph's field over that of the thermal plane
    right: int = 0  # of their middles, in pixels of the photograph
    down: int = 0


class Flir(NamedTuple):
    """What a file holds."""

    counts: np.ndarray  # uint16 [h, w]
    constants: Constants
    photo: np.ndarray | None  # uint8 [H, W, 3]
    inset: Inset


def is_flir(file: Path) -> bool:
    """Whether a file is a radiometric JPEG, by its segments; False for all that cannot be read."""
    try:
        with file.open("rb") as stream:
            return next(_segments(stream), None) is not None
    except OSError:
        return False


def read(file: Path) -> Flir:
    """Raises BadFile for a file that is none, and naming what is damaged or missing."""
    with damage_named(str(file)):
        with file.open("rb") as stream:
            parts = sorted((part[6], part[8:]) for part in _segments(stream))
        if not parts:
            raise BadFile(f"{file} is no radiometric JPEG of FLIR; give one")
        records = _records(b"".join(part for _, part in parts))
        if missing := {COUNTS, CAMERA} - records.keys():
            raise ValueError(f"no record {min(missing)}")
        photo = _photo(records[PHOTO]) if PHOTO in records else None
        inset = _inset(records[INSET]) if INSET in records else Inset()
        return Flir(_counts(records[COUNTS]), _constants(records[CAMERA]), photo, inset)


def _segments(stream) -> Iterator[bytes]:
    """The FLIR segments of a JPEG, before its pixels."""
    if stream.read(2) != START:
        return
    while len(head := stream.read(4)) == 4:
        mark, kind, length = struct.unpack(">BBH", head)
        if mark != 0xFF or kind == SCAN or length < 2:
            return
        content = stream.read(length - 2)
        if kind == APP1 and content.startswith(MARK) and len(content) > 8:
            yield content


def _records(fff: bytes) -> dict[int, bytes]:
    """The last record of each kind."""
    if fff[:4] not in (b"FFF\0", b"AFF\0"):
        raise ValueError("no FFF")
    order = next((o for o in "><" if struct.unpack(o + "I", fff[20:24])[0] in VERSIONS), None)
    if order is None:
        raise ValueError("another version of FFF")
    start, count = struct.unpack(order + "II", fff[24:32])
    if start < HEAD or start + ENTRY * count > len(fff):
        raise ValueError("the directory lies outside")
    found = {}
    for entry in range(start, start + ENTRY * count, ENTRY):
        (kind,) = struct.unpack(order + "H", fff[entry : entry + 2])
        place, length = struct.unpack(order + "II", fff[entry + 12 : entry + 20])
        if kind in (COUNTS, PHOTO, CAMERA, INSET):
            if place + length > len(fff):
                raise ValueError(f"record {kind} lies outside")
            found[kind] = fff[place : place + length]
    return found


def _order(record: bytes) -> str:
    """A record begins with a small number."""
    return "<" if struct.unpack("<H", record[:2])[0] < 0x100 else ">"


def _counts(record: bytes) -> np.ndarray:
    order, payload = _order(record), record[PAYLOAD:]
    width, height = struct.unpack(order + "HH", record[2:6])
    if not 0 < width * height <= MOST_PIXELS:
        raise ValueError(f"{width} x {height} counts")
    if not payload.startswith(PNG):
        return np.frombuffer(payload, order + "u2", width * height).reshape(height, width).astype(np.uint16)
    with Image.open(io.BytesIO(payload), formats=["PNG"]) as png:
        if png.size != (width, height):
            raise ValueError(f"{width} x {height} counts in a PNG of {png.width} x {png.height}")
        counts = np.asarray(png).astype(np.uint16)
    return min(counts, counts.byteswap(), key=_roughness)  # most cameras write the wrong order


def _roughness(counts: np.ndarray) -> float:
    """Mean step between neighbours: bytes in the wrong order look like noise."""
    return float(np.abs(np.diff(counts.astype(np.int32), axis=1)).mean())


def _constants(record: bytes) -> Constants:
    order = _order(record)

    def floats(place: int, count: int) -> tuple[float, ...]:
        return struct.unpack(f"{order}{count}f", record[place : place + 4 * count])

    emissivity, distance, reflected, atmosphere, window, transmission = floats(32, 6)
    (offset,) = struct.unpack(order + "i", record[776:780])
    planck = (*floats(88, 3), float(offset), *floats(780, 1))
    surroundings = (reflected, atmosphere, window, transmission, *floats(60, 1))
    return Constants(emissivity, distance, *surroundings, *planck, *floats(112, 5))


def _photo(record: bytes) -> np.ndarray:
    payload = record[PAYLOAD:]
    if not payload.startswith((PNG, JPEG)):
        raise ValueError("a photograph that is neither JPEG nor PNG")
    with Image.open(io.BytesIO(payload), formats=["PNG", "JPEG"]) as photo:
        if photo.width * photo.height > MOST_PHOTO:
            raise ValueError(f"a photograph of {photo.width} x {photo.height} pixels")
        if photo.format == "PNG" and photo.mode == "RGB":  # which holds luma and two differences
            photo = Image.frombytes("YCbCr", photo.size, photo.tobytes())
        return np.asarray(photo.convert("RGB"))


def _inset(record: bytes) -> Inset:
    order = "<" if 0.1 < struct.unpack("<f", record[:4])[0] < 20 else ">"
    found = Inset(*struct.unpack(order + "fhh", record[:8]))
    if not 0.1 < found.ratio < 20:
        raise ValueError(f"a picture in picture of ratio {found.ratio:g}")
    return found
