# SPDX-License-Identifier: Apache-2.0
"""Whether blue overlays survive original pixels: those of the training target as the model's result.

    python benchmarks/overlays.py [--checkpoint DIR] [--data DIR] [--limit 32]

Held-out labelled scenes, each class that covers 1 % of one. The overlay goes through the autoencoder (M),
then it is rebuilt from the two damaged sources; the masks decoded from both, each beside a plain
fusion made likewise, are compared by IoU, summed over all scenes.
"""

import argparse
import functools
from pathlib import Path

import demo_cases
import jax
import numpy as np
from demo_cases import Case
from demo_items import round_trip, table

from ditfuse_jax import fidelity, image
from ditfuse_jax.data import segmentation, sources
from ditfuse_jax.evaluation.segmentation import Overlap
from ditfuse_jax.image import overlay
from ditfuse_jax.inference.fuse import DEMO, DiTFuse
from ditfuse_jax.prompt import kind_of
from ditfuse_jax.task import request


@functools.partial(jax.jit, static_argnums=3)
def rebuild(result: jax.Array, trips: jax.Array, originals: jax.Array, kind: str | None) -> fidelity.Rebuilt:
    return fidelity.rebuild(result, trips, originals, kind=kind)


def compared(model: DiTFuse, case: Case, name: str, mask: np.ndarray) -> dict[str, Overlap]:
    """Masks against the labels as decoded, as rebuilt, and one against the other."""
    marked = segmentation.overlay(case.target, mask)
    decoded = round_trip(model, [case.target, marked, case.first, case.second])
    pixels = image.to_pixels(np.stack([*decoded, case.first, case.second]))
    kind = kind_of(request(task="seg", segment=(name,)))
    rebuilt = [
        image.to_image(
            np.asarray(fidelity.rebuild(result[None], pixels[None, 2:4], pixels[None, 4:], kind=kind).pixels)[
                0
            ]
        )
        for result in pixels[:2]
    ]
    raw, made = (overlay.decode(after, before).mask for before, after in (decoded[:2], rebuilt))
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
