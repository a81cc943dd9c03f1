# SPDX-License-Identifier: Apache-2.0
"""A contact sheet: one row per sample with both sources, the target, and the prompt."""

import textwrap

import numpy as np
from PIL import Image, ImageDraw

from ditfuse_jax.data.samples import Sample

PAD = 6  # pixels between images
TEXT_WIDTH = 420
FONT_SIZE = 11


def draw(rows: list[tuple[str, Sample]], side: int) -> Image.Image:
    """Rows of (caption, sample) as an RGB image; every picture is `side` pixels high."""
    strips = [_row(caption, sample, side) for caption, sample in rows]
    width = max(strip.width for strip in strips)
    sheet = Image.new("RGB", (width, sum(strip.height + PAD for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height + PAD
    return sheet


def _row(caption: str, sample: Sample, side: int) -> Image.Image:
    pictures = [_scaled(image, side) for image in (*sample.sources, sample.target)]
    strip = Image.new("RGB", (sum(p.width + PAD for p in pictures) + TEXT_WIDTH, side), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + PAD
    lines = [caption, *textwrap.wrap(sample.text, TEXT_WIDTH // (FONT_SIZE * 2 // 3 - 1))]
    ImageDraw.Draw(strip).multiline_text((left, 0), "\n".join(lines), fill="black", font_size=FONT_SIZE)
    return strip


def _scaled(image: np.ndarray, side: int) -> Image.Image:
    height, width = image.shape[:2]
    return Image.fromarray(image).resize((round(side * width / height), side), Image.Resampling.LANCZOS)
