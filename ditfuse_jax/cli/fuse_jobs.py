# SPDX-License-Identifier: Apache-2.0
"""The jobs that the flags of `fuse` ask for; what does not go together is refused before anything is read."""

import argparse
from pathlib import Path

from ditfuse_jax import image, places
from ditfuse_jax.task import request

EXAMPLE, EXAMPLE_TASK = places.folder("examples") / "ivif", "ivif"  # an infrared-visible pair


def jobs_of(flags: argparse.Namespace):
    """The jobs that the flags ask for, and failures known before the start."""
    segment = tuple(name.strip() for name in (flags.segment or "").split(",") if name.strip())
    if flags.segment is not None and not segment:
        raise ValueError(f"--segment {flags.segment!r} names nothing; write --segment car,building")
    words = {"task": task_of(flags, segment), "segment": segment, "thing": flags.object, "tag": flags.tag}
    check_mask(flags, words)
    check_together(flags)
    return folder_jobs(flags, words) if folders_of(flags) else scene_jobs(flags, words)


def task_of(flags: argparse.Namespace, segment: tuple[str, ...]) -> str | None:
    """What --task says; the example and a thermal file are infrared-visible where nothing is asked."""
    example = not (flags.images or flags.image1 or flags.image2 or folders_of(flags))
    asked = flags.task or flags.prompt or flags.prompt_file or segment
    return EXAMPLE_TASK if (example or _is_thermal_pair(flags.images)) and not asked else flags.task


def check_mask(flags: argparse.Namespace, words: dict) -> None:
    if flags.mask:
        from ditfuse_jax.inference import marks

        marks.check(flags.prompt, task=words["task"], segment=words["segment"])


def check_together(flags: argparse.Namespace) -> None:
    """ValueError for flags that do not go together."""
    folders, lines = folders_of(flags), flags.prompt_file
    refused = (
        (
            flags.temperatures and lines,
            "--temperatures is of the pictures, not of the lines; leave --prompt-file away",
        ),
        (
            lines and (folders or flags.prompt),
            "--prompt-file stands for --prompt and goes with one pair; leave --prompt, --image-dir away",
        ),
        (
            (flags.weights or flags.invented) and (folders or lines),
            "--weights and --invented are files beside one picture; fuse one pair at a time",
        ),
        (
            flags.save_align and (folders or lines or flags.align == "off"),
            "--save-align measures one scene: fuse it alone and without --align off, then use the file",
        ),
        (
            flags.format and not folders,
            "--format goes with --image-dir; elsewhere the suffix of --out is the format",
        ),
        (
            flags.steady == "on" and not folders,
            "--steady goes with --image-dir, whose files are frames; add it or leave --steady away",
        ),
        (flags.shard and not folders, "--shard goes with --image-dir; add it or leave --shard away"),
        (flags.batch and not folders, "--batch goes with --image-dir; add it or leave --batch away"),
        (flags.resume and not folders, "--resume goes with --image-dir; add it or leave --resume away"),
        (
            folders and (flags.images or flags.image1 or flags.image2),
            "--image-dir brings its own images; leave --image1 and --image2 away",
        ),
    )
    for wrong, sentence in refused:
        if wrong:
            raise ValueError(sentence)


def folder_jobs(flags: argparse.Namespace, words: dict):
    """One job for each scene of the folders, and failures known before the start."""
    from ditfuse_jax.inference import jobs  # a second to import, so on use

    prompt, form = request(flags.prompt, **words), flags.format or "auto"
    form = "png" if form == "auto" and flags.bits == "16" else form
    found, lonely = jobs.folder_jobs(folders_of(flags), prompt, flags.out or Path("fused"), form=form)
    found = found if flags.steady == "off" else jobs.in_sequence(found)
    found = with_temperatures(with_masks(found, flags.mask), flags.temperatures)
    return (flags.shard.of(found), flags.shard.of(lonely)) if flags.shard else (found, lonely)


def scene_jobs(flags: argparse.Namespace, words: dict):
    """The job of one scene, or one for each line of --prompt-file; no failures are known before."""
    from ditfuse_jax.inference import jobs

    images = images_of(flags)
    if flags.prompt_file:
        prompts = [request(line, **words) for line in jobs.read_prompts(flags.prompt_file)]
        found = jobs.prompt_jobs(images, prompts, flags.out or Path("fused"))
        return with_masks(found, flags.mask), []
    prompt = request(flags.prompt, **words)
    beside = (flags.weights, flags.invented, flags.save_align, flags.mask, flags.temperatures)
    return [jobs.Job(images, prompt, flags.out or Path("fused.png"), *beside)], []


def _is_thermal_pair(files: list[Path]) -> bool:
    """Whether one file holds both pictures."""
    return len(files) == 1 and image.is_flir(files[0])


def folders_of(flags: argparse.Namespace) -> list[Path]:
    """The folder that holds all, or those of image 1, 2 ...; none for single files."""
    if flags.image_dirs and flags.image_dir:
        raise ValueError("--image-dir holds the folders that --image-dirs names; give one of the two")
    if flags.image_dirs and len(flags.image_dirs) == 1:
        raise ValueError(f"--image-dirs {flags.image_dirs[0]}: one folder is no pair; give two or more")
    return [flags.image_dir] if flags.image_dir else flags.image_dirs or []


def with_masks(jobs: list, folder: Path | None) -> list:
    """Several jobs whose masks, PNG files named like the results, go to `folder`, if there is one."""
    return [job._replace(mask=folder / f"{job.out.stem}.png") for job in jobs] if folder else jobs


def with_temperatures(jobs: list, folder: Path | None) -> list:
    """Several jobs whose temperatures, TIFF files named like the results, go to `folder`, if there is one."""
    return [job._replace(temperatures=folder / f"{job.out.stem}.tif") for job in jobs] if folder else jobs


def images_of(flags: argparse.Namespace) -> tuple[Path, ...]:
    if flags.images:
        if flags.image1 or flags.image2:
            raise ValueError("--image1 and --image2 name a pair; give it so, or all images without flags")
        if _is_thermal_pair(flags.images):
            image.read_pair(flags.images[0])  # what is wrong with it is said before the model is loaded
        elif len(flags.images) == 1:
            raise ValueError(f"{flags.images[0]} alone is not enough to fuse; give two images or more")
        for number, file in enumerate(flags.images):
            if file in flags.images[:number]:
                raise ValueError(f"{file} is given twice; name each picture of the scene once")
        return tuple(flags.images)
    if (flags.image1 is None) != (flags.image2 is None):
        raise ValueError("one image is not a pair; give both --image1 and --image2, or none for the example")
    if flags.image1:
        return flags.image1, flags.image2
    say(flags, f"images      the example pair {EXAMPLE} (infrared-visible: --task {EXAMPLE_TASK})")
    return EXAMPLE / "image1.png", EXAMPLE / "image2.png"


def say(flags: argparse.Namespace, line: str) -> None:
    """A line for people."""
    if not flags.quiet and not flags.json:
        print(line)
