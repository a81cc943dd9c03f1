# SPDX-License-Identifier: Apache-2.0
"""Makes the simulated examples: `python examples/make_pairs.py FOLDER --mff PHOTO --mef PHOTO`.

FOLDER gets mff/ and mef/, each with image1.jpg, image2.jpg and truth.jpg. The degradations are those of the
training data: `pairs.defocus` (far-focused, near-focused) and `pairs.expose` (over-exposed, under-exposed).
README.md names the photographs, their authors and their licences.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ditfuse_jax.data import pairs

LONG_SIDE = 512
QUALITY = 95
SEEDS = {"mff": 3, "mef": 1}  # chosen by looking: near and far both large; highlights and shadows both lost
SIMULATIONS = {"mff": pairs.defocus, "mef": pairs.expose}


def load(photo: Path) -> np.ndarray:
    """The photograph at LONG_SIDE pixels, uint8 [H, W, 3], sides multiples of 16."""
    with Image.open(photo) as file:
        image = file.convert("RGB")
    scale = LONG_SIDE / max(image.size)
    size = tuple(max(16, round(side * scale / 16) * 16) for side in image.size)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


def make(kind: str, photo: Path, folder: Path) -> None:
    """Writes one example: two sources and the truth."""
    first, second, truth = SIMULATIONS[kind](np.random.default_rng(SEEDS[kind]), load(photo))
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in {"image1": first, "image2": second, "truth": truth}.items():
        Image.fromarray(image).save(folder / f"{name}.jpg", quality=QUALITY, subsampling=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="gets mff/ and mef/")
    parser.add_argument("--mff", type=Path, required=True, help="photograph for the multi-focus pair")
    parser.add_argument("--mef", type=Path, required=True, help="photograph for the multi-exposure pair")
    args = parser.parse_args()
    for kind in SIMULATIONS:
        make(kind, getattr(args, kind), args.folder / kind)


if __name__ == "__main__":
    main()
