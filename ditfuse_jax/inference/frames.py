# SPDX-License-Identifier: Apache-2.0
"""The pictures of a folder as frames of one sequence, in the order of their names."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ditfuse_jax import image
from ditfuse_jax.inference import prepare, steady, thermal
from ditfuse_jax.inference.jobs import Job
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.prompt import kind_of

SIDE = 1024  # pixels of the middle that is compared
STILL = 0.5  # of them: from here on a camera stands still
EQUAL = 0.1  # of the values of two frames differ at most where there is no noise


def with_one_range(jobs: Sequence[Job], how: Preparation) -> Preparation:
    """The range of counts that all frames share, unless one is given, so that equal counts look equal."""
    limits = None if how.thermal_range else one_range((job.images, kind_of(job.prompt)) for job in jobs)
    return how if limits is None else dataclasses.replace(how, thermal_range=tuple(limits))


def one_range(scenes: Iterable[tuple[Sequence[Path], str | None]]) -> thermal.Range | None:
    """The lowest and the highest of the infrared pictures of all; None without counts.

    scenes: files and the prompt's tag. Files that cannot be read are left to the error of their own row.
    """
    found = []
    for files, kind in scenes:
        with contextlib.suppress(ValueError, OSError):
            counts = image.read_counts(files[-1]) if prepare.is_thermal(files, kind) else None
            found += [] if counts is None else [thermal.used(counts)]
    return thermal.Range(min(r.low for r in found), max(r.high for r in found)) if found else None


def alike(jobs: Sequence[Job]) -> float:
    """In how much of image 1 the first two frames differ by noise alone, see steady.py; 0 for equal frames,
    for stacks and for what cannot be compared.
    """
    if len(jobs) < 2 or len(jobs[0].images) > 2:
        return 0.0
    with contextlib.suppress(ValueError, OSError):
        first, second = (_middle(image.read_picture(job.images[0]).pixels) for job in jobs[:2])
        like = first.shape == second.shape and first.dtype == second.dtype
        if like and np.mean(first != second) > EQUAL:
            return float(steady.still(first, second).mean())
    return 0.0


def told(jobs: Sequence[Job], say: Callable[[str], None]) -> None:
    """Says of a camera that stands still what makes its frames flicker less."""
    if (share := alike(jobs)) > STILL:
        say(f"frames      the first two differ by noise alone in {share:.0%}; --steady lowers the flicker")


def _middle(pixels: np.ndarray) -> np.ndarray:
    """At most SIDE x SIDE of them, on their own."""
    top, left = (max(0, (side - SIDE) // 2) for side in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE].copy()
