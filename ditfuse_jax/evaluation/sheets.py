# SPDX-License-Identifier: Apache-2.0
"""Sheets to look at: sources and results in a row, and below each result its difference from each source."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

HEIGHT = 200  # pixels of every picture; widths follow
GAP = 4
CAPTION = 16
GAIN = 1.0  # of a residual: 1 keeps its grey levels


class SheetScene(NamedTuple):
    """uint8 [H, W, 3] each, all of one size."""

    name: str
    first: np.ndarray
    second: np.ndarray
    results: Mapping[str, np.ndarray]


def residual(result: np.ndarray, source: np.ndarray) -> np.ndarray:
    """result - source as a picture, uint8 [H, W, 3]: mid-grey where they agree (paper Fig. 8)."""
    return np.rint(128 + GAIN * (result.astype(np.float32) - source)).clip(0, 255).astype(np.uint8)


def draw(scenes: Sequence[SheetScene]) -> Image.Image:
    """Per scene three rows: pictures, results minus source 1, results minus source 2."""
    return under_each_other([_block(scene) for scene in scenes])


def under_each_other(blocks: Sequence[Image.Image]) -> Image.Image:
    """On white, as wide as the widest."""
    sheet = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _block(scene: SheetScene) -> Image.Image:
    rows = [
        {f"{scene.name}: source 1": scene.first, "source 2": scene.second, **scene.results},
        {"": None, "minus source 1": None} | _residuals(scene, scene.first),
        {"": None, "minus source 2": None} | _residuals(scene, scene.second),
    ]
    width = round(HEIGHT * scene.first.shape[1] / scene.first.shape[0])
    columns = 2 + len(scene.results)
    block = Image.new("RGB", (columns * (width + GAP), len(rows) * (CAPTION + HEIGHT + GAP)), "white")
    pen = ImageDraw.Draw(block)
    for down, row in enumerate(rows):
        for across, (caption, picture) in enumerate(row.items()):
            left, top = across * (width + GAP), down * (CAPTION + HEIGHT + GAP)
            pen.text((left, top), caption, fill="black")
            if picture is not None:
                scaled = Image.fromarray(picture).resize((width, HEIGHT), Image.Resampling.LANCZOS)
                block.paste(scaled, (left, top + CAPTION))
    return block


def _residuals(scene: SheetScene, source: np.ndarray) -> dict[str, np.ndarray]:
    return {name: residual(result, source) for name, result in scene.results.items()}
