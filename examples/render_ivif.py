# SPDX-License-Identifier: Apache-2.0
"""Renders the infrared-visible example pair, a street at dusk: python examples/render_ivif.py."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 256
PEOPLE = ((92, 150, 1.0), (158, 160, 1.25))  # x, y of the head, size


def visible(rng: np.random.Generator) -> Image.Image:
    """Textured house fronts with some lit windows, a road with marks; people are dark against dark."""
    sky = np.linspace((46, 58, 92), (120, 96, 88), 120)[:, None, :]
    ground = np.linspace((52, 50, 48), (78, 76, 74), SIDE - 120)[:, None, :]
    scene = np.concatenate([sky, ground]).repeat(SIDE, axis=1) + rng.normal(0, 3, (SIDE, SIDE, 1))
    image = Image.fromarray(scene.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for left, top, colour in ((0, 40, (74, 58, 50)), (78, 62, (58, 60, 66)), (176, 30, (80, 66, 56))):
        draw.rectangle((left, top, left + 74, 142), fill=colour)
        for y in range(top + 8, 132, 18):
            for x in range(left + 8, left + 66, 16):
                lit = rng.random() < 0.3
                draw.rectangle((x, y, x + 8, y + 10), fill=(226, 190, 110) if lit else (30, 34, 42))
    for y in range(150, SIDE, 24):
        draw.line((128, y, 128, y + 12), fill=(190, 190, 180), width=1 + (y - 140) // 30)
    person(draw, (38, 36, 36), (38, 36, 36))
    return image


def infrared(rng: np.random.Generator) -> Image.Image:
    """The same place by its heat: cold sky, walls that kept the day's warmth, people bright."""
    image = Image.new("L", (SIDE, SIDE), 58)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIDE, 142), fill=22)
    for left, top, heat in ((0, 40, 84), (78, 62, 70), (176, 30, 92)):
        draw.rectangle((left, top, left + 74, 142), fill=heat)
    person(draw, 235, 205)
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(1.2)), np.float64) + rng.normal(
        0, 2.5, (SIDE, SIDE)
    )
    return Image.fromarray(soft.clip(0, 255).astype(np.uint8))


def person(draw: ImageDraw.ImageDraw, skin, clothes) -> None:
    for x, y, size in PEOPLE:
        unit = 7 * size
        draw.ellipse((x - unit, y - unit, x + unit, y + unit), fill=skin)
        draw.rounded_rectangle((x - 1.4 * unit, y + unit, x + 1.4 * unit, y + 5.5 * unit), unit, fill=clothes)
        for side in (-0.7, 0.7):
            centre = x + side * unit
            draw.rectangle(
                (centre - 0.45 * unit, y + 5 * unit, centre + 0.45 * unit, y + 9 * unit), fill=clothes
            )


if __name__ == "__main__":
    folder = Path(__file__).parent / "ivif"
    folder.mkdir(exist_ok=True)
    visible(np.random.default_rng(1)).save(folder / "image1.png", optimize=True)
    infrared(np.random.default_rng(2)).save(folder / "image2.png", optimize=True)
