# SPDX-License-Identifier: Apache-2.0
"""In which shape a size is best fused, and whether the network knows every shape (needs data, docs/data.md).

    python benchmarks/demo_shapes.py
    python benchmarks/demo_shapes.py --grid 16 --limit 3     # sides of 96 to 384 px, aspect up to 1:3

M3 without joint damage on the middle of held-out photographs: PSNR to the truth in dB, on the picture's own
area, when it is fused as it is or padded by reflection to a shape that the checkpoint was trained at. The
grid is of sizes as they are, neither padded nor tiled, less the figure of 256 x 256.
"""

import argparse
import dataclasses
from pathlib import Path

import demo_cases
import numpy as np

from ditfuse_jax.config import DEMO, PATCH, VAE_FACTOR, ShapesConfig
from ditfuse_jax.data import sources
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.task import request
from ditfuse_jax.training.validation import psnr

SIZES = ((64, 64), (64, 256), (128, 128), (144, 256), (176, 256), (192, 192), (192, 256), (208, 256))
SIZES += ((224, 256), (256, 144), (256, 176), (256, 192), (256, 208), (256, 256))
SHAPES = ((128, 128), (160, 256), (256, 160), (192, 192), (192, 256), (256, 192), (256, 256))
STEP = PATCH * VAE_FACTOR
LEAST, MOST, ASPECT = 96, 384, 3  # of the grid: sides in pixels, the longer by the shorter
ALLOWED = 1.5  # dB under 256 x 256


def only(model: DiTFuse, shape: tuple[int, int]) -> DiTFuse:
    """The model as if it had been trained at this shape alone."""
    shapes = ShapesConfig.only([shape], step=STEP)
    sampling = dataclasses.replace(model.config.sampling, shapes=shapes, max_side=shapes.max_side)
    return dataclasses.replace(model, config=dataclasses.replace(model.config, sampling=sampling))


def window(case: demo_cases.Case, size: tuple[int, int]) -> list[np.ndarray]:
    """Sources and target, the upper left part; M3's blocks go on as they are."""
    return [image[: size[0], : size[1]] for image in (case.first, case.second, case.target)]


def quality(model: DiTFuse, cases: list[demo_cases.Case], size: tuple[int, int]) -> float:
    first, second, target = zip(*(window(case, size) for case in cases), strict=True)
    pairs = list(zip(first, second, strict=True))
    fused = model.fuse_batch(pairs, [request(task="fuse")] * len(cases), fidelity=0.0)
    return psnr(np.stack([each.image for each in fused]), np.stack(target))


def grid(model: DiTFuse, root: Path, *, step: int, limit: int) -> None:
    cases = demo_cases.simulated(root, "m3", joint_share=0.0, limit=limit, side=MOST).cases
    sides = range(LEAST, MOST + 1, step)
    plain = quality(only(model, (256, 256)), cases, (256, 256))
    print(f"256 x 256: {plain:.1f} dB; rows: height, columns: width {' '.join(map(str, sides))}")
    found = {}
    for height in sides:
        row = [size for width in sides if ratio(size := (height, width)) <= ASPECT]
        found |= {size: quality(only(model, size), cases, size) - plain for size in row}
        told = (f"{found[height, w]:+5.1f}" if (height, w) in found else "    -" for w in sides)
        print(f"{height:4} {' '.join(told)}", flush=True)
    worst = min(found, key=found.get)
    short = sum(value < -ALLOWED for value in found.values())
    (height, width), least = worst, found[worst]
    print(f"{short} of {len(found)} more than {ALLOWED} dB under; worst {height} x {width}: {least:+.1f}")


def ratio(size: tuple[int, int]) -> float:
    return max(size) / min(size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO, help="default: the one that ships")
    parser.add_argument("--data", help="data root (default: $DITFUSE_DATA, else ../shared/data)")
    parser.add_argument("--limit", type=int, default=5, help="photographs, evenly over the list")
    parser.add_argument("--grid", type=int, metavar="PIXELS", help="step of the grid, a multiple of 16")
    args = parser.parse_args()
    model = DiTFuse.load(args.checkpoint)
    root = sources.data_root(args.data)
    if args.grid:
        print(f"checkpoint {model.checkpoint_id}, {args.limit} photographs")
        grid(model, root, step=args.grid, limit=args.limit)
        return
    cases = demo_cases.simulated(root, "m3", joint_share=0.0, limit=args.limit).cases
    print(f"checkpoint {model.checkpoint_id}, {len(cases)} photographs, height x width")
    for size in SIZES:
        room = [shape for shape in SHAPES if shape[0] >= size[0] and shape[1] >= size[1] and shape != size]
        told = [f"as it is {quality(only(model, size), cases, size):.1f}"]
        told += [f"in {h} x {w} {quality(only(model, (h, w)), cases, size):.1f}" for h, w in room]
        print(f"{size[0]} x {size[1]}: " + ", ".join(told), flush=True)


if __name__ == "__main__":
    main()
