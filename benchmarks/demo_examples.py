# SPDX-License-Identifier: Apache-2.0
"""The pairs of examples/ and what `python infer.py --task TASK` makes of them, on one picture; needs no data.

python benchmarks/demo_examples.py FILE [--checkpoint DIR]
"""

import argparse
from pathlib import Path

import demo_sheet

from ditfuse_jax import image as images
from ditfuse_jax.evaluation.baselines import mean
from ditfuse_jax.inference.fuse import DEMO, DiTFuse

FOLDER = Path(__file__).resolve().parents[1] / "examples"
TASKS = {
    "ivif": "infrared-visible: visible, infrared, their mean, fused",
    "mff": "multi-focus: far, near, their mean, fused",
    "mef": "multi-exposure: over, under, their mean, fused",
}


def fuse(model: DiTFuse, task: str) -> demo_sheet.Cell:
    first, second = (images.read(file) for file in sorted((FOLDER / task).glob("image[12].*")))
    fused = model.fuse((first, second), task=task).image
    return demo_sheet.Cell(TASKS[task], (first, second, mean(first, second), fused))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", type=Path, help="picture to write")
    parser.add_argument("--checkpoint", type=Path, default=DEMO, help="default: the one that ships")
    args = parser.parse_args()
    model = DiTFuse.load(args.checkpoint)
    demo_sheet.draw([fuse(model, task) for task in TASKS], across=1).save(args.file)
    print(f"{args.file}, by checkpoint {model.checkpoint_id}")


if __name__ == "__main__":
    main()
