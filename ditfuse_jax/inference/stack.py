# SPDX-License-Identifier: Apache-2.0
"""Three and more pictures of one scene: decision by decision, each new picture against the result so far.

    picture 1 --+
                +-- result --+
    picture 2 --+            +-- result ...     the pixels of a result are those of its pictures, so nothing
    picture 3 ---------------+                  is encoded twice

Which picture comes when follows from sharpness or brightness, never from its name.
"""

import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax import fidelity, image
from ditfuse_jax.image import Origin, Picture
from ditfuse_jax.inference.scene import in_colours_of
from ditfuse_jax.inference.scene import plain as plain_origin
from ditfuse_jax.inference.timings import Timings
from ditfuse_jax.prompt import kind_of, render
from ditfuse_jax.task import only_chooses, request

MOST = 100  # pictures
TASKS = {"multi-focus": "mff", "multi-exposure": "mef"}  # kind -> the task of every decision but the last


def is_stack(images) -> bool:
    """Whether these are three or more; one array [H, W, 3] is one picture."""
    one = isinstance(images, str | Path) or getattr(images, "ndim", 4) < 4
    return not one and len(images) > 2


class Look(NamedTuple):
    """What the order of a stack follows from."""

    size: tuple[int, int]  # height, width
    brightness: float  # mean luminance, 0 to 255
    sharpness: float  # mean absolute difference of neighbours
    colour: float = 0.0  # mean difference of red and blue from green, 0 to 255


def look(picture: np.ndarray) -> Look:
    """Of uint8 [H, W, 3]."""
    luma = image.luma(picture)
    steps = np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()
    apart = cv2.absdiff(picture[..., 0], picture[..., 1]), cv2.absdiff(picture[..., 2], picture[..., 1])
    colour = max(float(each.mean()) for each in apart)
    return Look(luma.shape, float(luma.mean()), float(steps), colour)


def check_one_kind(looks: Sequence[Look]) -> None:
    """Raises ValueError where infrared and visible pictures are mixed: some grey, some coloured.

    Without contrast a picture of any camera is grey.
    """
    grey = [n for n, look in enumerate(looks, 1) if look.colour == 0 and look.sharpness > 1]
    coloured = [n for n, look in enumerate(looks, 1) if look.colour > 2]
    if grey and coloured:
        raise ValueError(
            f"image {grey[0]} is grey and image {coloured[0]} coloured, but a stack is of one camera; fuse "
            "the visible ones first, then their result with the infrared one"
        )


def check(images: Sequence, *, kind: str | None, strength: float) -> None:
    """Raises ValueError for a number of pictures, a kind and a fidelity that make no stack."""
    if len(images) > MOST:
        raise ValueError(f"{len(images)} images to fuse, more than {MOST}; fuse parts of the stack first")
    if kind == "multi-modalities":
        raise ValueError(
            f"{len(images)} images and task ivif, which takes one visible and one infrared image; fuse the "
            "visible ones first, then their result with the infrared one"
        )
    if strength == 0:
        raise ValueError(
            f"{len(images)} images at fidelity 0: each decision would redraw the one before; use --fidelity 1"
        )


