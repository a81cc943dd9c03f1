# SPDX-License-Identifier: Apache-2.0
"""One draw -> one sample: read, cut, fuse, edit, word the prompt; each a function that can be timed."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax import prompt
from ditfuse_jax.data import control, infrared, instructions, m3, pairs, segmentation, sources, window
from ditfuse_jax.data.config import TASKS, Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.data.mixture import Mixture
from ditfuse_jax.image import BadFile
from ditfuse_jax.prompt import NUM_SOURCES

MAX_ATTEMPTS = 8  # draws of one sample before a run of unreadable files becomes an error
FUSION_SUBTASKS = {
    "m3": None,
    "ivif": "multi-modalities",
    "focus": "multi-focus",
    "exposure": "multi-exposure",
}
COMPOUND_CONTROL_SHARE = 0.7  # compound samples that change brightness or contrast before they segment
MOST_CLASSES = 3  # that one segmentation instruction names


class Edit(NamedTuple):
    """What is asked, and the image that answers it, uint8 [H, W, 3]."""

    text: str
    target: np.ndarray
    task: str | None = None  # of the tags; None: the prompt carries none
    subtask: str | None = None


class Sample(NamedTuple):
    text: str  # whole prompt, without the chat wrapper
    sources: np.ndarray  # uint8 [n, H, W, 3]; zeros where absent
    target: np.ndarray  # uint8 [H, W, 3]
    task: int  # index into TASKS
    num_sources: int  # that the prompt names


class MadeSample(NamedTuple):
    sample: Sample
    warnings: tuple[str, ...]  # one per file that had to be replaced


def make(mixture: Mixture, position: int, bucket: Bucket) -> MadeSample:
    """The sample at a place of the stream. A file that cannot be read is replaced by the next attempt's.

    Raises BadFile when MAX_ATTEMPTS draws in a row cannot be read.
    Raises ValueError for data that contradicts itself.
    """
    broken: list[BadFile] = []
    for attempt in range(MAX_ATTEMPTS):
        draw = mixture.draw(position, attempt)
        source, listing = mixture.config.sources[draw.source], mixture.listings[draw.source]
        item = listing.items[draw.item]
        try:
            scene = read(mixture, draw.source, item, bucket)
        except BadFile as error:
            broken.append(error)
            continue
        scene = cut(draw.rng, scene, bucket, mixture.config)
        sample = build(draw.rng, scene, source, listing.classes, mixture.config)
        notes = (
            f"sample {position}: {error}; replaced by {_name(item)} (attempt {attempt})" for error in broken
        )
        return MadeSample(sample, tuple(notes))
    raise BadFile(f"sample {position}: {MAX_ATTEMPTS} files in a row cannot be read, the last: {broken[-1]}")


def describe(mixture: Mixture, position: int) -> str:
    """Source and file of a place in the stream, as long as the file can be read."""
    draw = mixture.draw(position)
    return (
        f"{mixture.config.sources[draw.source].name}: {_name(mixture.listings[draw.source].items[draw.item])}"
    )


def _name(item: sources.Item) -> Path:
    return item.images[0] if item.images else item.target


def read(mixture: Mixture, source: int, item: sources.Item, bucket: Bucket) -> sources.Scene:
    """Files to memory; large photos at the smallest JPEG size that still fills any window."""
    enough = int(np.ceil(max(bucket.height, bucket.width) / mixture.config.smallest_window))
    return sources.load(item, mixture.listings[source].classes, shortest=enough)


def cut(rng: np.random.Generator, scene: sources.Scene, bucket: Bucket, cfg: MixtureConfig) -> sources.Scene:
    """Everything through one window. JSONL images of different sizes are each cut at their centre."""
    shape = (bucket.height, bucket.width)
    everything = [*scene.images, *(extra for extra in (scene.target, scene.labels) if extra is not None)]
    sizes = [image.shape[:2] for image in everything]
    if cfg.augment and len(set(sizes)) == 1:
        # An instruction that came with its files may name a side.
        flip = cfg.flip and scene.instruction is None
        windows = [window.draw(rng, sizes[0], shape, smallest=cfg.smallest_window, flip=flip)] * len(sizes)
    else:
        windows = [window.centre(size, shape) for size in sizes]
    done = [window.cut(image, place, shape) for image, place in zip(everything, windows, strict=True)]
    images, rest = tuple(done[: len(scene.images)]), iter(done[len(scene.images) :])
    target = next(rest) if scene.target is not None else None
    labels = next(rest) if scene.labels is not None else None
    return sources.Scene(images, target, labels, scene.instruction)


def build(
    rng, scene: sources.Scene, source: SourceConfig, classes: tuple[str, ...], cfg: MixtureConfig
) -> Sample:
    """A cut scene to a whole sample: pixels and prompt."""
    if source.fuse == "given":
        return _drop(rng, given(scene, source), cfg)
    fused = fuse(rng, scene, source.fuse, cfg)
    edit = EDITS[source.edit](rng, fused.target, scene.labels, classes, source, cfg)
    tagged = rng.random() >= cfg.untagged_share and edit.task is not None
    tags = {"task": edit.task, "subtask": edit.subtask} if tagged else {}
    both = np.stack([fused.first, fused.second])
    text = prompt.render(edit.text, **tags)
    return _drop(rng, Sample(text, both, edit.target, TASKS.index(source.task), NUM_SOURCES), cfg)


def given(scene: sources.Scene, source: SourceConfig) -> Sample:
    """A row of JSONL: its instruction is the prompt, word for word."""
    filled = np.zeros((NUM_SOURCES, *scene.target.shape), np.uint8)
    for place, image in zip(filled, scene.images, strict=False):
        place[:] = image
    return Sample(scene.instruction, filled, scene.target, TASKS.index(source.task), len(scene.images))


def fuse(rng, scene: sources.Scene, kind: str, cfg: MixtureConfig) -> pairs.Fused:
    """Two sources and their fusion: a given target where the files have one, else made from photo or pair."""
    if kind == "m3":
        return pairs.Fused(*m3.degrade(rng, scene.images[0], cfg.m3), scene.images[0])
    fused = _fuse_pair(rng, scene, kind, cfg)
    if kind in ("focus", "exposure") and cfg.swap_share and rng.random() < cfg.swap_share:
        return pairs.Fused(fused.second, fused.first, fused.target)
    return fused


def _fuse_pair(rng, scene: sources.Scene, kind: str, cfg: MixtureConfig) -> pairs.Fused:
    """Of a real pair, or simulated: source 1 far or over-exposed or visible."""
    if len(scene.images) == 1 and kind == "focus":
        return pairs.defocus(rng, scene.images[0])
    if len(scene.images) == 1:
        wide = cfg.scene_share == 1 or rng.random() < cfg.scene_share
        stops = cfg.scene_stops if wide else (0.0, 0.0)
        return pairs.expose(rng, scene.images[0], stops=cfg.exposure_stops, scene=stops)
    target = scene.target
    if target is None:
        target = infrared.target(*scene.images, kind=cfg.ivif_target)
    return pairs.Fused(*scene.images, target)


def _plain(rng, fused, labels, classes, source: SourceConfig, cfg: MixtureConfig) -> Edit:
    subtask = FUSION_SUBTASKS[source.fuse]
    if cfg.generic_share and rng.random() < cfg.generic_share:
        subtask = None
    if cfg.nonsense_share and rng.random() < cfg.nonsense_share:
        return Edit(instructions.nonsense(rng), fused)
    return Edit(instructions.draw(rng, "fusion", subtask, cfg.phrasings), fused, "fusion", subtask)


def _control(rng, fused, labels, classes, source: SourceConfig, cfg: MixtureConfig) -> Edit:
    """One of the six controls on the whole image or, where labels allow, on one named object."""
    subtask = control.CONTROLS[rng.integers(len(control.CONTROLS))]
    names = segmentation.present(labels, classes) if labels is not None else ()
    if names and rng.random() < cfg.object_share:
        name = names[rng.integers(len(names))]
        mask = segmentation.class_mask(labels, classes, (name,))
        target, named = control.adjust_object(fused, subtask, mask), (name,)
    else:
        target, named = control.adjust(fused, subtask), ()
    return Edit(instructions.draw(rng, "control", subtask, cfg.phrasings, named), target, "control", subtask)


def _seg(rng, fused, labels, classes, source: SourceConfig, cfg: MixtureConfig) -> Edit:
    names = _classes_to_name(rng, labels, classes, cfg)
    target = segmentation.overlay(fused, segmentation.class_mask(labels, classes, names))
    return Edit(instructions.draw(rng, "seg", None, cfg.phrasings, names), target, "seg")


def _compound(rng, fused, labels, classes, source: SourceConfig, cfg: MixtureConfig) -> Edit:
    """Fuse, perhaps brighten, then segment; untagged, since the paper has no tag for a sequence."""
    subtask = None
    if rng.random() < COMPOUND_CONTROL_SHARE:
        subtask = control.CONTROLS[rng.integers(len(control.CONTROLS))]
        fused = control.adjust(fused, subtask)
    names = _classes_to_name(rng, labels, classes, cfg)
    target = segmentation.overlay(fused, segmentation.class_mask(labels, classes, names))
    return Edit(instructions.draw(rng, "compound", subtask, cfg.phrasings, names), target)


EDITS = {"none": _plain, "control": _control, "seg": _seg, "compound": _compound}


def _classes_to_name(rng, labels, classes: tuple[str, ...], cfg: MixtureConfig) -> tuple[str, ...]:
    """One class that is there, sometimes several, sometimes one that is not."""
    there, missing = segmentation.present(labels, classes), segmentation.absent(labels, classes)
    if missing and (not there or rng.random() < cfg.absent_share):
        return (missing[rng.integers(len(missing))],)
    if not there:  # nothing worth naming and nothing surely absent: name what there is most of, even if tiny
        count = np.bincount(labels.ravel(), minlength=256)[: len(classes)].copy()
        count[[i for i, name in enumerate(classes) if name == segmentation.UNNAMED]] = -1
        return (classes[int(count.argmax())],)
    several = len(there) > 1 and rng.random() < cfg.several_share
    number = int(rng.integers(2, min(MOST_CLASSES, len(there)) + 1)) if several else 1
    chances = _chances(labels, classes, there, cfg.area_power) if cfg.area_power else None
    return tuple(there[i] for i in rng.choice(len(there), number, replace=False, p=chances))


def _chances(labels, classes: tuple[str, ...], there: tuple[str, ...], power: float) -> np.ndarray:
    """Of each class that is there to be named, float64, sum 1."""
    weight = np.array([segmentation.class_mask(labels, classes, (name,)).mean() for name in there]) ** power
    return weight / weight.sum()


def _drop(rng, sample: Sample, cfg: MixtureConfig) -> Sample:
    """Classifier-free guidance: sometimes the whole condition goes, sometimes only the instruction."""
    chance = rng.random()
    if chance < cfg.condition_dropout:
        return sample._replace(
            text=prompt.DROPPED_PROMPT, sources=np.zeros_like(sample.sources), num_sources=0
        )
    if chance < cfg.condition_dropout + cfg.text_dropout and sample.num_sources == NUM_SOURCES:
        return sample._replace(text=prompt.IMAGE_ONLY_PROMPT)
    return sample


def warn(notes) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=3)
