# SPDX-License-Identifier: Apache-2.0
"""Stacks of more than two pictures, beside two pictures of the same scenes, Mertens and enfuse.

    python benchmarks/stacks.py [--checkpoint DIR] [--data DIR] [--limit 12]

Held-out photographs, the middle 256 x 256 pixels. Five focus shots: each is sharp at a fifth of the depth,
blur grows with the distance from it. Three brackets: the photograph itself, two stops over and two under,
gamma 2.2, clipped, noise in the dark one. PSNR in dB to the photograph. Where the photograph itself is in a
bracket, taking it alone would be perfect; no method is told so.
"""

import argparse
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import demo_cases
import numpy as np
from demo_items import mean_psnr, table
from PIL import Image

from ditfuse_jax.data import pairs, sources
from ditfuse_jax.evaluation.baselines import laplacian, mertens
from ditfuse_jax.inference.fuse import DEMO, DiTFuse

SHOTS, STOPS, GAMMA, NOISE = 5, (-2, 0, 2), 2.2, 0.002
FOCUS_ONLY = ("--exposure-weight=0", "--saturation-weight=0", "--contrast-weight=1", "--hard-mask")  # enfuse


def focus_shots(rng: np.random.Generator, photo: np.ndarray) -> list[np.ndarray]:
    """uint8 [H, W, 3] each; every pixel is sharp in one of them."""
    near, half = pairs.depth(rng, photo), 0.5 / SHOTS
    radius = rng.uniform(*pairs.BLUR_RADIUS) * min(photo.shape[:2])
    away = [np.abs(near - (2 * number + 1) * half) for number in range(SHOTS)]
    return [pairs.blur_by(photo, ((each - half) / (1 - 2 * half)).clip(0, 1), radius) for each in away]


def brackets(rng: np.random.Generator, photo: np.ndarray) -> list[np.ndarray]:
    """uint8 [H, W, 3] each, of STOPS; the darkest is noisy."""
    light = (photo / 255.0) ** GAMMA
    shots = [light * 2.0**stop for stop in STOPS]
    shots[0] += NOISE * rng.standard_normal(photo.shape)
    return [np.rint(255 * np.clip(shot, 0, 1) ** (1 / GAMMA)).astype(np.uint8) for shot in shots]


def enfuse(shots: list[np.ndarray], *options: str) -> np.ndarray:
    """The program of that name."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.png" for number in range(len(shots))]
        for file, shot in zip(files, shots, strict=True):
            Image.fromarray(shot).save(file)
        out = Path(folder) / "out.png"
        subprocess.run(["enfuse", *options, "-o", out, *files], check=True, capture_output=True)
        return np.asarray(Image.open(out).convert("RGB"))


def focus_row(model: DiTFuse, rng: np.random.Generator, photo: np.ndarray) -> dict[str, float]:
    shots, two = focus_shots(rng, photo), pairs.defocus(rng, photo)
    made = {
        "a pair": model.fuse((two.first, two.second), task="mff").image,
        "the stack": model.fuse(shots, task="mff").image,
        "mean": np.rint(np.mean(shots, axis=0)).astype(np.uint8),
        "Laplacian pyramid, one after the other": functools.reduce(laplacian, shots),
    }
    if shutil.which("enfuse"):
        made["enfuse"] = enfuse(shots, *FOCUS_ONLY)
    return {name: mean_psnr([image], [photo]) for name, image in made.items()}


def exposure_row(model: DiTFuse, rng: np.random.Generator, photo: np.ndarray) -> dict[str, float]:
    shots = brackets(rng, photo)
    made = {
        "a pair": model.fuse((shots[-1], shots[0]), task="mef").image,
        "the stack": model.fuse(shots, task="mef").image,
        "mean": np.rint(np.mean(shots, axis=0)).astype(np.uint8),
        "Mertens": mertens(*shots),
    }
    if shutil.which("enfuse"):
        made["enfuse"] = enfuse(shots)
    return {name: mean_psnr([image], [photo]) for name, image in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=12)
    args = parser.parse_args()
    photos, _ = demo_cases.photo_crops(sources.data_root(args.data), args.limit)
    model = DiTFuse.load(args.checkpoint)
    print(f"{model.checkpoint_id}, {len(photos)} photographs, default settings")
    for title, row in (("Five focus shots", focus_row), ("Brackets of -2, 0, +2 stops", exposure_row)):
        found = [row(model, np.random.default_rng(number), photo) for number, photo in enumerate(photos)]
        print(f"\n## {title}\n")
        table(["", "PSNR, dB"], [[name, float(np.mean([f[name] for f in found]))] for name in found[0]])


if __name__ == "__main__":
    main()
