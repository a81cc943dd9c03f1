# SPDX-License-Identifier: Apache-2.0
"""The pictures of a scene made ready for fusion: thermal counts stretched, aligned, freed of what moved, cut.

    given -> stretched, in image 1's colours -> resized -> over image 1 -> without what moved -> cropped

Pictures are measured one at a time and read again when they are fused, so that a stack takes no more memory.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax import image
from ditfuse_jax.image import Picture
from ditfuse_jax.inference import aligning, scene, stack, steady, thermal
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.inference.source import Source, as_given
from ditfuse_jax.registration import alignment, geometry, ghosts
from ditfuse_jax.registration.alignment import Alignment

INFRARED = "multi-modalities"
FOCUS, EXPOSURE = "multi-focus", "multi-exposure"
ASPECT = 0.02  # by which the sides of pictures that are resized may differ in proportion


class Prepared(Sequence):
    """The pictures, each read when it is asked for."""

    def __init__(self, sources: Sequence[Source], told: "Told", size: tuple[int, int] | None = None):
        self.sources, self.told, self._size = tuple(sources), told, size

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first, and so of the result."""
        return self._size or self[0].pixels.shape[:2]

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Picture:
        return self.sources[index].read()


class Told(NamedTuple):
    """What was found on the way."""

    notes: tuple[str, ...] = ()  # for people
    facts: tuple[tuple[str, str], ...] = ()  # for the metadata of the result
    alignments: tuple[Alignment, ...] = ()  # of picture 2, 3 ...; empty where none was looked for


def prepare(
    images: Sequence, *, kind: str | None, how: Preparation, before: Sequence | None = None
) -> Prepared:
    """What `DiTFuse.fuse_prompts` takes, and what there is to tell of it.

    Args:
      images: two or more, as `image.read_picture` takes them, or one radiometric JPEG of FLIR.
      before: the frame before, likewise, for how.steady, which does nothing without; one that cannot be
        read is left to its own row.
      kind: the prompt's tag, which says whether they are brackets, a focus stack or an infrared-visible pair.

    Raises ValueError as `image.read_picture` does, for sizes that differ without resize_second or in
    proportion, for an alignment that was asked for and is not sure, and for --palette without infrared.
    """
    if how.palette and kind != INFRARED:
        raise ValueError(f"palette {how.palette} colours an infrared picture; it goes with --task ivif")
    images = _planes(images, kind)
    if not stack.is_stack(images) and (isinstance(images, str | Path) or len(images) != 2):
        scene.read(images)  # which says what is wrong
    if how.steady == "on" and len(images) > 2:
        raise ValueError(f"steady is for frames of two pictures, not {len(images)}; leave --steady away")
    sources, notes, facts = _stretched(images, kind, how, before if how.steady != "off" else None)
    one_camera = kind in (FOCUS, EXPOSURE) or len(sources) > 2
    touched = how.align != "off" or how.resize_second or (how.deghost != "off" and one_camera)
    if len(sources) > 2 and not touched:
        return Prepared(sources, Told())
    if len(sources) > 2:
        stack.check_one_kind([stack.look(_small(source.read().pixels)) for source in sources])
    first = sources[0].read()
    sources = [sources[0], *_sized(sources[1:], first, how)]
    if len(sources) == 2:
        names = tuple(scene.name(each, f"image {number}") for number, each in enumerate(images, 1))
        image.check_same_size(first.pixels, sources[1].read().pixels, names)
    found = _aligned(sources, first, how, one_camera)
    notes += [one.note for one in found if one.note]
    if moved := [f"image {n}: {_fact(one.alignment)}" for n, one in enumerate(found, 2) if one.warped]:
        facts["aligned"] = "; ".join(moved)
    for number, one in enumerate(found, 1):
        if one.warped:
            how_it_lies = {"matrix": one.alignment.matrix, "fill": first.pixels, "same_light": one_camera}
            sources[number] = replace(sources[number], **how_it_lies)
    if how.deghost == "auto" and one_camera:
        sources, told = _still(sources, kind)
        notes += told
        facts |= {"deghosted": "; ".join(told)} if told else {}
    size = first.pixels.shape[:2]
    if how.crop and any(one.warped for one in found):
        sources, size = _cut(sources, size)
    measured = tuple(one.alignment for one in found if one.alignment is not None)
    return Prepared(sources, Told(tuple(notes), tuple(facts.items()), measured), size)


def _planes(images, kind: str | None):
    """A lone radiometric JPEG as visible and thermal picture; other images as they are."""
    alone = images[0] if not isinstance(images, str | Path) and len(images) == 1 else images
    if not _is_flir(alone):
        return images
    if kind not in (INFRARED, None):
        raise ValueError(f"{alone} is a visible and an infrared picture in one; fuse it with --task ivif")
    return image.read_pair(Path(alone))


def _is_flir(given) -> bool:
    return isinstance(given, str | Path) and image.is_flir(Path(given))


def is_thermal(images: Sequence, kind: str | None) -> bool:
    """Whether the last picture is an infrared one: by the prompt's tag or, where that names no kind of
    pair, as counts beside a picture that has none. Raises ValueError as `image.read_counts` does.
    """
    if kind in (INFRARED, FOCUS, EXPOSURE):
        return kind == INFRARED
    return len(images) == 1 or (len(images) == 2 and image.read_counts(images[0]) is None)


