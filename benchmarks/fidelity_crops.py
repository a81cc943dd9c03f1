# SPDX-License-Identifier: Apache-2.0
"""Crops at 100 % of the pairs of examples/ before and after original pixels; needs no data.

    python benchmarks/fidelity_crops.py docs/fidelity.jpg

A row a pair: both sources, `--fidelity 0 --tiles off` (scaled down, decoded, scaled up), `--fidelity 0
--tiles on` (decoded at native size) and the default. Of each pair the part where decoding loses most.
"""

import argparse
from pathlib import Path

import demo_sheet
import numpy as np
from demo_examples import FOLDER

from ditfuse_jax import image as images
from ditfuse_jax.inference.fuse import DEMO, DiTFuse

SIZE = (demo_sheet.HEIGHT, demo_sheet.HEIGHT)  # height, width of a crop, pixels: shown as they are
STEP = 16  # pixels from one place that is looked at to the next
TASKS = ("ivif", "mff", "mef")
BEFORE = {"scaled": {"fidelity": 0.0, "tiles": "off"}, "decoded": {"fidelity": 0.0, "tiles": "on"}}
ROW = "source 1, source 2, scaled, decoded, original pixels"


def row(model: DiTFuse, task: str) -> demo_sheet.Cell:
    pair = [images.read(file) for file in sorted((FOLDER / task).glob("image[12].*"))]
    before = [model.fuse(pair, task=task, **how).image for how in BEFORE.values()]
    after = model.fuse(pair, task=task).image
    place = most_different(before[-1], after)
    return demo_sheet.Cell(f"{task}: {ROW}", tuple(each[place] for each in (*pair, *before, after)))


def most_different(first: np.ndarray, second: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the crop with the greatest mean difference of two pictures uint8 [H, W, 3]."""
    apart = np.abs(first.astype(np.int16) - second).mean(-1)
    height, width = SIZE
    places = [
        (slice(top, top + height), slice(left, left + width))
        for top in range(0, apart.shape[0] - height + 1, STEP)
        for left in range(0, apart.shape[1] - width + 1, STEP)
    ]
    return max(places, key=lambda place: apart[place].mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="picture to write")
    parser.add_argument("--checkpoint", type=Path, default=DEMO, help="default: the one that ships")
    args = parser.parse_args()
    model = DiTFuse.load(args.checkpoint)
    demo_sheet.draw([row(model, task) for task in TASKS], across=1).save(args.file)
    print(f"{args.file}, by checkpoint {model.checkpoint_id}")


if __name__ == "__main__":
    main()
