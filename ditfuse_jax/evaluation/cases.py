# SPDX-License-Identifier: Apache-2.0
"""Held-out pictures by kind, for `prompts` and `figures`: real pairs, and pairs made of photographs."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax import image
from ditfuse_jax.data import m3, sources, window
from ditfuse_jax.data.config import VALIDATION, M3Config

STREETS = ("ivif/roadscene", "ivif/msrs")
PAIRS = {  # kind -> folders below the data root
    "ivif": ("ivif/*",),
    "streets": STREETS,
    "mff": ("mff/*",),
    "mef": ("mef/*",),
}
GREY = "grey"  # infrared-visible pairs without any colour


class Scene(NamedTuple):
    """One scene, uint8 [H, W, 3] each."""

    name: str
    first: np.ndarray
    second: np.ndarray
    truth: np.ndarray | None = None
    missing: np.ndarray | None = None  # bool [2, H, W]: what each source has lost
    stem: str = ""  # of the files


def irregular(rng: np.random.Generator, photo: np.ndarray) -> Scene:
    """Free-form damage (paper Fig. 20)."""
    first, second, missing = m3.irregular(rng, photo)
    return Scene("", first, second, photo, missing)


def damaged(rng: np.random.Generator, photo: np.ndarray) -> Scene:
    """The two copies of M3, blocks damaged as in training."""
    return Scene("", *m3.degrade(rng, photo, M3Config()), photo)


MADE: dict[str, Callable] = {"irregular": irregular, "damaged": damaged}
KINDS = (*PAIRS, GREY, *MADE)


def held_out(kind: str, root: Path, *, limit: int, side: int | None) -> list[Scene]:
    """Scenes of one of KINDS, spread evenly over the lists.

    Args: root: data root. limit: how many, 0: all. side: pixels of a square, the largest in the middle scaled
    to it; None: as it is. Damage depends on the place in the list.
    Raises ValueError where there are none, and for a side that is too small to be fused.
    """
    if side is not None and side < image.MIN_SIDE:
        raise ValueError(f"--side {side} is under {image.MIN_SIDE} pixels; give more")
    if kind in MADE:
        items = sources.find("photos", "photos", root, VALIDATION).items
    else:
        folders = _folders(kind, root)
        items = sum((found for path in folders if (found := _pairs(path, root))), ())
    if not items:
        raise ValueError(f"{root} holds no held-out pairs in {', '.join(folders)}; name another --data")
    count = min(limit, len(items)) or len(items)
    chosen = [items[number * len(items) // count] for number in range(count)]
    return [_scene(kind, number, item, side) for number, item in enumerate(chosen)]


def named(folder: Path, stem: str) -> Scene:
    """The pair `stem` of a folder with two sides. Raises ValueError."""
    for item in sources.pairs(folder, None):
        if item.images[0].stem == stem:
            return Scene(f"{folder.name} {stem}", *sources.load(item).images, stem=stem)
    raise ValueError(f"{folder} has no pair {stem}; correct the groups, or name another --data")


def _folders(kind: str, root: Path) -> tuple[str, ...]:
    """Of GREY those of `ivif`, as of streets where the data root has none of STREETS."""
    elsewhere = kind == "streets" and not any((root / path).is_dir() for path in STREETS)
    return PAIRS["ivif" if kind == GREY or elsewhere else kind]


def _pairs(path: str, root: Path) -> tuple[sources.Item, ...]:
    """Nothing where the data root lacks the folder."""
    there = any(folder.is_dir() for folder in root.glob(path))
    return sources.find("pairs", path, root, VALIDATION).items if there else ()


def _scene(kind: str, number: int, item: sources.Item, side: int | None) -> Scene:
    pictures = [picture if side is None else _square(picture, side) for picture in sources.load(item).images]
    name = item.images[0].stem
    if kind in MADE:
        return MADE[kind](np.random.default_rng([0, number]), pictures[0])._replace(name=name)
    if kind == GREY:
        pictures = [np.repeat(image.luma(p).round().astype(np.uint8)[..., None], 3, -1) for p in pictures]
    return Scene(f"{item.images[0].parent.parent.name} {name}", *pictures, stem=name)


def _square(picture: np.ndarray, side: int) -> np.ndarray:
    shape = (side, side)
    return window.cut(picture, window.centre(picture.shape[:2], shape), shape)
