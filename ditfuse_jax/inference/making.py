# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of a list of jobs: read, sampled, decoded and written, and told what became of each."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax import image
from ditfuse_jax.config import SamplingConfig
from ditfuse_jax.inference import maps, marks, stack, thermal, together
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

    Pictures are decoded and written while the next ones are read and sampled: on_plan and on_step of those
    come before on_done of these.
    """

    on_plan: Callable[[Job, Plan], None]  # before each picture
    on_step: Callable[[], None]  # after each sampling step of a picture
    on_done: Callable[[Job, Fused], None]
    on_failure: Callable[[Failure], None]
    on_note: Callable[[Job, str], None]  # what was found in the pictures, before they are fused


class _Run(NamedTuple):
    """What all jobs of a run share."""

    model: DiTFuse
    settings: SamplingConfig
    seed: int
    watch: Watch
    overwrite: bool
    bits: str
    how: Preparation
    overlaps: bool  # whether pictures are finished while others are sampled


class _Scene(NamedTuple):
    """Jobs that share their images, which are read."""

    jobs: list[Job]
    pictures: Prepared | None = None
    plane: np.ndarray | None = None  # the infrared picture's own values, where they are wanted
    plan: Plan | None = None
    error: ValueError | OSError | None = None  # why there is none of these


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
    batch: int | None = None,
) -> Report:
    """Makes all pictures; jobs with the same images follow each other, and share what they can.

    Each is decoded and written while the next ones are read and sampled, see ahead.py.

    bits: of the results, see `image.BITS`; auto: as of image 1, as far as the format has them.
    how: what is done to the pictures first. batch: pictures at once, see `together.batches`.

    With go_on a job that fails is reported and the next one begins; else its ValueError or OSError leaves.
    Raises ValueError as `check_outputs` does.
    """
    check_outputs(jobs, overwrite=overwrite, bits=bits)
    written, failed = [], []
    shared = _Run(model, settings, seed, watch, overwrite, bits, how, overlaps=len(jobs) > 1)
    for made in itertools.chain.from_iterable(overlapped(_sample(shared, jobs, batch))):
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


def _sample(run: _Run, jobs: Sequence[Job], most: int | None) -> Iterator[Callable[[], list[Made]]]:
    """What ends the jobs of each batch, in their order; they are sampled when it is taken."""
    how = {"bits": run.bits, "maps": bool(run.how.palette), "most": most}
    for batch in together.batches(run.model, jobs, run.settings, **how):
        scenes = [_read(run, jobs, batch.size) for jobs in batch.scenes]
        sampled = _sampled(run, [scene for scene in scenes if scene.error is None], batch.size)
        for number in range(len(scenes[0].jobs)):
            good = iter(next(sampled, ()))
            ends = [_failed(s.jobs[number], s.error) if s.error else next(good) for s in scenes]
            yield functools.partial(_all, ends)


def _read(run: _Run, jobs: list[Job], size: int) -> _Scene:
    """The scene of jobs that share their images, to be sampled for programs of `size` pictures."""
    try:
        return _prepared(run, jobs, size)
    except (ValueError, OSError) as error:
        return _Scene(jobs, error=error)


def _prepared(run: _Run, jobs: list[Job], size: int) -> _Scene:
    job, chosen = jobs[0], options.values(run.settings)
    check_apart(job.images)
    plane = thermal.own_values(job.images) if job.temperatures else None
    pictures = run.model.prepare(job.images, job.prompt, run.how, before=job.before, **chosen)
    first = image.read_depth(job.images[0]) if stack.is_stack(job.images) else pictures[0].bits
    for each in jobs:
        image.check_fits(each.out, *pictures.size)
    for note in pictures.told.notes:
        run.watch.on_note(job, note)
    depth = image.depth_of(job.out, run.bits, first)
    kept = _keeps_maps(run, jobs) or len(job.images) > 2  # a stack needs the maps of its decisions
    planned = {"bits": max(first, depth), "maps": kept, "overlaps": run.overlaps, "batch": size}
    plan = run.model.plan(*pictures.size, job.prompt, **planned, **chosen)
    plan = plan._replace(decisions=len(pictures) - 1, bits=(first, depth))
    return _Scene(jobs, pictures, plane, plan)


def _keeps_maps(run: _Run, jobs: list[Job]) -> bool:
    return bool(run.how.palette) or any(job.weights or job.invented for job in jobs)


def _sampled(run: _Run, scenes: list[_Scene], size: int) -> Iterator[list[Callable[[], Made]]]:
    """`_sampling`, with an end that fails for each job that was not sampled."""
    left = [
        [scene.jobs[number] for scene in scenes] for number in range(len(scenes[0].jobs) if scenes else 0)
    ]
    try:
        for ends in _sampling(run, scenes, size) if scenes else ():
            left.pop(0)
            yield ends
    except (ValueError, OSError) as error:
        if len(scenes) > 1:  # one of them is to blame; the others are made
            yield [end for scene in scenes for end in next(_sampled(run, [scene], size))]
        else:
            yield from ([_failed(*jobs, error)] for jobs in left)


def _sampling(run: _Run, scenes: list[_Scene], size: int) -> Iterator[list[Callable[[], Made]]]:
    """Samples scenes on one batch axis, a job of each at a time; the functions decode and write one."""
    jobs = scenes[0].jobs
    marked, below = any(job.mask for job in jobs), [None] * len(scenes)
    prompts = [marks.PLAIN] * marked + [job.prompt for job in jobs]
    # of files that hold 16 bits as deep as image 1, which in a batch is each one's own
    bits = (
        AUTO if run.bits == AUTO and image.depth_of(jobs[0].out, AUTO, 16) == 16 else scenes[0].plan.bits[1]
    )
    asked = {"rows": size, "seed": run.seed, "bits": bits, "maps": _keeps_maps(run, jobs)}

    def on_step(*_) -> None:
        for _ in scenes:
            run.watch.on_step()

    pictures = [scene.pictures for scene in scenes]
    sampled = run.model.sample_batch(
        pictures, prompts, on_step=on_step, **asked, **options.values(run.settings)
    )
    for number in range(len(jobs)):
        first = marked and number == 0  # below the marks: fused once for all prompts
        for scene in scenes:
            run.watch.on_plan(scene.jobs[number], scene.plan._replace(fusions=2) if first else scene.plan)
        below = [functools.cache(finish) for finish in next(sampled)] if first else below
        each = zip(scenes, next(sampled), below, strict=True)
        yield [functools.partial(_ended, run, scene, number, *both) for scene, *both in each]


def _all(ends: list[Callable[[], Made]]) -> list[Made]:
    return [end() for end in ends]


def _failed(job: Job, error: ValueError | OSError) -> Callable[[], Made]:
    return functools.partial(Made, job, None, error)


def _ended(run: _Run, scene: _Scene, number: int, finish: Callable, below: Callable | None) -> Made:
    """Decodes and writes the result of one job of a scene.

    below: what the mask is found against, made first.
    """
    job, wanted = scene.jobs[number], any(job.weights or job.invented for job in scene.jobs)
    text = {"seed": run.seed, "checkpoint": run.model.checkpoint_id, "bits": run.bits, "how": run.how}
    about = metadata(job, run.settings, **text) | dict(scene.pictures.told.facts)
    try:
        plain = below and below()
        result = finished(finish(), scene.pictures, run.how, maps=wanted)
        _write(job, result, plain, scene.plane, about, overwrite=run.overwrite)
    except (ValueError, OSError) as error:
        return Made(job, None, error)
    return Made(job, result)


def _write(
    job: Job,
    result: Fused,
    plain: Fused | None,
    plane: np.ndarray | None,
    text: dict[str, str],
    *,
    overwrite: bool,
) -> None:
    """All files of a job. plain: what the mask is found against. text: the metadata."""
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
