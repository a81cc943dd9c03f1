# SPDX-License-Identifier: Apache-2.0
"""Pictures to make from files: which pairs and prompts, in what order, what may be written, what is left."""

import contextlib
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ditfuse_jax import image, scenes
from ditfuse_jax.config import SamplingConfig
from ditfuse_jax.inference import maps
from ditfuse_jax.inference import settings as options
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.registration import fixed
from ditfuse_jax.text import lines

AUTO = "auto"
PLAIN = Preparation()


class Job(NamedTuple):
    images: tuple[Path, ...]  # two, a stack, or one radiometric JPEG
    prompt: str  # the whole prompt or an instruction, see DiTFuse.fuse
    out: Path
    weights: Path | None = None  # also written: which source, per pixel
    invented: Path | None = None  # how far each pixel is from what the sources explain
    alignment: Path | None = None  # how the pictures lie to each other
    mask: Path | None = None  # of a segmentation: where its overlay is
    temperatures: Path | None = None  # the infrared picture's own values
    before: tuple[Path, ...] | None = None  # the images of the frame before

    @property
    def files(self) -> list[Path]:
        """All that is written."""
        named = (self.out, self.weights, self.invented, self.mask, self.temperatures)
        return [file for file in named if file]


class Failure(NamedTuple):
    out: Path
    message: str


def folder_jobs(
    folders: Sequence[Path], prompt: str, out: Path, *, form: str = AUTO
) -> tuple[list[Job], list[Failure]]:
    """One job per stem that all folders have, in order of names; results are out/<stem>.<form>, with auto
    .jpg for a JPEG as image 1 and .png for all others.

    folders: of image 1, 2 ..., or one that holds them, see `scenes.sides`, or radiometric JPEGs. Returns
    also a failure for each image without a partner, and for each stem that a folder has twice. Files whose
    suffix is not of a picture are left out. Raises ValueError if there are no images at all, or if `out`
    holds the inputs.
    """
    alone = scenes.alone(folders[0]) if len(folders) == 1 else None
    sides = tuple(folders) if alone or len(folders) > 1 else scenes.sides(folders[0])
    _check_apart(out, {*folders, *sides})
    listing = alone or scenes.together(sides)

    def target(stem: str) -> Path:
        return out / f"{stem}{_suffix(listing.first.get(stem), form)}"

    jobs = [Job(files, prompt, target(stem)) for stem, files in listing.scenes.items()]
    return jobs, [Failure(target(stem), message) for stem, message in listing.problems]


def in_sequence(jobs: Sequence[Job]) -> list[Job]:
    """The jobs of frames in order, each with the images of the one before; equal frames all have those before
    the first of them, so that their results are equal.
    """
    sizes = [_sizes(job.images) for job in jobs]
    often = Counter(sizes)
    made, first, before = [], {}, None
    for job, size in zip(jobs, sizes, strict=True):
        known = _digests(job.images) if often[size] > 1 else job.images
        made.append(job._replace(before=first.setdefault(known, before)))
        before = job.images
    return made


def _sizes(files: Sequence[Path]) -> tuple:
    """Bytes of each; the files themselves where one cannot be read, which is left to the error of its row."""
    try:
        return tuple(file.stat().st_size for file in files)
    except OSError:
        return tuple(files)


def _digests(files: Sequence[Path]) -> tuple:
    """What each holds, likewise."""
    try:
        return tuple(hashlib.sha256(file.read_bytes()).digest() for file in files)
    except OSError:
        return tuple(files)


def _suffix(first: Path | None, form: str) -> str:
    """Of the result whose image 1 is `first`."""
    if form != AUTO:
        return f".{form}"
    return ".jpg" if first and image.FORMATS.get(first.suffix.lower()) == "JPEG" else ".png"


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
    targets = [file for job in jobs for file in (*job.files, *filter(None, [job.alignment]))]
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
        for file in filter(None, (job.weights, job.invented, job.mask)):
            maps.check_writable(file, overwrite=overwrite)
        if job.temperatures:
            image.check_plane(job.temperatures, overwrite=overwrite)
        if job.alignment:
            fixed.check_writable(job.alignment, overwrite=overwrite)


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
    jobs: Sequence[Job],
    settings: SamplingConfig,
    *,
    seed: int,
    checkpoint: str,
    bits: str = AUTO,
    how: Preparation = PLAIN,
) -> list[Job]:
    """Those whose result, or its mask, is not there yet, or was made with other settings.

    Results appear only when whole, see `image.write`; an empty file is none.
    """
    made = {"seed": seed, "checkpoint": checkpoint, "bits": bits, "how": how}
    return [job for job in jobs if not _made(job, metadata(job, settings, **made))]


def _made(job: Job, wanted: dict[str, str]) -> bool:
    found = [image.read_metadata(file) or {} for file in (job.out, job.mask, job.temperatures) if file]
    equal = ("bits", *PLAIN.names())  # also where neither has one
    return all(
        wanted.items() <= one.items() and all(wanted.get(name) == one.get(name) for name in equal)
        for one in found
    )


def check_apart(files: Sequence[Path]) -> None:
    """Raises ValueError for a picture that is there twice, also by a link."""
    seen: dict[tuple[int, int], Path] = {}
    for file, stat in _stats(files):
        if other := seen.get((stat.st_dev, stat.st_ino)):
            raise ValueError(f"{file} and {other} are one file; give each picture of the scene once")
        seen[stat.st_dev, stat.st_ino] = file


def metadata(
    job: Job, settings: SamplingConfig, *, seed: int, checkpoint: str, bits: str, how: Preparation = PLAIN
) -> dict[str, str]:
    """What a picture is to be made with, as text; what came out of it is added when it is written."""
    return {
        "prompt": job.prompt,
        "seed": str(seed),
        **options.as_text(settings),
        "checkpoint": checkpoint,
        **({} if bits == AUTO else {"bits": bits}),
        **how.as_text(),
    }
