# SPDX-License-Identifier: Apache-2.0
"""Targets of the segmentation task: the named classes under a translucent blue overlay with soft edges."""

from pathlib import Path

import numpy as np

from ditfuse_jax import text
from ditfuse_jax.data import instructions
from ditfuse_jax.data.control import blend, soften
from ditfuse_jax.image.overlay import COLOUR, OPACITY

IGNORE = 255  # label of pixels that nobody classified
UNNAMED = "other"  # the class that no instruction names
SMALLEST = 0.01  # share of the crop under which a class is neither named nor called absent
UNKNOWN_LIMIT = 0.05  # share of ignored pixels above which nothing can be called absent


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """image uint8 [H, W, 3] with the overlay where bool mask [H, W] is true; an empty one changes nothing."""
    if not mask.any():
        return image.copy()
    blue = np.broadcast_to(np.array(COLOUR, np.uint8), image.shape)
    return blend(image, blue, np.float32(OPACITY) * soften(mask))


def class_mask(labels: np.ndarray, classes: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """Bool [H, W]: pixels of any named class. Raises ValueError for a name that `classes` does not hold."""
    for name in names:
        if name not in classes:
            raise ValueError(f"class {name!r} is not one of {', '.join(classes)}")
    return np.isin(labels, [classes.index(name) for name in names])


def present(labels: np.ndarray, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Named classes that cover at least SMALLEST of the labels, in the order of `classes`."""
    share = np.bincount(labels.ravel(), minlength=256)[: len(classes)] / labels.size
    return tuple(name for name, s in zip(classes, share, strict=True) if s >= SMALLEST and name != UNNAMED)


def absent(labels: np.ndarray, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Named classes with no pixel at all; none when too much of the image was not classified."""
    count = np.bincount(labels.ravel(), minlength=256)
    if count[IGNORE] > UNKNOWN_LIMIT * labels.size:
        return ()
    return tuple(name for i, name in enumerate(classes) if count[i] == 0 and name != UNNAMED)


def read_classes(file: Path) -> tuple[str, ...]:
    """Class names by index from lines `INDEX NAME`; the line of IGNORE may be there or not.

    Raises ValueError naming the file when a line is malformed, the indices are not 0, 1, 2 ... or a class has
    no words in the instruction library.
    """
    if not file.is_file():
        raise ValueError(f"{file} is missing; write one line `INDEX NAME` per class, 0 first")
    rows = [line.split(maxsplit=1) for line in text.lines(file) if line.strip()]
    if any(len(row) != 2 or not row[0].isdigit() for row in rows):
        raise ValueError(f"{file}: every line must be `INDEX NAME`")
    names = [name.strip() for index, name in rows if int(index) != IGNORE]
    if [int(index) for index, _ in rows if int(index) != IGNORE] != list(range(len(names))):
        raise ValueError(f"{file}: the indices must be 0 to {len(names) - 1}, in order")
    for name in names:
        if name != UNNAMED:
            _known(name, file)
    return tuple(names)


def _known(name: str, file: Path) -> None:
    try:
        instructions.canonical(name)
    except ValueError as error:
        raise ValueError(f"{file}: {error}; call it {UNNAMED} or add it to phrases/classes.toml") from error


def check_labels(labels: np.ndarray, size: tuple[int, int], num_classes: int, file: Path) -> None:
    """Raises ValueError naming the file for labels of another (height, width) or of an unknown class."""
    if labels.shape != tuple(size):
        raise ValueError(
            f"{file} is {labels.shape[1]}x{labels.shape[0]}, its image {size[1]}x{size[0]}; make them equal"
        )
    wrong = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    wrong = [int(value) for value in wrong if value >= num_classes and value != IGNORE]
    if wrong:
        raise ValueError(
            f"{file} holds class {wrong[0]}; classes.txt ends at {num_classes - 1} ({IGNORE} is ignored)"
        )