def order(looks: Sequence[Look], kind: str | None) -> list[int]:
    """Indices in the order of the decisions: the brightest and the darkest exposure first, then inward; focus
    from sharp to blurred; others as given.
    """
    indices = range(len(looks))
    if kind == "multi-exposure":
        rising = sorted(indices, key=lambda i: looks[i].brightness)
        return [rising[(-1 - i // 2) if i % 2 == 0 else i // 2] for i in indices]
    if kind == "multi-focus":
        return sorted(indices, key=lambda i: -looks[i].sharpness)
    return list(indices)


def results(
    fuse_prompts: Callable,
    images: Sequence,
    prompts: Sequence[str],
    *,
    strength: float,
    on_step: Callable | None,
    bits: str,
    maps: bool,
    **how,
) -> Iterator:
    """The `Fused` of a stack for each prompt, as `DiTFuse.fuse_prompts` gives them.

    fuse_prompts: what fuses two of its pictures. strength: the fidelity. on_step: counted on over all
    decisions. how: seed and options, the same for every decision.
    """

    def one(prompt: str):
        count = itertools.count(1)
        watch = on_step and (lambda _, latents: on_step(next(count), latents))

        def pair(two, words: str, bits: int):
            return next(fuse_prompts(two, [words], on_step=watch, bits=bits, **how))

        made = fuse(pair, images, render(prompt), strength=strength, bits=bits)
        return made if maps else made._replace(pixels=None, weights=None, invented=None)

    yield from map(one, prompts)


def fuse(pair: Callable, images: Sequence, prompt: str, *, strength: float, bits: str = "auto"):
    """The result of a stack.

    Args:
      pair: (two pictures, prompt, bits) -> their `Fused`.
      images: three or more, as `image.read_picture` takes them; each is read once, two are in memory at once.
      prompt: rendered. Words that do more than choose are said once, with the last picture.
      strength: the fidelity. bits: "8" or "16" of the result; "auto": as of image 1.

    Returns the last `Fused`, whose weights are the place of each pixel in the stack, float32 [H, W]: 1 the
    first image given, 0 the last; whose `invented` is the largest of all decisions; timings are their sum;
    origin is that of image 1, in whose colours it is.
    Raises ValueError as `check` and `image.read_picture` do, and for pictures of different sizes.
    """
    kind = kind_of(prompt)
    check(images, kind=kind, strength=strength)
    with tempfile.TemporaryDirectory(prefix="ditfuse-stack-") as folder:
        shelf = shelve(images, Path(folder))
        return _decide(pair, shelf, kind, prompt, shelf.bits if bits == "auto" else int(bits))


def _decide(pair: Callable, shelf: "Shelf", kind: str | None, prompt: str, bits: int):
    looks, count = shelf.looks, len(shelf.looks)
    chosen = order(looks, kind)
    plain = prompt if only_chooses(prompt) else request(task=TASKS.get(kind, "fuse"))
    place = [1 - index / (count - 1) for index in range(count)]
    result, made = shelf.take(chosen[0]), None
    where = np.full(looks[0].size, place[chosen[0]], np.float32)
    invented, timings = np.zeros(looks[0].size, np.float32), []
    for index in chosen[1:]:
        first, new = True, shelf.take(index)
        if kind == "multi-exposure":  # the model knows the brighter one as the first
            first = look_at(result).brightness >= looks[index].brightness
        made = pair((result, new) if first else (new, result), prompt if index == chosen[-1] else plain, bits)
        share = made.weights if first else 1 - made.weights
        where = share * where + (1 - share) * np.float32(place[index])
        invented = np.maximum(invented, made.invented)
        timings.append(made.timings)
        result = Picture(made.image, plain_origin(shelf.origin))
    return made._replace(
        latents=None,
        weights=where,
        invented=invented,
        explained=float(np.mean(invented <= fidelity.EXPLAINED)),
        timings=functools.reduce(Timings.plus, timings),
        origin=shelf.origin,
    )


class Shelf(NamedTuple):
    """The pictures of a stack, decoded once, as files of pixels in the colours of image 1."""

    folder: Path
    looks: list[Look]
    origin: Origin  # of image 1
    bits: int  # of image 1

    def take(self, index: int) -> Picture:
        return Picture(np.load(self.folder / f"{index}.npy"), plain_origin(self.origin))


def shelve(images: Sequence, folder: Path) -> Shelf:
    """Reads every picture; raises ValueError where one cannot be read or has another size than the first."""
    looks, origin, bits = [], None, 8
    for number, source in enumerate(images, 1):
        picture = image.read_picture(source)
        if origin is None:
            origin, bits = picture.origin, picture.bits
        picture = in_colours_of(origin, picture)
        looks.append(look_at(picture))
        if looks[-1].size != looks[0].size:
            (height, width), (first_height, first_width) = looks[-1].size, looks[0].size
            raise ValueError(
                f"different sizes: image 1 {first_width} x {first_height} and image {number} "
                f"{width} x {height}; register the stack, then crop or resize all to one size"
            )
        np.save(folder / f"{number - 1}.npy", picture.pixels)
    check_one_kind(looks)
    return Shelf(folder, looks, origin, bits)


def look_at(picture: Picture) -> Look:
    """As the model sees it."""
    return look(image.seen(picture.pixels, picture.origin.profile))
