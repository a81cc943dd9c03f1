# SPDX-License-Identifier: Apache-2.0
"""IoU per class, from folders of masks or overlays and a folder of labels (paper Table III)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax import image as images
from ditfuse_jax.data.registry import FMB_CLASSES
from ditfuse_jax.data.segmentation import IGNORE, class_mask, read_classes
from ditfuse_jax.evaluation.folders import by_stem
from ditfuse_jax.image import overlay

# The eleven classes of the paper's Table III, in its order and words -> ours
FMB_TABLE = {
    name: {"Sidewalk": "pavement", "Vegetation": "tree"}.get(name, name.lower())
    for name in (
        *("Building", "Bus", "Car", "Motorcycle", "Person", "Pole", "Road", "Sidewalk", "Sky", "Truck"),
        "Vegetation",
    )
}


class Overlap(NamedTuple):
    """Pixels, summed over pictures."""

    intersection: int = 0
    union: int = 0

    def add(self, found: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> "Overlap":
        """With one more picture: bool [H, W] each; pixels that are not valid do not count."""
        both, either = (found & truth & valid).sum(), ((found | truth) & valid).sum()
        return Overlap(self.intersection + int(both), self.union + int(either))

    @property
    def iou(self) -> float:
        """nan where the class is neither there nor found."""
        return self.intersection / self.union if self.union else math.nan


class Answers(NamedTuple):
    """Where a segmenter's answers are: a folder per class, files named like the labels."""

    folder: Path
    overlays: bool  # pictures with a blue overlay, else 8-bit masks, true from 128 on
    plain: Path | None = None  # of overlays: plain fusions, named alike


class Classes(NamedTuple):
    by_label: tuple[str, ...]  # names by the index in the label maps
    shown: dict[str, str]  # name in tables, in their order -> name in by_label


def classes_of(text: str) -> Classes:
    """Of FMB as the paper shows them, or of a file with lines `INDEX NAME`. Raises ValueError."""
    if text.lower() == "fmb":
        return Classes(FMB_CLASSES, FMB_TABLE)
    names = read_classes(Path(text))
    return Classes(names, {name: name for name in dict.fromkeys(names)})


def score(labels: Path, classes: Classes, answers: Answers) -> tuple[dict[str, Overlap], list[str]]:
    """Binary counts of each class over the set, and a line for each answer that is missing or unusable.

    A class is asked by one prompt of its own; a class that no folder answers is left out. Pictures without
    the class count too: finding it there costs. The label 255 does not count.
    Raises ValueError where no class has a folder.
    """
    truth, problems = by_stem(labels)
    asked = {shown: folder for shown in classes.shown if (folder := _folder(shown, classes, answers))}
    if not asked:
        raise ValueError(f"{answers.folder} has no folder of a class; make one of {', '.join(classes.shown)}")
    overlaps = {}
    for name, folder in asked.items():
        found, twice = by_stem(folder)
        problems += twice
        problems += [f"{folder}: no answer for {stem}" for stem in sorted(set(truth) - set(found))]
        overlaps[name] = Overlap()
        for stem in sorted(set(truth) & set(found)):
            try:
                overlaps[name] = _add(overlaps[name], truth[stem], found[stem], name, classes, answers)
            except ValueError as error:
                problems.append(str(error))
    return overlaps, problems


def _folder(shown: str, classes: Classes, answers: Answers) -> Path | None:
    """Where a class is answered: a folder of its name in the table, in small letters, or in our words."""
    names = (shown, shown.lower(), classes.shown[shown])
    return next((answers.folder / name for name in names if (answers.folder / name).is_dir()), None)


def _add(
    overlap: Overlap, truth: Path, found: Path, name: str, classes: Classes, answers: Answers
) -> Overlap:
    labels, marked = images.read_labels(truth), mask(found, answers)
    if labels.shape != marked.shape:
        sizes = " and ".join(f"{shape[1]} x {shape[0]}" for shape in (marked.shape, labels.shape))
        raise ValueError(f"{found} and {truth}: different sizes, {sizes}; bring masks to the labels' size")
    wanted = class_mask(labels, classes.by_label, (classes.shown[name],))
    return overlap.add(marked, wanted, labels != IGNORE)


def mask(file: Path, answers: Answers) -> np.ndarray:
    """Bool [H, W] of one answer. Raises ValueError where its plain fusion is missing."""
    if not answers.overlays:
        return images.read(file)[..., 0] >= 128
    picture = images.read(file)
    if answers.plain is None:
        return overlay.decode_alone(picture).mask
    plain, _ = by_stem(answers.plain)
    if file.stem not in plain:
        raise ValueError(f"{answers.plain}: no plain fusion for {file.stem}; add it or leave --plain away")
    return overlay.decode(picture, images.read(plain[file.stem])).mask


def mean_iou(overlaps: Mapping[str, Overlap]) -> float:
    """The plain mean over the classes that are there or were found."""
    values = [overlap.iou for overlap in overlaps.values() if not math.isnan(overlap.iou)]
    return float(np.mean(values)) if values else math.nan


def markdown(methods: Mapping[str, Mapping[str, Overlap]]) -> str:
    """A row a class, a column a method, as in the paper's Table III."""
    names: Sequence[str] = list(dict.fromkeys(name for overlaps in methods.values() for name in overlaps))
    lines = ["| class | " + " | ".join(methods) + " |", "| --- " * (1 + len(methods)) + "|"]
    for name in names:
        cells = [_cell(overlaps.get(name, Overlap()).iou) for overlaps in methods.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    means = [_cell(mean_iou(overlaps)) for overlaps in methods.values()]
    return "\n".join([*lines, "| mean | " + " | ".join(means) + " |"]) + "\n"


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
