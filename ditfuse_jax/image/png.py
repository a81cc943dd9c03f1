# SPDX-License-Identifier: Apache-2.0
"""Whether a PNG holds all its rows: those that are missing Pillow leaves at 0, without a word."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ditfuse_jax.image.faults import BadFile

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type of IHDR
WHOLE = ((0, 0, 1, 1),)  # first column and row, steps between columns and rows
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PIECE = 2**20  # bytes that are inflated at a time


def check_rows(image: Image.Image, file: Path) -> None:
    """Raises BadFile for a PNG without its last rows. `image` is the file, opened by Pillow and decoded.

    Rows are stored from the top, those of an interlaced file end with the last odd one. Only where one of the
    last two is all 0 are the data inflated again and counted.
    """
    if image.format != "PNG":
        return
    bottom = [image.crop((0, row, image.width, row + 1)) for row in (image.height - 2, image.height - 1)]
    if all(row.getbbox(alpha_only=False) for row in bottom):
        return
    found, wanted = sum(map(len, _inflated(file))), _bytes_of(file)
    if found < wanted:
        raise BadFile(
            f"{file}: truncated or damaged (it holds {found / wanted:.0%} of its rows); copy or export the "
            "file again"
        )


def _bytes_of(file: Path) -> int:
    """All rows with their filter bytes, inflated."""
    with file.open("rb") as stream:
        head = stream.read(29)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head[16:])
    total = 0
    for left, top, right, down in ADAM7 if interlaced else WHOLE:
        columns, rows = -((left - width) // right), -((top - height) // down)
        total += rows * (1 + -(-columns * depth * CHANNELS[colour] // 8)) if columns > 0 else 0
    return total


def _inflated(file: Path) -> Iterator[bytes]:
    inflater = zlib.decompressobj()
    for packed in _packed(file):
        while packed and not inflater.eof:
            yield inflater.decompress(packed, PIECE)
            packed = inflater.unconsumed_tail


def _packed(file: Path) -> Iterator[bytes]:
    """The content of the IDAT chunks, in pieces."""
    with file.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IDAT":
                for start in range(0, length, PIECE):
                    yield stream.read(min(PIECE, length - start))
            else:
                stream.seek(length, 1)
            stream.seek(4, 1)
