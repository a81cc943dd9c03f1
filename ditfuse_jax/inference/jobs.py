# SPDX-License-Identifier: Apache-2.0
"""Pictures to make from files: which pairs and prompts, in what order, what is written, what failed."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ditfuse_jax import image
from ditfuse_jax.config import SamplingConfig
from ditfuse_jax.inference import maps, scene, stack
from ditfuse_jax.inference import settings as options
from ditfuse_jax.inference.fuse import DiTFuse, Fused
from ditfuse_jax.inference.plan import Plan
from ditfuse_jax.text import lines

AUTO = "auto"


class Job(NamedTuple):
    images: tuple[Path, ...]  # two, or a stack
    prompt: str  # the whole prompt or an instruction, see DiTFuse.fuse
    out: Path
    weights: Path | None = None  # also written: which source, per pixel
    invented: Path | None = None  # how far each pixel is from what the sources explain

    @property
    def files(self) -> list[Path]:
        """All that is written."""
        return [file for file in (self.out, self.weights, self.invented) if file]


class Failure(NamedTuple):
    out: Path
    message: str


class Report(NamedTuple):
    written: tuple[Path, ...]
    failed: tuple[Failure, ...]


class Watch(NamedTuple):
    """What a run tells while it works."""

    on_plan: Callable[[Job, Plan], None]  # before each picture
    on_step: Callable[[], None]  # after each sampling step
    on_done: Callable[[Job, Fused], None]
    on_failure: Callable[[Failure], None]


def folder_jobs(folder: Path, prompt: str, out: Path, *, form: str = AUTO) -> tuple[list[Job], list[Failure]]:
    """One job per stem in `image1/`, `image2/`, ... of a folder, in order of names; results are
    out/<stem>.<form>, with auto .jpg for a JPEG as image 1 and .png for all others.

    Returns also a failure for each image without a partner, and for each stem that a folder has twice. Files
    whose suffix is not of a picture are left out. Raises ValueError if there are no images at all, or if
    `out` holds the inputs.
    """
    names = ["image1", "image2"]
    while (folder / f"image{len(names) + 1}").is_dir():
        names.append(f"image{len(names) + 1}")
    _check_apart(out, (folder, *(folder / name for name in names)))
    sides = [_by_stem(folder / name) for name in names]
    stems = sorted(set().union(*sides))
    if not stems:
        raise ValueError(f"{folder}: image1/ and image2/ hold no images; put pairs of the same name there")
    jobs, lonely = [], []
    for stem in stems:
        target = out / f"{stem}{_suffix(sides[0].get(stem, ()), form)}"
        if twice := next((side[stem] for side in sides if len(side.get(stem, ())) > 1), None):
            names = f"{twice[1]} and {twice[0]}"
            lonely.append(Failure(target, f"{names} have one name; rename or remove one of them"))
        elif missing := next((name for name, side in zip(names, sides, strict=True) if stem not in side), ""):
            have = next(side[stem][0] for side in sides if stem in side)
            lonely.append(Failure(target, f"{have}: no image of the same name in {folder / missing}; add it"))
        else:
            jobs.append(Job(tuple(side[stem][0] for side in sides), prompt, target))
    return jobs, lonely


def _suffix(first: Sequence[Path], form: str) -> str:
    """Of the result whose image 1 is the only one of `first`."""
    if form != AUTO:
        return f".{form}"
    return ".jpg" if first and image.FORMATS.get(first[0].suffix.lower()) == "JPEG" else ".png"


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder; --image-dir needs image1/ and image2/ with images of the same names"
        )
    found = {}
    for file in sorted(folder.iterdir()):
        if image.is_picture(file) and file.is_file():
            found.setdefault(file.stem, []).append(file)
    return found


def prompt_jobs(images: tuple[Path, ...], prompts: Sequence[str], out: Path) -> list[Job]:
    """One job per prompt for one scene; results are out/1.png, out/2.png, ... in the order of the lines.

    Raises ValueError if `out` holds the inputs.
    """
    _check_apart(out, {file.parent for file in images})
    width = len(str(len(prompts)))
    return [Job(images, prompt, out / f"{i:0{width}d}.png") for i, prompt in enumerate(prompts, 1)]


def _check_apart(out: Path, places: Iterable[Path]) -> None:
    """Many results go to a folder of their own; among the photographs, names would meet."""
    for place in places:
        if out.exists() and place.exists() and out.samefile(place):
            raise ValueError(f"{out} holds the images to fuse; choose another folder for the results")


def check_outputs(jobs: Sequence[Job], *, overwrite: bool, bits: str = AUTO) -> None:
    """Raises ValueError, before anything is computed, for a result that cannot be written or must not be.

    overwrite: files that are not results of this program may be replaced. Inputs (also under another name:
    links, case) and symbolic links never are.
    """
    inputs = {
        (file.st_dev, file.st_ino): path for path, file in _stats(path for job in jobs for path in job.images)
    }
    targets = [file for job in jobs for file in job.files]
    for out, file in _stats(targets):
        if source := inputs.get((file.st_dev, file.st_ino)):
            raise ValueError(f"{out} is the input {source}, which would be lost; choose another name")
    for job in jobs:
        if twice := next((file for i, file in enumerate(job.files) if _same(file, job.files[:i])), None):
            raise ValueError(f"{twice} would be written twice; give the result and each map its own name")
    for folder in {file.parent for file in targets}:
        _check_folder(folder)
    for job in jobs:
        image.check_writable(job.out, overwrite=overwrite)
        if bits != AUTO:
            image.check_depth(job.out, int(bits))
        for file in job.files[1:]:
            maps.check_writable(file, overwrite=overwrite)


def _same(file: Path, others: Sequence[Path]) -> bool:
    """Whether `file` is one of others, also by links and case where files exist."""
    return any(file.resolve() == other.resolve() or _one_file(file, other) for other in others)


def _one_file(file: Path, other: Path) -> bool:
    return file.exists() and other.exists() and file.samefile(other)


def _check_folder(folder: Path) -> None:
    """Makes a folder; raises ValueError when no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written to: {error.strerror}; choose another folder for the results"
        ) from error


