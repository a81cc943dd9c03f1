# SPDX-License-Identifier: Apache-2.0
"""What a camera wrote beside the pixels, as far as a result may keep it: EXIF and XMP, turned upright."""

import re

from PIL import Image

ORIENTATION = 0x0112
DETAILS, PLACE = 0x8769, 0x8825  # the tables of exposure and date, and of GPS
KEPT = (  # make, model, resolution (3), date, artist, copyright
    *(0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0132, 0x013B, 0x8298),
)
DROPPED = (0x927C, 0xA002, 0xA003, 0xA005)  # maker note, whose offsets break; sizes; a table of its own
LONGEST = 1000  # bytes of one value
MOST = 30_000  # bytes of EXIF that leave room for what a result was made with
MOST_XMP = 60_000  # bytes that a JPEG holds
TURNED = (rb'\btiff:Orientation="[2-8]"', rb"<tiff:Orientation>[2-8]</tiff:Orientation>")


def orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF numbers them: how stored rows and columns are turned."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow's parser raises nearly anything on damaged tables
        return 1
    return found if found in range(1, 9) else 1


def of_image(image: Image.Image) -> bytes | None:
    """`kept` of an opened image."""
    try:
        found = image.getexif()
    except Exception:  # as above
        return None
    return kept(found)


def kept(found: Image.Exif) -> bytes | None:
    """Camera, date, exposure, place, rights; None without or if damaged."""
    try:
        exif = Image.Exif()
        for tag in KEPT:
            if tag in found:
                exif[tag] = found[tag]
        for table in (DETAILS, PLACE):
            if values := {tag: value for tag, value in found.get_ifd(table).items() if _fits(tag, value)}:
                exif[table] = values
        if not exif:
            return None
        exif[ORIENTATION] = 1
        content = exif.tobytes()
        return content if len(content) <= MOST else None
    except Exception:  # as above
        return None


def _fits(tag: int, value) -> bool:
    return tag not in DROPPED and not (isinstance(value, bytes | str) and len(value) > LONGEST)


def xmp(image: Image.Image) -> bytes | None:
    """`upright_xmp` of an opened image."""
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return upright_xmp(found.encode() if isinstance(found, str) else found)


def upright_xmp(found: bytes | None) -> bytes | None:
    """The same without its orientation; None where a JPEG could not hold it."""
    if not isinstance(found, bytes):
        return None
    for pattern in TURNED:
        found = re.sub(pattern, lambda match: re.sub(rb"[2-8]", b"1", match[0]), found)
    return found if len(found) <= MOST_XMP else None
