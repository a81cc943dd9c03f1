# SPDX-License-Identifier: Apache-2.0
"""Where pictures come from: folders of photos, pairs and labelled images, exposure stacks, OmniGen's JSONL.

`find` lists a source, `load` reads one item of it as a `Scene`.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax import image, places, scenes
from ditfuse_jax.config import one_of
from ditfuse_jax.data import held_out, jsonl, registry, segmentation
from ditfuse_jax.data.config import FORMATS

TARGET_FOLDER = "target"  # of a pair folder, optional


class Item(NamedTuple):
    """The files of one scene."""

    images: tuple[Path, ...]  # one photo, or two sources
    target: Path | None = None
    labels: Path | None = None
    instruction: str | None = None  # JSONL only
    where: str = ""  # JSONL only: FILE:LINE


class Scene(NamedTuple):
    """One item in memory; arrays of one scene have one size, except those of JSONL."""

    images: tuple[np.ndarray, ...]  # uint8 [H, W, 3]
    target: np.ndarray | None = None
    labels: np.ndarray | None = None  # uint8 [H, W]
    instruction: str | None = None


class Listing(NamedTuple):
    """A source, found on disk."""

    items: tuple[Item, ...]
    classes: tuple[str, ...] = ()


def named_root(folder: Path | None = None) -> Path:
    """`folder`, else $DITFUSE_DATA unless that is empty, else shared/data beside the project."""
    beside = places.home().parent / "shared" / "data"
    return Path(folder or os.environ.get("DITFUSE_DATA") or beside)


def data_root(folder: Path | None = None) -> Path:
    """`named_root`. Raises ValueError if there is no such folder."""
    root = named_root(folder)
    if not root.is_dir():
        raise ValueError(f"no data folder {root}; name one with --data or $DITFUSE_DATA")
    return root


def find(source_format: str, path: str, root: Path, names: str | None = None, *, images: str = "") -> Listing:
    """Lists one source.

    Args:
      source_format: one of FORMATS.
      path: below `root`; `*` stands for several folders. For "dataset" a name and split: "MSRS/train".
      names: a file in each folder that lists stems, one a line; None takes all. Of a folder that has neither
        train.txt nor val.txt, these take what `held_out.part` says.
      images: of JSONL, the folder below `root` where its relative paths start; "": the one of the file.

    Raises ValueError naming the folder or file: nothing found, a side of a pair or a label missing.
    """
    one_of("source format", source_format, FORMATS)
    if source_format == "jsonl":
        items = rows(root / path, root / images if images else None)
        classes: tuple[str, ...] = ()
    elif source_format == "dataset":
        items, classes = dataset(path, root)
    else:
        folders = sorted(f for f in root.glob(path) if f.is_dir())
        items = [item for folder in folders for item in LISTERS[source_format](folder, names)]
        classes = (
            segmentation.read_classes(folders[0] / "classes.txt")
            if folders and source_format == "labelled"
            else ()
        )
    if not items:
        kept = f" for {names}" if names else ""
        raise ValueError(f"{root / path} holds no {source_format}{kept}; check the path and --data")
    return Listing(tuple(items), classes)


def photos(folder: Path, names: str | None) -> list[Item]:
    files = scenes.one_each(folder)
    return [Item((files[stem],)) for stem in _chosen(files, folder, names)]


def pairs(folder: Path, names: str | None) -> list[Item]:
    """A folder with one of `scenes.SIDES` below it, stems alike; `target` beside them is used when there."""
    sides = scenes.sides(folder)[:2]
    first, second = map(scenes.one_each, sides)
    target = scenes.one_each(folder / TARGET_FOLDER) if (folder / TARGET_FOLDER).is_dir() else None
    stems = _chosen(first, folder, names)
    return [
        Item(
            (first[stem], _partner(second, stem, sides[1])),
            _partner(target, stem, folder / TARGET_FOLDER) if target is not None else None,
        )
        for stem in stems
    ]


def labelled(folder: Path, names: str | None) -> list[Item]:
    """`images/` and `labels/` with equal stems, and classes.txt."""
    images, labels = scenes.one_each(folder / "images"), scenes.one_each(folder / "labels")
    stems = _chosen(images, folder, names)
    return [Item((images[s],), labels=_partner(labels, s, folder / "labels")) for s in stems]


LISTERS = {"photos": photos, "pairs": pairs, "labelled": labelled}


def rows(file: Path, images: Path | None = None) -> list[Item]:
    """The rows of a JSONL file, see `jsonl.read`.

    Relative paths start at `images` (the official --image_path), by default at the folder of the file.
    """
    start = images or file.parent
    return [
        Item(tuple(start / name for name in row.images), start / row.target, None, row.instruction, row.where)
        for row in jsonl.read(file)
    ]


def dataset(path: str, root: Path) -> tuple[list[Item], tuple[str, ...]]:
    """Items and classes of a published dataset, `NAME/SPLIT` (see registry)."""
    name, _, split = path.partition("/")
    known = registry.get(name)
    found = known.pairs(root, split or "train")
    return [Item((p.first, p.second), p.target, p.labels) for p in found], known.classes


def load(item: Item, classes: tuple[str, ...] = (), *, shortest: int | None = None) -> Scene:
    """Reads an item. `shortest` (see `image.read_file`) applies to lone photos.

    Raises BadFile for a file that cannot be read; ValueError naming the files for sides or labels of unequal
    size and for an unknown class.
    """
    alone = len(item.images) == 1 and item.target is None and item.labels is None
    images = tuple(image.read_file(file, shortest=shortest if alone else None) for file in item.images)
    target = image.read_file(item.target) if item.target else None
    labels = image.read_labels(item.labels) if item.labels else None
    if item.instruction is None:
        check_sizes(item, [each.shape[:2] for each in images] + ([target.shape[:2]] if item.target else []))
    if labels is not None:
        segmentation.check_labels(labels, images[0].shape[:2], len(classes), item.labels)
    return Scene(images, target, labels, item.instruction)


def check_sizes(item: Item, sizes: list[tuple[int, int]]) -> None:
    """Raises ValueError naming the first file whose (height, width) differs from the first one's."""
    files = [*item.images, item.target]
    for file, size in zip(files[1:], sizes[1:], strict=False):
        if size != sizes[0]:
            raise ValueError(
                f"{file} is {size[1]}x{size[0]}, {files[0]} is {sizes[0][1]}x{sizes[0][0]}; "
                "make the sides equal"
            )


def _chosen(files: dict[str, Path], folder: Path, names: str | None) -> list[str]:
    """The listed stems, or all. A listed stem without a file is an error."""
    if names is None:
        return list(files)
    if held_out.applies(folder, names):
        return held_out.part(list(files), names)
    return scenes.listed(folder / names, files)


def _partner(files: dict[str, Path], stem: str, folder: Path) -> Path:
    if stem not in files:
        raise ValueError(f"{folder} has no file for {stem}; both sides of a pair share the stem")
    return files[stem]
