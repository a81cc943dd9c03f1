# SPDX-License-Identifier: Apache-2.0
"""Whether blue overlays survive original pixels: those of the training target as the model's result.

    python benchmarks/overlays.py [--checkpoint DIR] [--data DIR] [--limit 32]

Held-out labelled scenes, each class that covers 1 % of one. The overlay goes through the autoencoder (M),
then it is rebuilt from the two damaged sources; the masks decoded from both, each beside a plain
fusion made likewise, are compared by IoU, summed over all scenes.
"""

import argparse
from pathlib import Path

import demo_cases
import numpy as np
from demo_cases import Case
from demo_items import rebuilt, round_trip, table

from ditfuse_jax.data import segmentation, sources
from ditfuse_jax.evaluation.segmentation import Overlap
from ditfuse_jax.image import overlay
from ditfuse_jax.inference.fuse import DEMO, DiTFuse
from ditfuse_jax.prompt import kind_of
from ditfuse_jax.task import request


def compared(model: DiTFuse, case: Case, name: str, mask: np.ndarray) -> dict[str, Overlap]:
    """Masks against the labels as decoded, as rebuilt, and one against the other."""
    marked = segmentation.overlay(case.target, mask)
    decoded = round_trip(model, [case.target, marked, case.first, case.second])
    pair, kind = (case.first, case.second), kind_of(request(task="seg", segment=(name,)))
    native = [rebuilt(result, decoded[2:], pair, kind) for result in decoded[:2]]
    raw, made = (overlay.decode(after, before).mask for before, after in (decoded[:2], native))
    valid = case.labels != segmentation.IGNORE
    pairs = {"decoded, labels": (raw, mask), "rebuilt, labels": (made, mask), "rebuilt, decoded": (made, raw)}
    return {title: Overlap().add(*two, valid) for title, two in pairs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=32)
    args = parser.parse_args()
    model = DiTFuse.load(args.checkpoint)
    found = demo_cases.simulated(sources.data_root(args.data), "seg", limit=args.limit)
    rows: dict[str, Overlap] = {}
    count = 0
    for case in found.cases:
        for name in segmentation.present(case.labels, found.classes):
            mask = segmentation.class_mask(case.labels, found.classes, (name,))
            count += 1
            for title, one in compared(model, case, name, mask).items():
                rows[title] = Overlap(*np.add(rows.get(title, Overlap()), one).tolist())
    print(f"{model.checkpoint_id}, {count} masks of {len(found.cases)} scenes\n")
    table(["masks of, against", "IoU"], [[title, overlap.iou] for title, overlap in rows.items()])


if __name__ == "__main__":
    main()
