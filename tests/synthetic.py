# SPDX-License-Identifier: Apache-2.0
"""A small data root of made pictures, in the layout of ../shared/data."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.data.mixture import Mixture, resolve

SMALL = (Bucket(height=32, width=32, weight=2.0), Bucket(height=32, width=48))
TEXT = 1024  # tokens; the small tokenizer of the tests cuts words to letters


def write(file, image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)


def noise(seed: int, *shape: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, *shape[2:]), np.uint8)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


@pytest.fixture(name="root")
def synthetic_root(tmp_path):
    """A data root in the layout of ../shared/data: 12 photos, 4 infrared pairs, 4 labelled images."""
    for i in range(12):
        write(tmp_path / f"photos/p{i:02}.jpg", noise(i, 60 + i, 80, 3))
    for i in range(4):
        write(tmp_path / f"ivif/set/vis/v{i}.png", noise(20 + i, 48, 64, 3))
        write(tmp_path / f"ivif/set/ir/v{i}.png", noise(30 + i, 48, 64))
        write(tmp_path / f"seg/images/s{i}.png", noise(40 + i, 48, 64, 3))
        labels = np.zeros((48, 64), np.uint8)
        labels[:24], labels[24:, :32] = 1, 2
        write(tmp_path / f"seg/labels/s{i}.png", labels)
    (tmp_path / "seg/classes.txt").write_text("0 other\n1 sky\n2 car\n3 person\n255 ignore\n")
    for folder, stem, count in (("photos", "p{:02}", 12), ("ivif/set", "v{}", 4), ("seg", "s{}", 4)):
        stems = [stem.format(i) for i in range(count)]
        (tmp_path / folder / "train.txt").write_text("\n".join(stems[:-1]))
        (tmp_path / folder / "val.txt").write_text("\n".join(stems[-1:]))
    return tmp_path


PHOTOS = {"path": "photos"}
LABELLED = {"path": "seg", "format": "labelled"}
INFRARED = {"path": "ivif/*", "format": "pairs", "fuse": "ivif"}
FAMILIES = {  # every task, by weight
    "m3": (PHOTOS, 0.24),
    "ivif": (INFRARED, 0.16),
    "focus": (PHOTOS | {"fuse": "focus"}, 0.12),
    "exposure": (PHOTOS | {"fuse": "exposure"}, 0.12),
    "control_ivif": (INFRARED | {"edit": "control"}, 0.07),
    "control_m3": (PHOTOS | {"edit": "control"}, 0.05),
    "control_object": (LABELLED | {"edit": "control"}, 0.05),
    "seg": (LABELLED | {"edit": "seg"}, 0.14),
    "compound": (LABELLED | {"edit": "compound"}, 0.05),
}


def families(**changes) -> MixtureConfig:
    settings = {
        "sources": tuple(SourceConfig(name=n, weight=w, **files) for n, (files, w) in FAMILIES.items()),
        "ivif_target": "luma",
        "object_share": 0.75,
        "untagged_share": 0.3,
        "condition_dropout": 0.1,
        "text_dropout": 0.1,
    }
    return MixtureConfig(**(settings | changes))


def demo(root, **changes) -> Mixture:
    return resolve(families(**({"buckets": SMALL, "max_text_tokens": TEXT, "seed": 7} | changes)), root)


def only(mixture_config: MixtureConfig, name: str, **changes) -> MixtureConfig:
    chosen = tuple(source for source in mixture_config.sources if source.name == name)
    return dataclasses.replace(mixture_config, sources=chosen, **changes)


def jsonl(root, rows) -> SourceConfig:
    (root / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return SourceConfig(name="own", path="train.jsonl", format="jsonl", names=None, fuse="given")