def _stretched(images: Sequence, kind: str | None, how: Preparation, before: Sequence | None):
    """Sources, notes and facts. Those of a pair are read; its infrared counts are stretched."""
    if len(images) > 2:
        return [Source(given=given) for given in images], [], {}
    pair = getattr(images[1], "dtype", None) == np.float32  # of `image.read_pair`
    degrees = pair or _is_flir(images[1])
    counts = image.read_counts(images[1]) if pair or how.limits or is_thermal(images, kind) else None
    limits = None if counts is None else how.limits or thermal.used(counts)
    pictures = [as_given(images[0], None), as_given(images[1], limits)]
    facts = {} if limits is None else {"stretched": str(limits)}
    if before and (old := _before(before, pictures[0], how, limits, kind)):
        pictures = [steady.steadied(*both) for both in zip(pictures, old, strict=True)]
        facts["steadied"] = "by the frame before"
    notes = [] if limits is None else [thermal.told(counts, limits, unit="degrees" if degrees else "counts")]
    if counts is None and how.limits:
        notes.append("image 2 is no grey picture of more than 8 bits, so it is not stretched")
    for number, picture in enumerate(pictures, 1):
        if (share := thermal.narrow(picture)) is not None:
            notes.append(f"image {number} uses {share:.1%} of its range, so little of it may be seen")
            if image.read_counts(images[number - 1]) is not None:
                notes[-1] += "; counts of a thermal camera are stretched as image 2, with --task ivif"
    return [Source(given=picture) for picture in pictures], notes, facts


def _before(frame: Sequence, now: Picture, how: Preparation, limits, kind: str | None) -> list[Picture]:
    """The frame before that whose image 1 is `now`, read likewise; empty where it cannot be read or, with
    auto, differs by more than noise.
    """
    with contextlib.suppress(ValueError, OSError):
        first, second = _planes(frame, kind)
        old = as_given(first, None)
        if how.steady == "on" or steady.alike(now, old) > steady.STILL:
            return [old, as_given(second, limits)]
    return []


def _sized(sources: Sequence[Source], first: Picture, how: Preparation) -> list[Source]:
    """The other pictures, in the colours of the first and, if asked for, of its size."""
    size = first.pixels.shape[:2]
    others = [replace(source, origin=first.origin) for source in sources]
    if not how.resize_second:
        return others
    return [replace(each, size=_target(each, number, size)) for number, each in enumerate(others, 2)]


def _target(source: Source, number: int, size: tuple[int, int]) -> tuple[int, int] | None:
    height, width = source.read().pixels.shape[:2]
    if (height, width) == size:
        return None
    if abs(height * size[1] / (width * size[0]) - 1) > ASPECT:
        raise ValueError(
            f"image {number} is {width} x {height}, image 1 {size[1]} x {size[0]}: other proportions; crop "
            "one of them first"
        )
    return size


def _aligned(sources, first: Picture, how: Preparation, one_camera: bool) -> list[aligning.Found]:
    """Of pictures 2, 3 ..."""
    if how.align == "off":
        return [aligning.Found()] * (len(sources) - 1)
    size = first.pixels.shape[:2]

    def outlines() -> Iterator[np.ndarray]:
        yield alignment.outline(first.pixels)
        for number, source in enumerate(sources[1:], 2):
            picture = source.read()
            _check_size(picture, number, size)
            yield alignment.outline(picture.pixels)

    return list(aligning.alignments(outlines(), size, align=how.align, one_camera=one_camera))


def _check_size(picture: Picture, number: int, size: tuple[int, int]) -> None:
    height, width = picture.pixels.shape[:2]
    if (height, width) != size:
        raise ValueError(
            f"different sizes: image 1 {size[1]} x {size[0]} and image {number} {width} x {height}; crop or "
            "resize all to one size, or add --resize-second"
        )


def _fact(one: Alignment) -> str:
    return f"{one.model}, {one.moved:.2f} px, {one.degrees:.3f} degrees, score {one.score:.3f}"


def _still(sources: list[Source], kind: str | None) -> tuple[list[Source], list[str]]:
    """What moved is taken from one picture: of brackets the least clipped one, else the first."""
    chosen = _least_clipped(sources) if kind != FOCUS else 0
    still, told = sources[chosen].read().pixels, []
    size, kept = still.shape[:2], _small(still)
    made = list(sources)
    for index, source in enumerate(sources):
        if index == chosen:
            continue
        moving = ghosts.moved(kept, _small(source.read().pixels), focus=kind != EXPOSURE)
        moving = cv2.resize(moving.astype(np.uint8), size[::-1], interpolation=cv2.INTER_LINEAR) > 0
        for each in (source, sources[chosen]):
            if each.matrix is not None:
                moving &= geometry.covered(each.matrix, moving.shape, each.fill.shape[:2])
        if moving.any():
            made[index] = replace(source, still=still, moving=np.packbits(moving, axis=1))
            told.append(f"image {index + 1}: {moving.mean():.1%} moved, taken from image {chosen + 1}")
    return made, told


def _small(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] in which movement is looked for."""
    return image.shallow(alignment.reduce(pixels, alignment.FINEST))


def _least_clipped(sources: Sequence[Source]) -> int:
    def clipped(source: Source) -> float:
        luma = image.luma(_small(source.read().pixels))
        return float(np.mean((luma < 8) | (luma > 247)))

    return int(np.argmin([clipped(source) for source in sources]))


def _cut(sources: list[Source], size: tuple[int, int]) -> tuple[list[Source], tuple[int, int]]:
    """All cut to what every picture shows."""
    inside = np.ones(size, bool)
    for source in sources:
        if source.matrix is not None:
            inside &= geometry.covered(source.matrix, size, size)
    rows, columns = geometry.rectangle(inside)
    cut = [replace(source, box=(rows, columns)) for source in sources]
    return cut, (rows.stop - rows.start, columns.stop - columns.start)
