# SPDX-License-Identifier: Apache-2.0
"""The held-out pictures that demo_quality.py measures on: simulated with a truth, and real pairs."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax import image
from ditfuse_jax.data import samples, sources, window
from ditfuse_jax.data.config import VALIDATION, Bucket, M3Config, MixtureConfig, SourceConfig
from ditfuse_jax.data.mixture import resolve

SIDE = 256
PATCH_PIXELS = 16  # sides are multiples of it
SHAPES = ((SIDE, SIDE), (192, SIDE), (SIDE, 192))  # height, width of real pairs: whichever cuts least
REAL = {"ivif": "ivif/*", "mff": "mff/*", "mef": "mef/*"}  # task -> folders

WIDE = (2.0, 6.0)  # stops beyond the photo's own 2 to 5: sides as far apart as in real brackets
SIMULATED = {
    "m3": {"path": "photos"},
    "focus": {"path": "photos", "fuse": "focus"},
    "exposure": {"path": "photos", "fuse": "exposure"},
    "exposure_wide": {"path": "photos", "fuse": "exposure"},
    "ivif": {"path": "ivif/*", "format": "pairs", "fuse": "ivif"},
    "seg": {"path": "seg", "format": "labelled", "edit": "seg"},
}


class Case(NamedTuple):
    """One scene at the size at which it is fused."""

    name: str
    first: np.ndarray  # uint8 [H, W, 3]
    second: np.ndarray
    target: np.ndarray | None = None  # uint8 [H, W, 3]
    labels: np.ndarray | None = None  # uint8 [H, W]


class Cases(NamedTuple):
    cases: list[Case]
    classes: tuple[str, ...]  # of the labels


def spread(items: Sequence, limit: int) -> list:
    """`limit` of the items, evenly over the list (which is sorted by collection); 0: all."""
    if not 0 < limit < len(items):
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def simulated(
    root: Path,
    source: str,
    *,
    joint_share: float = 0.25,
    limit: int = 0,
    side: int = SIDE,
    longest: int | None = None,
) -> Cases:
    """Every held-out file of one source of SIMULATED once, degraded as in training.

    side x side, the largest centred square; with `longest` the whole picture at its native size, or with a
    long side of so many pixels. Degradations depend on the place in the list of chosen files.
    """
    config = settings_of(source, joint_share)
    mixture = resolve(config, root)
    listing = mixture.listings[0]
    cases = []
    for number, item in enumerate(spread(listing.items, limit)):
        rng = np.random.default_rng([config.seed, number])
        bucket = _whole(item, longest) if longest else Bucket(height=side, width=side)
        scene = samples.cut(rng, samples.read(mixture, 0, item, bucket), bucket, config)
        fused = samples.fuse(rng, scene, config.sources[0].fuse, config)
        cases.append(Case(item.images[0].stem, *fused, scene.labels))
    return Cases(cases, listing.classes)


def settings_of(source: str, joint_share: float) -> MixtureConfig:
    """Of the first demo, and so for good."""
    files = SourceConfig(name=source, **SIMULATED[source])
    settings = {"ivif_target": "luma", "object_share": 0.75, "m3": M3Config(joint_share=joint_share)}
    settings |= {"scene_stops": WIDE} if source == "exposure_wide" else {}
    return MixtureConfig(sources=(files,), **settings).validation()


def _whole(item: sources.Item, longest: int) -> Bucket:
    """The picture's size, in whole patches."""
    size = np.array(image.read_file(item.images[0]).shape[:2])
    height, width = (size * min(1.0, longest / size.max())).astype(int) // PATCH_PIXELS * PATCH_PIXELS
    return Bucket(height=int(height), width=int(width))


def drawn(source: str, *, joint_share: float = 0.25, limit: int = 4) -> Cases:
    """Streets of examples/render_scene.py, 1024 x 768; what is drawn by chance differs in each."""
    config, street = settings_of(source, joint_share), street_module()
    cases = []
    for number in range(limit):
        rng = np.random.default_rng([config.seed, number])
        photo = street.visible_image(street.street(rng), rng, scale=street.SCALE)
        fused = samples.fuse(rng, sources.Scene((photo,), None, None, None), config.sources[0].fuse, config)
        cases.append(Case(f"street {number}", *fused))
    return Cases(cases, ())


def street_module():
    """The module examples/render_scene.py, which is in no package."""
    file = Path(__file__).parents[1] / "examples" / "render_scene.py"
    spec = importlib.util.spec_from_file_location("render_scene", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def photo_crops(root: Path, limit: int = 0) -> tuple[list[np.ndarray], int]:
    """The middle SIDE x SIDE pixels of the held-out photographs, and how many were too small for that."""
    items = spread(sources.find("photos", "photos", root, VALIDATION).items, limit)
    photos = [image.read_file(item.images[0]) for item in items]
    large = [photo for photo in photos if min(photo.shape[:2]) >= SIDE]
    return [middle(photo) for photo in large], len(photos) - len(large)


def middle(photo: np.ndarray) -> np.ndarray:
    """Its SIDE x SIDE pixels."""
    top, left = ((side - SIDE) // 2 for side in photo.shape[:2])
    return photo[top : top + SIDE, left : left + SIDE]


def real_pairs(root: Path, task: str, limit: int = 0) -> list[Case]:
    """The held-out pairs of one kind, each in the shape of SHAPES that is nearest to its own."""
    items = spread(sources.find("pairs", REAL[task], root, VALIDATION).items, limit)
    return [_real_pair(item) for item in items]


def _real_pair(item: sources.Item) -> Case:
    first, second = sources.load(item).images
    shape = nearest_shape(first.shape[0], first.shape[1])
    place = window.centre(first.shape[:2], shape)
    collection = item.images[0].parent.parent.name
    cut = (window.cut(side, place, shape) for side in (first, second))
    return Case(f"{collection}/{item.images[0].stem}", *cut)


def nearest_shape(height: int, width: int) -> tuple[int, int]:
    return min(SHAPES, key=lambda shape: abs(np.log(width / height) - np.log(shape[1] / shape[0])))
