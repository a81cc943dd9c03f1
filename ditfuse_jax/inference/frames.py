# SPDX-License-Identifier: Apache-2.0
"""The pictures of a folder as frames of one sequence, in the order of their names."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ditfuse_jax import image
from ditfuse_jax.inference import prepare, steady, thermal
from ditfuse_jax.inference.jobs import Job
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.prompt import kind_of


def settled(jobs: Sequence[Job], how: Preparation, strength: float) -> Preparation:
    """What is done to frames that are fused at this fidelity; decoded ones are steady by themselves."""
    steady = "off" if how.steady == "auto" and strength == 0 else how.steady
    return with_one_range(jobs, dataclasses.replace(how, steady=steady))


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


def told(jobs: Sequence[Job], say: Callable[[str], None]) -> None:
    """Says of a camera that stands still what --steady auto does with its frames."""
    if len(jobs) < 2 or len(jobs[0].images) > 2:
        return
    with contextlib.suppress(ValueError, OSError):
        first, second = (image.read_picture(job.images[0]) for job in jobs[:2])
        if (share := steady.alike(second, first)) > steady.STILL:
            say(
                f"frames      the first two differ by noise alone in {share:.0%}; such a frame is averaged "
                "with the one before, where nothing changes; --steady off keeps it alone"
            )
