# SPDX-License-Identifier: Apache-2.0
"""A contact sheet of scenes, each a row of pictures under its name."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

HEIGHT = 192  # pixels of every picture; widths follow
GAP = 4
CAPTION = 16


class Cell(NamedTuple):
    """One scene."""

    caption: str
    pictures: tuple[np.ndarray, ...]  # uint8 [H, W, 3], all of one size


def draw(cells: Sequence[Cell], *, across: int) -> Image.Image:
    """`across` scenes beside each other, in rows."""
    strips = [_strip(cell) for cell in cells]
    width = max(strip.width for strip in strips) + 2 * GAP
    rows = -(-len(strips) // across)
    sheet = Image.new("RGB", (across * width, rows * strips[0].height), "white")
    for number, strip in enumerate(strips):
        row, column = divmod(number, across)
        sheet.paste(strip, (column * width, row * strip.height))
    return sheet


def _strip(cell: Cell) -> Image.Image:
    pictures = [_scaled(picture) for picture in cell.pictures]
    strip = Image.new("RGB", (sum(p.width + GAP for p in pictures), CAPTION + HEIGHT + GAP), "white")
    ImageDraw.Draw(strip).text((0, 0), cell.caption, fill="black")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, CAPTION))
        left += picture.width + GAP
    return strip


def _scaled(picture: np.ndarray) -> Image.Image:
    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    return image.resize((round(HEIGHT * width / height), HEIGHT), Image.Resampling.LANCZOS)
