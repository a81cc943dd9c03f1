# SPDX-License-Identifier: Apache-2.0
"""A radiometric JPEG as FLIR cameras write it: an FFF with counts, constants and a photograph."""

import io
import struct

import numpy as np
from PIL import Image

CAMERA = {  # place in the record: value; those of an E-series camera, 20 degrees all around
    **{32: 0.95, 36: 2.0, 40: 293.15, 44: 293.15, 48: 293.15, 52: 1.0, 60: 0.5},
    **{88: 16556.0, 92: 1428.0, 96: 1.0, 780: 0.0468},
    **{112: 0.006569, 116: 0.01262, 120: -0.002276, 124: -0.00667, 128: 1.9},
}
OFFSET = -207  # planck O, at 776
DIRECTORY, ENTRIES = 64, 14  # cameras leave room for more records
SEGMENT = 65_000  # bytes of the FFF in one


def encoded(pixels: np.ndarray, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(
        stream, form, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {})
    )
    return stream.getvalue()


def pixels_record(width: int, height: int, payload: bytes, *, order: str = "<") -> bytes:
    return struct.pack(order + "HHH", 2, width, height).ljust(32, b"\0") + payload


def counts_record(counts: np.ndarray, form: str) -> bytes:
    """form: "raw", or "png" with its bytes in the wrong order, as cameras write it, or "right png"."""
    height, width = counts.shape
    if form == "raw":
        return pixels_record(width, height, counts.astype("<u2").tobytes())
    stored = counts.byteswap() if form == "png" else counts
    return pixels_record(width, height, encoded(stored, "PNG"))


def camera_record(**changed: float) -> bytes:
    values = CAMERA | {int(place[1:]): value for place, value in changed.items()}
    record = bytearray(1024)
    struct.pack_into("<H", record, 0, 2)
    struct.pack_into("<i", record, 776, OFFSET)
    for place, value in values.items():
        struct.pack_into("<f", record, place, value)
    return bytes(record)


def photo_record(photo: np.ndarray, form: str = "JPEG") -> bytes:
    return pixels_record(photo.shape[1], photo.shape[0], encoded(photo, form))


def inset_record(ratio: float, right: int, down: int) -> bytes:
    return struct.pack("<fhh", ratio, right, down).ljust(32, b"\0")


def fff(records: dict[int, bytes]) -> bytes:
    """records: by kind."""
    place, entries, body = DIRECTORY + 32 * ENTRIES, b"", b""
    for kind, record in records.items():
        entries += struct.pack(">HHIIII", kind, 1, 100, 1, place + len(body), len(record)).ljust(32, b"\0")
        body += record
    head = b"FFF\0".ljust(20, b"\0") + struct.pack(">III", 100, DIRECTORY, ENTRIES)
    return head.ljust(DIRECTORY, b"\0") + entries.ljust(32 * ENTRIES, b"\0") + body


def write(file, records: dict[int, bytes], *, shown: np.ndarray | None = None) -> None:
    """The JPEG; shown: the picture that other programs see in it."""
    shown = np.zeros((48, 64, 3), np.uint8) if shown is None else shown
    exif = Image.Exif()
    exif[0x010F] = "FLIR Systems AB"
    stream = io.BytesIO()
    Image.fromarray(shown).save(stream, "JPEG", exif=exif)
    plain, content = stream.getvalue(), fff(records)
    parts = [content[i : i + SEGMENT] for i in range(0, len(content), SEGMENT)]
    segments = b""
    for number, part in enumerate(parts):
        inner = b"FLIR\0\1" + bytes((number, len(parts) - 1)) + part
        segments += b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(plain[:2] + segments + plain[2:])
