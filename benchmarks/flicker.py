# SPDX-License-Identifier: Apache-2.0
"""How much a film of fused frames flickers where nothing happens, beside the mean of its sources.

    python benchmarks/flicker.py [--checkpoint DIR] [--data DIR] [--limit 4] [--frames 4]

Flicker: mean absolute change from one frame to the next, in levels of 255, over the static areas. Two kinds
of films, the middle 256 x 256 pixels, one seed: held-out infrared-visible pairs, every frame of which has
noise of its own (2 levels in each source), static everywhere; and five pictures of one standing camera of
LLVIP, seconds apart, static where neither source, blurred, changes by more than 2 levels. "ours" is what a
folder gets by default (--steady auto).
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import demo_cases
import numpy as np
from demo_items import table

from ditfuse_jax import image
from ditfuse_jax.data import sources
from ditfuse_jax.inference import prepare
from ditfuse_jax.inference.fuse import DEMO, DiTFuse
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.prompt import kind_of
from ditfuse_jax.task import request

NOISE = 2.0  # levels, standard deviation
CHANGE, BLUR = 2.0, 2.0  # levels; pixels
CAMERA = "test_2000"
TASK = request(task="ivif")

Pair = tuple[np.ndarray, np.ndarray]


def noisy(pair: Pair, frames: int, seed: int = 0) -> list[Pair]:
    """The pair again and again with other noise; the infrared one stays grey."""
    rng = np.random.default_rng(seed)
    visible, infrared = pair

    def one() -> Pair:
        shot = visible + NOISE * rng.standard_normal(visible.shape)
        warm = infrared + NOISE * rng.standard_normal((*infrared.shape[:2], 1))
        return tuple(np.rint(each).clip(0, 255).astype(np.uint8) for each in (shot, warm))

    return [one() for _ in range(frames)]


def camera(root: Path, frames: int) -> list[Pair]:
    """LLVIP's pictures of one standing camera, in order; none where they are not there."""
    files = sorted((root / "ivif/llvip/vis").glob(f"{CAMERA}*"))[:frames]
    both = [(file, root / "ivif/llvip/ir" / file.name) for file in files]
    return [tuple(demo_cases.middle(image.read_file(file)) for file in pair) for pair in both]


def still(before: Pair, after: Pair) -> np.ndarray:
    """Bool [H, W]: where neither source changes by more than noise."""
    apart = [
        np.abs(
            cv2.GaussianBlur(a.astype(np.float32), (0, 0), BLUR)
            - cv2.GaussianBlur(b.astype(np.float32), (0, 0), BLUR)
        )
        for a, b in zip(before, after, strict=True)
    ]
    return np.max(apart, axis=(0, -1)) <= CHANGE


def flicker(frames: Sequence[np.ndarray], static: Sequence[np.ndarray]) -> float:
    """Levels; frames uint8 [H, W, 3], static bool [H, W] of each frame and the next."""
    steps = itertools.pairwise(frame.astype(np.float32) for frame in frames)
    changes = [np.abs(b - a)[where] for (a, b), where in zip(steps, static, strict=True)]
    return float(np.concatenate(changes).mean())


def prepared(film: Sequence[Pair], steady: str) -> list[Pair]:
    """The pairs as the model gets them."""
    how = Preparation(steady=steady)
    found = [
        prepare.prepare(now, kind=kind_of(TASK), how=how, before=before)
        for now, before in zip(film, [None, *film], strict=False)
    ]
    return [(pair[0].pixels, pair[1].pixels) for pair in found]


def fused(model: DiTFuse, film: Sequence[Pair], **options) -> list[np.ndarray]:
    return [model.fuse(pair, TASK, maps=False, **options).image for pair in film]


def measured(model: DiTFuse, film: Sequence[Pair]) -> dict[str, float]:
    """Flicker of each source, of their mean, and of what the model makes of every frame."""
    static = [still(*two) for two in itertools.pairwise(film)]
    made = {
        "visible": [pair[0] for pair in film],
        "infrared": [pair[1] for pair in film],
        "mean": [np.rint(np.mean(pair, axis=0)).astype(np.uint8) for pair in film],
        "ours": fused(model, prepared(film, "auto")),
        "ours, --steady on": fused(model, prepared(film, "on")),
        "ours, --steady off": fused(model, film),
        "ours, --fidelity 0": fused(model, film, fidelity=0.0),
    }
    told = {name: flicker(frames, static) for name, frames in made.items()}
    return told | {"static": float(np.mean(static))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=4, help="scenes with noise; 0: all")
    parser.add_argument("--frames", type=int, default=4, help="of every film")
    args = parser.parse_args()
    root = sources.data_root(args.data)
    model = DiTFuse.load(args.checkpoint)
    pairs = demo_cases.real_pairs(root, "ivif", args.limit)
    films = {
        "noise in every frame": [noisy((p.first, p.second), args.frames, n) for n, p in enumerate(pairs)],
        "a standing camera (LLVIP)": [camera(root, args.frames)],
    }
    rows = []
    for name, many in films.items():
        found = [measured(model, film) for film in many if len(film) > 1]
        if found:
            rows.append([name, len(found), *(float(np.mean([f[key] for f in found])) for key in found[0])])
    table(["flicker, levels", "films", *found[0]], rows)


if __name__ == "__main__":
    main()
