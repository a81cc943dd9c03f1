# SPDX-License-Identifier: Apache-2.0
"""The paper's datasets by name: folder layout, split, count, order of the two images.

Layouts are those of the published archives; `docs/data.md` lists where each comes from and its terms.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ditfuse_jax import scenes
from ditfuse_jax.config import closest

# Index -> class in the words of the instruction library; what it has no word for is "other".
MSRS_CLASSES = ("other", "car", "person", "bicycle", "other", "other", "fence", "cone", "other")
FMB_CLASSES = (
    *("other", "road", "pavement", "building", "other", "sign", "tree", "sky"),
    *("person", "car", "truck", "bus", "motorcycle", "bicycle", "pole"),
)


class Pair(NamedTuple):
    """The files of one scene, source 1 and 2 in the project's order."""

    first: Path
    second: Path
    target: Path | None = None
    labels: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Split:
    """Folders below the dataset's own; `strip` is a suffix of each side's stems (Real-MFF: 001_A, 001_B)."""

    first: str
    second: str
    count: int
    target: str | None = None
    labels: str | None = None
    strip: tuple[str, str, str] = ("", "", "")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    name: str
    order: str  # what source 1 and source 2 are
    splits: dict[str, Split] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    stack: bool = False  # a folder of exposures per scene instead of two sides

    def pairs(self, root: Path, split: str) -> list[Pair]:
        """The pairs of one split below root/NAME. Raises ValueError saying what is absent or incomplete."""
        if split not in self.splits:
            raise ValueError(f"{self.name} has no split {split!r}; use {' or '.join(self.splits)}")
        layout, folder = self.splits[split], root / self.name
        needed = [layout.first, layout.second, layout.target, layout.labels]
        missing = [part for part in needed if part is not None and not (folder / part).is_dir()]
        if missing:
            raise ValueError(
                f"{self.name} ({split}) is not here: {folder / missing[0]} is no folder; "
                f"unpack its {layout.count} scenes so that it is, or leave the source out"
            )
        return list(_stacks(folder, layout) if self.stack else _sides(folder, layout))


def _sides(folder: Path, layout: Split) -> Iterator[Pair]:
    """Pairs with equal stems, once the sides' own suffixes are gone."""
    first, second = (
        scenes.one_each(folder / layout.first, ending=layout.strip[0]),
        scenes.one_each(folder / layout.second, ending=layout.strip[1]),
    )
    target = scenes.one_each(folder / layout.target, ending=layout.strip[2]) if layout.target else {}
    labels = scenes.one_each(folder / layout.labels) if layout.labels else {}
    for stem, file in first.items():
        expected = [(layout.second, second), (layout.target, target), (layout.labels, labels)]
        absent = [part for part, files in expected if part and stem not in files]
        if absent:
            raise ValueError(f"{folder / absent[0]} has no file for {stem}, {file} is alone")
        yield Pair(file, second[stem], target.get(stem), labels.get(stem))


def _stacks(folder: Path, layout: Split) -> Iterator[Pair]:
    """Of stacks `NUMBER/1.JPG ...`, dark to bright, the neighbours of the middle shot: +1 EV and -1 EV."""
    targets = scenes.one_each(folder / layout.target)
    for scene in sorted(f for f in (folder / layout.first).iterdir() if f.name in targets and f.is_dir()):
        shots = sorted(scenes.one_each(scene).items(), key=lambda shot: int(shot[0]))
        if len(shots) < 3:
            raise ValueError(f"{scene} holds {len(shots)} exposures; a stack needs three or more")
        middle = len(shots) // 2
        yield Pair(shots[middle + 1][1], shots[middle - 1][1], targets[scene.name])


_INFRARED = "visible, infrared"
_FOCUS = "far, near"  # as the archives order them; not every scene keeps to it
_KNOWN = (
    Dataset(
        name="MSRS",
        order=_INFRARED,
        splits={
            "train": Split(
                first="train/vi", second="train/ir", labels="train/Segmentation_labels", count=1083
            ),
            "test": Split(first="test/vi", second="test/ir", labels="test/Segmentation_labels", count=361),
        },
        classes=MSRS_CLASSES,
    ),
    Dataset(
        name="M3FD",
        order=_INFRARED,
        splits={
            "train": Split(first="M3FD_Detection/Vis", second="M3FD_Detection/Ir", count=4200),
            "test": Split(first="M3FD_Fusion/Vis", second="M3FD_Fusion/Ir", count=300),
        },
    ),
    Dataset(name="TNO", order=_INFRARED, splits={"test": Split(first="vi", second="ir", count=42)}),
    Dataset(
        name="RoadScene",
        order=_INFRARED,
        splits={"test": Split(first="crop_HR_visible", second="cropinfrared", count=221)},
    ),
    Dataset(
        name="LLVIP",
        order=_INFRARED,
        splits={
            "train": Split(first="visible/train", second="infrared/train", count=12025),
            "test": Split(first="visible/test", second="infrared/test", count=3463),
        },
    ),
    Dataset(name="MFIF", order=_FOCUS, splits={"test": Split(first="A", second="B", count=105)}),
    Dataset(
        name="RealMFF",
        order=_FOCUS,
        splits={
            "train": Split(
                first="imageA", second="imageB", target="Fusion", strip=("_A", "_B", "_F"), count=710
            ),
        },
    ),
    Dataset(
        name="SICE",
        order="over-exposed (+1 EV), under-exposed (-1 EV)",
        splits={
            "train": Split(
                first="Dataset_Part1", second="Dataset_Part1", target="Dataset_Part1/Label", count=360
            ),
            "test": Split(
                first="Dataset_Part2", second="Dataset_Part2", target="Dataset_Part2/Label", count=229
            ),
        },
        stack=True,
    ),
    Dataset(
        name="FMB",
        order=_INFRARED,
        splits={
            "train": Split(first="train/Visible", second="train/Infrared", labels="train/Label", count=1220),
            "test": Split(first="test/Visible", second="test/Infrared", labels="test/Label", count=280),
        },
        classes=FMB_CLASSES,
    ),
)
DATASETS = {dataset.name: dataset for dataset in _KNOWN}


def get(name: str) -> Dataset:
    """Raises ValueError for a name that is not in DATASETS."""
    if name not in DATASETS:
        raise ValueError(f"dataset {name!r} is not known{closest(name, DATASETS)}; use {', '.join(DATASETS)}")
    return DATASETS[name]
