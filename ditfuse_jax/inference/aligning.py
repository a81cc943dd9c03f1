# SPDX-License-Identifier: Apache-2.0
"""Which pictures of a scene are brought over image 1, and what is said of those that are not."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax.registration import fixed, geometry
from ditfuse_jax.registration.alignment import SURE, Alignment, measure

LEAST = 1.0  # pixels: with auto, pictures of one camera that are nearer are left as they are
ASKED = 0.1  # pixels: the same where a model was asked for
SEEN = 3.0  # pixels: of an infrared-visible pair, about what registered ones of the field are off
AUTO_MODEL = "homography"


class Found(NamedTuple):
    """Of one picture."""

    alignment: Alignment | None = None  # None: not looked for
    warped: bool = False  # whether the picture is brought over image 1
    note: str | None = None  # for people


def alignments(
    outlines: Iterable[np.ndarray], size: tuple[int, int], *, align: str, one_camera: bool
) -> Iterator[Found]:
    """For pictures 2, 3 ... whose outlines follow that of image 1, see registration/alignment.py.

    Args:
      size: height and width of all. align: as in `Preparation`, but not "off".
      one_camera: brackets, focus, stacks: what differs is no other kind of light.
    Raises ValueError for a model that was asked for and is not sure, and for a file that does not fit.
    """
    if align not in ("auto", "translation", "homography"):
        yield from _from_file(Path(align), sum(1 for _ in outlines) - 1, size)
        return
    outlines = iter(outlines)
    first = next(outlines)
    model = AUTO_MODEL if align == "auto" else align
    near: tuple[np.ndarray, Alignment] | None = None  # the last one that is known
    for number, outline in enumerate(outlines, 2):
        one = measure(first, outline, size, model=model)
        if not one.sure and near:
            one = _through(*near, outline, one)
        near = (outline, one) if one.sure else near
        yield _chosen(one, number) if align != "auto" else _auto(one, number, one_camera)


def _through(outline: np.ndarray, known: Alignment, other: np.ndarray, direct: Alignment) -> Alignment:
    """By way of a picture that is nearer to this one than image 1 is, as neighbours in a bracket are."""
    step = measure(outline, other, known.size, model=known.model)
    if not step.sure:
        return direct
    return step._replace(matrix=step.matrix @ known.matrix, score=min(step.score, known.score))


def _chosen(one: Alignment, number: int) -> Found:
    if not one.sure:
        raise ValueError(
            f"image {number} cannot be aligned with image 1: score {one.score:.2f}, under {SURE:.2f}, so it "
            "may be wrong; use --align off, or an alignment file of the same cameras"
        )
    return Found(one, one.moved >= ASKED, _told(one, number, "was"))


def _auto(one: Alignment, number: int, one_camera: bool) -> Found:
    if not one.sure:
        return Found(
            one, note=f"image {number} may not fit image 1: not known, score {one.score:.2f} under {SURE:.2f}"
        )
    if one.moved < (LEAST if one_camera else SEEN):
        return Found(one)
    if one_camera:
        return Found(one, True, _told(one, number, "was"))
    return Found(one, note=_told(one, number, "seems") + "; --align homography brings it over")


def _told(one: Alignment, number: int, verb: str) -> str:
    return (
        f"image {number} {verb} {one.moved:.1f} px and {abs(one.degrees):.2f} degrees off image 1 "
        f"(score {one.score:.2f})"
    )


def _from_file(file: Path, count: int, size: tuple[int, int]) -> Iterator[Found]:
    known = fixed.load(file)
    if len(known) != count:
        raise ValueError(f"{file} is for {len(known) + 1} pictures, not {count + 1}; make one for these")
    for number, one in enumerate(known, 2):
        if one.size != size:
            (height, width), (other_height, other_width) = size, one.size
            raise ValueError(
                f"{file} is for {other_width} x {other_height} pixels, the pictures have {width} x {height}; "
                "make one for this size"
            )
        moved = geometry.distance(one.matrix, np.eye(3), size)
        yield Found(one, moved >= ASKED, f"image {number} is brought over image 1 by {file}, {moved:.1f} px")
