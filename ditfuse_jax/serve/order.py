# SPDX-License-Identifier: Apache-2.0
"""One fusion that was asked for, checked before it waits: pictures, words, seed, settings."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ditfuse_jax import image
from ditfuse_jax.bounds import check_seed
from ditfuse_jax.inference import settings, shapes, stack
from ditfuse_jax.inference.fuse import DiTFuse, Fused
from ditfuse_jax.prompt import kind_of, load_tokenizer
from ditfuse_jax.serve.limits import MEGA, Limits
from ditfuse_jax.task import request


class Picture(NamedTuple):
    """A file that the server keeps for a client."""

    file: Path  # named by the server
    name: str  # as the client calls it; only ever shown, never opened


class TooLarge(ValueError):
    """A picture, or a number of them, over a limit of the server."""


@dataclass(frozen=True)
class Order:
    """What the worker makes, see `DiTFuse.fuse`."""

    pictures: tuple[Picture, ...]
    prompt: str
    seed: int
    options: tuple[tuple[str, object], ...]  # every setting with its value
    size: tuple[int, int]  # height, width of the pictures, as their files say
    alone: bool  # in tiles, or a stack: never in a batch
    finish: Callable[[Fused], object]  # what the client gets of the result; called by the worker

    @property
    def group(self):
        """Orders of one group go through the model together."""
        return (self.size, len(self.pictures), self.options)


def told(error: Exception, pictures: Sequence[Picture]) -> str:
    """The sentence of an error, in the client's names for the files."""
    words = str(error)
    for picture in pictures:
        words = words.replace(str(picture.file), picture.name)
    return words


def words(fields: Mapping[str, object]) -> str:
    """The whole prompt of `prompt`, `task`, `object`, `segment` and `tag`; ValueError as `task.request`."""
    segment = tuple(name.strip() for name in (fields.get("segment") or "").split(",") if name.strip())
    return request(
        fields.get("prompt") or None,
        task=fields.get("task") or None,
        segment=segment,
        thing=fields.get("object") or None,
        tag=fields.get("tag"),
    )


def metadata(model: DiTFuse, prompt: str, seed: int, options: Mapping[str, object]) -> dict[str, str]:
    """What the picture is made with, as in the metadata of files that `ditfuse fuse` writes."""
    chosen = settings.as_text(model.settings(**options))
    return {"prompt": prompt, "seed": str(seed), **chosen, "checkpoint": model.checkpoint_id}


def planner(model: DiTFuse) -> DiTFuse:
    """The same model with a tokenizer of its own: a tokenizer serves one thread at a time."""
    return dataclasses.replace(model, tokenizer=load_tokenizer(model.folder))


def planned(
    model: DiTFuse,
    limits: Limits,
    size: tuple[int, int],
    prompt: str,
    options: Mapping[str, object],
) -> dict:
    """The plan of a fusion of pictures of size (height, width) as JSON values; ValueError for a size that
    cannot be fused.
    """
    image.check_size(*size, "the pictures")
    check_pixels(*size, "the pictures", limits)
    plan = model.plan(*size, prompt, **options)
    return {
        "fused": list(plan.geometry.fused),
        "tiles": len(plan.tiling.corners) if plan.tiling else 0,
        "trained": plan.trained,
        "steps": plan.calls,
        "memory_bytes": plan.memory,
        "seconds": round(plan.seconds, 2),
        "settings": settings.values(plan.settings),
    }


def check_pictures(pictures: Sequence[Picture], limits: Limits) -> tuple[int, int]:
    """Height, width of the pictures by their headers; ValueError for those that cannot be fused or are over
    a limit. No pixels are decoded.
    """
    if len(pictures) > limits.max_images:
        raise TooLarge(f"{len(pictures)} pictures, more than {limits.max_images}; send fewer")
    if len(pictures) < 2:
        raise ValueError(f"{len(pictures)} pictures to fuse; give two or more of one size")
    sizes = []
    for picture in pictures:
        if picture.file.stat().st_size > limits.max_megabytes * MEGA:
            raise TooLarge(
                f"{picture.name}: over {limits.max_megabytes} megabytes, the most that this server takes"
            )
        height, width = image.read_size(picture.file)
        check_pixels(height, width, picture.name, limits)
        sizes.append((height, width))
    return sizes[0]


def check_pixels(height: int, width: int, name: str, limits: Limits) -> None:
    if height * width > limits.max_megapixels * MEGA:
        raise TooLarge(
            f"{name}: {height * width / MEGA:.0f} megapixels, more than {limits.max_megapixels}; "
            "scale the picture down first"
        )


def check_order(
    model: DiTFuse,
    limits: Limits,
    *,
    pictures: Sequence[Picture],
    prompt: str,
    options: Mapping[str, object],
    finish: Callable[[Fused], object],
    seed: int = 0,
) -> Order:
    """The order; ValueError with the sentence of the command line for what cannot be done."""
    chosen = model.settings(**options)
    check_seed(seed)
    try:
        size = check_pictures(pictures, limits)
        known = model.config.shapes
        tiled = shapes.choose_tiles(*size, known, chosen)
        if tiled is None:
            shapes.choose(*size, known, max_side=chosen.max_side)
    except ValueError as error:
        kind = TooLarge if isinstance(error, TooLarge) else ValueError
        raise kind(told(error, pictures)) from error
    values = tuple(settings.values(chosen).items())
    several = len(pictures) > 2
    if several:
        stack.check(pictures, kind=kind_of(prompt), strength=chosen.fidelity)
    return Order(tuple(pictures), prompt, seed, values, size, several or tiled is not None, finish)
