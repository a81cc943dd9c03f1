# SPDX-License-Identifier: Apache-2.0
"""Sheets in the form of the paper's figures: a row a scene, a column a method or prompt, boxes enlarged.

+---------+ +---------+
| picture | | picture |     boxes are framed in each picture, in the colours of COLOURS
+---------+ +---------+
+---+ +---+ +---+ +---+
+---+ +---+ +---+ +---+     what they hold, at twice or more its size
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ditfuse_jax.evaluation.sheets import under_each_other
from ditfuse_jax.evaluation.zoom import Box

WIDTH = 240  # pixels of a column
GAP, CAPTION = 4, 14
COLOURS = ("red", "lime", "orange", "cyan")
FRAME = 2  # pixels


class PlateRow(NamedTuple):
    """One scene: uint8 [H, W, 3] by caption, all of one size."""

    name: str
    pictures: Mapping[str, np.ndarray]
    boxes: tuple[Box, ...] = ()


def draw(rows: Sequence[PlateRow]) -> Image.Image:
    """All rows under each other on white."""
    return under_each_other([_strip(row) for row in rows])


def _strip(row: PlateRow) -> Image.Image:
    columns = [_column(caption, picture, row.boxes) for caption, picture in row.pictures.items()]
    height = CAPTION + max(column.height for column in columns)
    strip = Image.new("RGB", (len(columns) * (WIDTH + GAP), height), "white")
    ImageDraw.Draw(strip).text((0, 0), row.name, fill="black")
    for number, column in enumerate(columns):
        strip.paste(column, (number * (WIDTH + GAP), CAPTION))
    return strip


def _column(caption: str, picture: np.ndarray, boxes: Sequence[Box]) -> Image.Image:
    height, width = picture.shape[:2]
    scale = WIDTH / width
    tall = round(scale * height)
    wide = (WIDTH - GAP * (len(boxes) - 1)) // len(boxes) if boxes else 0
    column = Image.new("RGB", (WIDTH, CAPTION + tall + GAP + (wide + GAP if boxes else 0)), "white")
    pen = ImageDraw.Draw(column)
    pen.text((0, 0), caption, fill="black")
    column.paste(Image.fromarray(picture).resize((WIDTH, tall), Image.Resampling.LANCZOS), (0, CAPTION))
    for number, box in enumerate(boxes):
        colour = COLOURS[number % len(COLOURS)]
        corners = [round(scale * edge) for edge in (box.left, box.top)]
        corners += [round(scale * (edge + box.side)) for edge in (box.left, box.top)]
        pen.rectangle(
            [corners[0], CAPTION + corners[1], corners[2], CAPTION + corners[3]], None, colour, FRAME
        )
        left, top = number * (wide + GAP), CAPTION + tall + GAP
        part = Image.fromarray(box.cut(picture)).resize((wide, wide), Image.Resampling.NEAREST)
        column.paste(part, (left, top))
        pen.rectangle([left, top, left + wide - 1, top + wide - 1], None, colour, FRAME)
    return column
