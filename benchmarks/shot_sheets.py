# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of docs/photographs.md: `python benchmarks/shot_sheets.py [FOLDER]`.

Runs the commands of the page in a folder of its own and puts sources and result side by side.
"""

import argparse
from pathlib import Path

import numpy as np
import readme
from PIL import Image

PAGE = "docs/photographs.md"
WIDTH, QUALITY = 240, 80  # pixels of one picture, of the JPEG
SHEETS = {
    "focus": [*[f"shots/focus/{n}.jpg" for n in (1, 2, 3)], "sharp.jpg"],
    "brackets": [*[f"shots/brackets/{n}.jpg" for n in (1, 2, 3)], "light.jpg"],
    "thermal": ["shots/thermal/visible.png", "shots/thermal/thermal.png", "night.png", "warm.png"],
    "frames": [f"frames/{n}.png" for n in (1, 2, 3, 4)],
}


def shown(file: Path) -> Image.Image:
    """A picture as a page shows it; counts from their lowest to their highest."""
    with Image.open(file) as image:
        if image.mode.startswith("I"):
            counts = np.asarray(image, np.float32)
            return Image.fromarray(np.uint8(255 * (counts - counts.min()) / np.ptp(counts))).convert("RGB")
        return image.convert("RGB")


def sheet(files: list[Path]) -> Image.Image:
    pictures = [shown(file) for file in files]
    height = max(round(picture.height * WIDTH / picture.width) for picture in pictures)
    whole = Image.new("RGB", (WIDTH * len(pictures), height))
    for index, picture in enumerate(pictures):
        whole.paste(picture.resize((WIDTH, height), Image.Resampling.LANCZOS), (WIDTH * index, 0))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    default = readme.PROJECT / "docs" / "photographs"
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    target, work = parser.parse_args().folder, readme.workplace()
    for one in readme.shown():
        if one.page == PAGE and one.command in readme.RUN:
            readme.run(one.command, work)
    target.mkdir(parents=True, exist_ok=True)
    for name, files in SHEETS.items():
        sheet([work / file for file in files]).save(target / f"{name}.jpg", quality=QUALITY)


if __name__ == "__main__":
    main()
