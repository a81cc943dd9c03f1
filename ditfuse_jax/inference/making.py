# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of a list of jobs: read, sampled, decoded and written, and told what became of each."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax import image
from ditfuse_jax.config import SamplingConfig
from ditfuse_jax.inference import maps, marks, stack, thermal
from ditfuse_jax.inference import settings as options
from ditfuse_jax.inference.ahead import overlapped
from ditfuse_jax.inference.fuse import DiTFuse, Fused, finished
from ditfuse_jax.inference.jobs import AUTO, PLAIN, Failure, Job, check_apart, check_outputs, metadata
from ditfuse_jax.inference.plan import Plan
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.inference.prepare import Prepared
from ditfuse_jax.registration import fixed


class Made(NamedTuple):
    """A job that has ended: written, or not."""

    job: Job
    result: Fused | None
    error: ValueError | OSError | None = None


class Report(NamedTuple):
    written: tuple[Path, ...]
    failed: tuple[Failure, ...]


class Watch(NamedTuple):
    """What a run tells while it works, all from the thread that called it.

    A picture is decoded and written while the next one is read and sampled: on_plan and on_step of that one
    come before on_done of this one.
    """

    on_plan: Callable[[Job, Plan], None]  # before each picture
    on_step: Callable[[], None]  # after each sampling step
    on_done: Callable[[Job, Fused], None]
    on_failure: Callable[[Failure], None]
    on_note: Callable[[Job, str], None]  # what was found in the pictures, before they are fused


def run(
    model: DiTFuse,
    jobs: Sequence[Job],
    settings: SamplingConfig,
    *,
    seed: int,
    watch: Watch,
    go_on: bool,
    overwrite: bool = False,
    bits: str = AUTO,
    how: Preparation = PLAIN,
) -> Report:
    """Makes all pictures; jobs with the same images follow each other, and share what they can.

    Each is decoded and written while the next one is read and sampled, see ahead.py.

    bits: of the results, see `image.BITS`; auto: as of image 1, as far as the format has them.
    how: what is done to the pictures first.

    With go_on a job that fails is reported and the next one begins; else its ValueError or OSError leaves.
    Raises ValueError as `check_outputs` does.
    """
    check_outputs(jobs, overwrite=overwrite, bits=bits)
    written, failed = [], []
    sampled = _sample(model, jobs, settings, seed, watch, overwrite, bits, how)
    for made in overlapped(sampled):
        if made.error is None:
            written.append(made.job.out)
            watch.on_done(made.job, made.result)
        elif go_on:
            failed.append(Failure(made.job.out, str(made.error)))
            watch.on_failure(failed[-1])
        else:
            raise made.error
        del made  # the picture need not wait in memory for the next one
    return Report(tuple(written), tuple(failed))


def _sample(model: DiTFuse, jobs: Sequence[Job], *asked) -> Iterator[Callable[[], Made]]:
    """What ends each job, which is sampled when it is taken. asked: the other arguments of `_scene`."""
    several = len(jobs) > 1
    for group in _by_scene(jobs):
        left = list(group)
        try:
            for finish in _scene(model, group, *asked, overlaps=several):
                yield functools.partial(_ended, left.pop(0), finish)
        except (ValueError, OSError) as error:
            for job in left:
                yield functools.partial(Made, job, None, error)


def _ended(job: Job, finish: Callable[[], Fused]) -> Made:
    try:
        return Made(job, finish())
    except (ValueError, OSError) as error:
        return Made(job, None, error)


def _by_scene(jobs: Sequence[Job]) -> list[list[Job]]:
    groups: dict[tuple[Path, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.images, []).append(job)
    return list(groups.values())


def _scene(
    model: DiTFuse,
    group: list[Job],
    settings: SamplingConfig,
    seed: int,
    watch: Watch,
    overwrite: bool,
    bits: str,
    how: Preparation,
    *,
    overlaps: bool,
) -> Iterator[Callable[[], Fused]]:
    """Samples jobs that share their images, one at a time; the function decodes and writes one."""
    files, chosen = group[0].images, options.values(settings)
    check_apart(files)
    plane = thermal.own_values(files) if group[0].temperatures else None
    ready = model.prepare(
        files, group[0].prompt, how, before=group[0].before, **chosen
    )  # once for all prompts
    first = image.read_depth(files[0]) if stack.is_stack(files) else ready[0].bits
    for job in group:
        image.check_fits(job.out, *ready.size)
    for note in ready.told.notes:
        watch.on_note(group[0], note)
    depth = image.depth_of(group[0].out, bits, first)
    wanted = any(job.weights or job.invented for job in group)
    asked = {"seed": seed, "bits": depth, "maps": wanted or bool(how.palette)}
    kept = asked["maps"] or len(files) > 2  # a stack needs the maps of its decisions
    planned = {"bits": max(first, depth), "maps": kept, "overlaps": overlaps}
    plan = model.plan(*ready.size, group[0].prompt, **planned, **chosen)
    plan = plan._replace(decisions=len(ready) - 1, bits=(first, depth))
    marked, below = any(job.mask for job in group), None  # below the marks: fused once for all prompts
    prompts = [marks.PLAIN] * marked + [job.prompt for job in group]
    sampled = model.sample_prompts(ready, prompts, on_step=lambda *_: watch.on_step(), **asked, **chosen)
    text = {"seed": seed, "checkpoint": model.checkpoint_id, "bits": bits, "how": how}
    for job in group:
        both = marked and below is None
        watch.on_plan(job, plan._replace(fusions=2) if both else plan)
        below = functools.cache(next(sampled)) if both else below
        about = metadata(job, settings, **text) | dict(ready.told.facts)
        result = functools.partial(_result, next(sampled), ready, how, maps=wanted)
        yield functools.partial(_write, job, result, below, plane, about, overwrite)


def _result(finish: Callable[[], Fused], ready: Prepared, how: Preparation, *, maps: bool) -> Fused:
    return finished(finish(), ready, how, maps=maps)


def _write(
    job: Job,
    finish: Callable[[], Fused],
    below: Callable[[], Fused] | None,
    plane: np.ndarray | None,
    text: dict[str, str],
    overwrite: bool,
) -> Fused:
    """Makes and writes all files of a job.

    below: what the mask is found against, made first. plane: the infrared picture's own values, where they
    are wanted. text: the metadata.
    """
    plain = below and below()
    result = finish()
    told = text if result.explained is None else text | {"explained": f"{result.explained:.4f}"}
    image.write(job.out, result.image, metadata=told, overwrite=overwrite, origin=result.origin)
    if job.weights:
        maps.write_weights(job.weights, result.weights, metadata=text, overwrite=overwrite)
    if job.invented:
        maps.write_invented(job.invented, result.invented, metadata=text, overwrite=overwrite)
    if job.alignment:
        fixed.save(job.alignment, result.told.alignments)
    if job.mask:
        maps.write_mask(job.mask, marks.mask(result, plain), metadata=text, overwrite=overwrite)
    if job.temperatures:
        image.write_plane(job.temperatures, plane, metadata=text, overwrite=overwrite)
    return result