def _stats(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Those that exist."""
    for path in paths:
        with contextlib.suppress(OSError):
            yield path, path.stat()


def read_prompts(file: Path) -> list[str]:
    """The lines of a prompt file; empty lines and lines that start with # are left out."""
    found = [line.strip() for line in lines(file)]
    prompts = [line for line in found if line and not line.startswith("#")]
    if not prompts:
        raise ValueError(f"{file}: holds no prompt; write one per line")
    return prompts


def unfinished(
    jobs: Sequence[Job], settings: SamplingConfig, *, seed: int, checkpoint: str, bits: str = AUTO
) -> list[Job]:
    """Those whose result is not there yet, or was made with other settings.

    Results appear only when whole, see `image.write`; an empty file is none.
    """
    how = {"seed": seed, "checkpoint": checkpoint, "bits": bits}
    return [job for job in jobs if not _made(job, metadata(job, settings, **how))]


def _made(job: Job, wanted: dict[str, str]) -> bool:
    found = image.read_metadata(job.out) or {}
    return wanted.items() <= found.items() and wanted.get("bits") == found.get("bits")


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
) -> Report:
    """Makes all pictures; jobs with the same images follow each other, and share what they can.

    bits: of the results, see `image.BITS`; auto: as of image 1, as far as the format has them.

    With go_on a job that fails is reported and the next one begins; else its ValueError or OSError leaves.
    Raises ValueError as `check_outputs` does.
    """
    check_outputs(jobs, overwrite=overwrite, bits=bits)
    written, failed = [], []
    for group in _by_scene(jobs):
        try:
            made = _fuse(model, group, settings, seed, watch, overwrite, bits)
            for job, _ in zip(group, made, strict=True):
                written.append(job.out)
        except (ValueError, OSError) as error:
            if not go_on:
                raise
            lost = [Failure(job.out, str(error)) for job in group if job.out not in written]
            failed += lost
            for failure in lost:
                watch.on_failure(failure)
    return Report(tuple(written), tuple(failed))


def _by_scene(jobs: Sequence[Job]) -> list[list[Job]]:
    groups: dict[tuple[Path, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.images, []).append(job)
    return list(groups.values())


def _fuse(
    model: DiTFuse,
    group: list[Job],
    settings: SamplingConfig,
    seed: int,
    watch: Watch,
    overwrite: bool,
    bits: str,
) -> Iterator[Path]:
    """Fuses and writes jobs that share their images, one at a time."""
    pictures = group[0].images
    if stack.is_stack(pictures):
        size, first = image.read_size(pictures[0]), image.read_depth(pictures[0])
    else:
        one = scene.read(pictures)  # once for all prompts
        pictures, size, first = one.pictures, one.size, image.bits_of(one.pixels[0])
    for job in group:
        image.check_fits(job.out, *size)
    chosen = options.values(settings)
    depth = image.depth_of(group[0].out, bits, first)
    how = {"bits": depth, "maps": any(job.weights or job.invented for job in group)}
    kept = how["maps"] or len(pictures) > 2  # a stack needs the maps of its decisions
    plan = model.plan(*size, group[0].prompt, bits=max(first, depth), maps=kept, **chosen)
    plan = plan._replace(decisions=len(pictures) - 1, bits=(first, depth))
    prompts = [job.prompt for job in group]
    how |= {"seed": seed}
    results = model.fuse_prompts(pictures, prompts, on_step=lambda *_: watch.on_step(), **how, **chosen)
    for job in group:
        watch.on_plan(job, plan)
        result = next(results)
        text = metadata(job, settings, seed=seed, checkpoint=model.checkpoint_id, bits=bits)
        told = text if result.explained is None else text | {"explained": f"{result.explained:.4f}"}
        image.write(job.out, result.image, metadata=told, overwrite=overwrite, origin=result.origin)
        if job.weights:
            maps.write_weights(job.weights, result.weights, metadata=text, overwrite=overwrite)
        if job.invented:
            maps.write_invented(job.invented, result.invented, metadata=text, overwrite=overwrite)
        watch.on_done(job, result)
        yield job.out


def metadata(job: Job, settings: SamplingConfig, *, seed: int, checkpoint: str, bits: str) -> dict[str, str]:
    """What a picture is to be made with, as text; what came out of it is added when it is written."""
    return {
        "prompt": job.prompt,
        "seed": str(seed),
        **options.as_text(settings),
        "checkpoint": checkpoint,
        **({} if bits == AUTO else {"bits": bits}),
    }
