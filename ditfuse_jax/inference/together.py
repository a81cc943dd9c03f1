# SPDX-License-Identifier: Apache-2.0
"""Which pictures of a run go through the networks together, on one batch axis.

    a  b  c | d | e  f  f      e, f: the last two, filled up for the program of three; d: in tiles

Neighbours in the order of the jobs that say the same and have rows of one length, upright or not: so results
come in the order of the jobs, and padding costs nothing.
"""

import contextlib
import itertools
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from ditfuse_jax import image
from ditfuse_jax.config import SamplingConfig
from ditfuse_jax.inference import forecast, settings
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.inference.jobs import Job
from ditfuse_jax.inference.plan import batch_size, halves
from ditfuse_jax.ops.memory import device_bytes

ROOM = 0.8  # of the device's memory: the plan may be a fifth too low
WASTE = 0.5  # of what there is to do: where a batch pays, one more picture in it costs less than alone


class Batch(NamedTuple):
    scenes: list[list[Job]]  # the jobs of each; several scenes have one each
    size: int  # pictures that the programs are for: filled up where there are fewer scenes


def batches(
    model: DiTFuse, jobs: Sequence[Job], chosen: SamplingConfig, *, bits: str, maps: bool, most: int | None
) -> list[Batch]:
    """All jobs in their order, those with the same images together.

    Args:
      bits: as in `making.run`. maps: whether they are kept of every picture.
      most: pictures at once whatever the memory; None: `Tuning.pictures`, as far as memory allows.
    Files are read by their headers, and only where there may be several at once.
    """
    scenes = _by_images(jobs)
    if (most or model.transformer.tuning.pictures) == 1:
        return [Batch([scene], 1) for scene in scenes]
    found = []
    both = zip(scenes, _kinds(model, scenes, chosen, bits), strict=True)
    for alike, neighbours in itertools.groupby(both, operator.itemgetter(1)):
        run, largest = [scene for scene, _ in neighbours], 1
        with contextlib.suppress(ValueError, OSError):  # which is told with the picture
            largest = (most or fitting(model, run[0][0], chosen, maps=maps)) if alike else 1
        size = batch_size(len(run), largest, waste=WASTE)
        found += [Batch(run[start : start + size], size) for start in range(0, len(run), size)]
    return found


def _by_images(jobs: Sequence[Job]) -> list[list[Job]]:
    groups: dict[tuple[Path, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.images, []).append(job)
    return list(groups.values())


def _kinds(model: DiTFuse, scenes: Sequence[list[Job]], chosen: SamplingConfig, bits: str) -> list:
    """Of each scene what the members of a batch have in common, None where it is made alone.

    A file without a readable header does not part its neighbours; that it fails is told in its place.
    """
    kinds, last = [], None
    for scene in scenes:
        with contextlib.suppress(ValueError, OSError):
            last = _kind_of(model, scene, chosen, bits)
        kinds.append(last)
    return kinds


def _kind_of(model: DiTFuse, scene: list[Job], chosen: SamplingConfig, bits: str) -> tuple | None:
    job = scene[0]
    if len(scene) > 1 or len(job.images) > 2 or job.weights or job.invented:
        return None
    length = forecast.row_length(model.config, image.read_size(job.images[0]), chosen)
    return length and (length, job.prompt, bool(job.mask), image.depth_of(job.out, bits, 16))


def fitting(model: DiTFuse, job: Job, chosen: SamplingConfig, *, maps: bool) -> int:
    """The most pictures like that of `job` at once whose planned memory leaves some of the device's free."""
    size, room = image.read_size(job.images[0]), device_bytes(jax.local_devices()[0])
    how = {"bits": image.read_depth(job.images[0]), "maps": maps, "overlaps": True}

    def fits(count: int) -> bool:
        plan = model.plan(*size, job.prompt, batch=count, **how, **settings.values(chosen))
        return plan.memory <= ROOM * room

    sizes = halves(model.transformer.tuning.pictures)
    return next(count for count in sizes if count == 1 or room is None or fits(count))
