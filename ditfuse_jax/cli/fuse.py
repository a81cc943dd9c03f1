# SPDX-License-Identifier: Apache-2.0
"""Fuse registered pictures of one scene as an instruction says: A B --prompt "..."."""

import argparse
import contextlib
import dataclasses
import functools
import sys
import time
from pathlib import Path

import jax

from ditfuse_jax import image
from ditfuse_jax.cli.fuse_jobs import folders_of, jobs_of, say
from ditfuse_jax.config import SamplingConfig
from ditfuse_jax.inference import preparation, settings
from ditfuse_jax.task import PURPOSES, TASKS
from ditfuse_jax.text import message

INTERRUPTED = 130  # the exit code of shells after Ctrl-C
FORMATS = ("auto", "png", "tif", "jpg", "webp")  # of results in a folder


def parse(arguments: list[str], prog: str) -> argparse.Namespace:
    tasks = "\n".join(f"  {name:<22}{purpose}" for name, purpose in PURPOSES.items())
    parser = argparse.ArgumentParser(
        prog=prog,
        description=__doc__,
        epilog=f"what --task is for:\n{tasks}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_words(parser.add_argument_group("what to make"))
    add_files(parser.add_argument_group("what is read"))
    add_results(parser.add_argument_group("what is written"))
    preparation.add_flags(before := parser.add_argument_group("what is done to the pictures first"))
    before.add_argument(
        "--save-align",
        type=Path,
        metavar="FILE",
        help="write how the pictures lie to each other, for --align",
    )
    how = parser.add_argument_group("how (default: what the checkpoint says)")
    settings.add_flags(how)
    settings.add_dtype(how)
    settings.add_batch(how)
    how.add_argument("--seed", type=settings.seed, default=0, help="of the noise: 0 to 2^64 - 1")
    how.add_argument(
        "--no-compile-cache", action="store_true", help="do not keep compiled programs for the next start"
    )
    told = parser.add_argument_group("what it says")
    told.add_argument("--verbose", action="store_true", help="also the tokens and parameters of the network")
    told.add_argument("--quiet", action="store_true", help="nothing on the terminal but errors")
    told.add_argument(
        "--json",
        action="store_true",
        help="for programs: one line of JSON per picture on stdout, and no other",
    )
    return parser.parse_args(arguments)


def add_words(what) -> None:
    """Flags of the instruction, into a group of the parser."""
    what.add_argument(
        "--prompt", help="instruction in plain words; with <|image_1|> and <|image_2|> used as it is"
    )
    what.add_argument("--prompt-file", type=Path, help="one picture per line of this file, for one pair")
    what.add_argument(
        "--task", choices=TASKS, metavar="TASK", help="what is fused, or changed: one of those below"
    )
    what.add_argument("--segment", metavar="A,B", help="mark these things (task seg)")
    what.add_argument("--object", metavar="A", help="the one thing a light or contrast task is about")
    what.add_argument(
        "--tag", action=argparse.BooleanOptionalAction, help="with tags or without, whatever the default"
    )


def add_files(files) -> None:
    """Flags of what is read, into a group of the parser."""
    files.add_argument(
        "images", nargs="*", type=Path, metavar="IMAGE", help="two pictures, or a stack of up to 100"
    )
    files.add_argument(
        "--image1", type=Path, help="visible, far-focused or over-exposed image; default: an example"
    )
    files.add_argument(
        "--image2", type=Path, help="infrared, near-focused or under-exposed image; default: an example"
    )
    files.add_argument(
        "--image-dir",
        type=Path,
        help="folder of scenes: image1/, image2/ and so on, vis/, ir/, over/, under/ with the same names; or "
        "of radiometric JPEGs",
    )
    files.add_argument(
        "--image-dirs", type=Path, nargs="+", metavar="DIR", help="the same, of folders of any names"
    )
    files.add_argument(
        "--resume", action="store_true", help="with --image-dir: skip what was made with the same settings"
    )
    files.add_argument(
        "--shard",
        type=settings.shard,
        metavar="I/N",
        help="with --image-dir: the I-th of N parts, for N machines that see the same folders",
    )
    files.add_argument(
        "--checkpoint", type=Path, help="checkpoint folder or hf:owner/name; default: the one that ships"
    )
    files.add_argument("--lora", type=Path, help="adapter folder, PEFT or converted")


def add_results(files) -> None:
    """Flags of what is written, into a group of the parser."""
    files.add_argument(
        "--overwrite", action="store_true", help="also replace files that this program did not write"
    )
    files.add_argument(
        "--out", type=Path, help="file, or folder with --image-dir and --prompt-file; default: fused"
    )
    files.add_argument(
        "--weights", type=Path, metavar="FILE", help="also write which source each pixel is of: .png or .npy"
    )
    files.add_argument(
        "--invented", type=Path, metavar="FILE", help="also write how far each pixel is from both sources"
    )
    files.add_argument(
        "--bits", choices=image.BITS, default="auto", help="of the result; auto: as of image 1"
    )
    files.add_argument(
        "--format", choices=FORMATS, help="of results in a folder; auto: JPEG where image 1 is one, else PNG"
    )
    files.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="of a segmentation: also write what is marked; a folder with --image-dir and --prompt-file",
    )
    files.add_argument(
        "--temperatures",
        type=Path,
        metavar="FILE",
        help="also write the infrared picture's own values, untouched: .tif; a folder with --image-dir",
    )


def keep_compiled_programs() -> None:
    """Compiled programs go to the user's cache folder, so that the next start need not compile."""
    from ditfuse_jax.inference.pretrained import cache_folder

    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def unfinished(todo, checkpoint: str, chosen: SamplingConfig, flags: argparse.Namespace, how) -> list:
    """What --resume leaves to do; says what it found."""
    from ditfuse_jax.inference import jobs

    left = jobs.unfinished(todo, chosen, seed=flags.seed, checkpoint=checkpoint, bits=flags.bits, how=how)
    if finished := len(todo) - len(left):
        say(flags, f"finished    {finished} pictures are there already")
    if other := sum(one.out.exists() for one in left):
        say(flags, f"again       {other} files that are no results of these settings")
    return left


def watching(flags: argparse.Namespace, todo: list, steps: int):
    """What tells of the run: lines and a bar for people, lines of JSON for programs, or nothing."""
    from ditfuse_jax.inference import lines, terminal

    if flags.json:
        return contextlib.nullcontext(lines.as_json(sys.stdout))
    if flags.quiet:
        return contextlib.nullcontext(lines.SILENT)
    return terminal.progress(todo, steps, verbose=flags.verbose)


def fuse(flags: argparse.Namespace) -> int:
    """Makes the pictures; the exit code is 1 if some of several failed."""
    from ditfuse_jax.inference import frames, jobs, making, pretrained, stack, terminal, thermal
    from ditfuse_jax.inference.forecast import check
    from ditfuse_jax.inference.fuse import DiTFuse
    from ditfuse_jax.prompt import kind_of

    flags.checkpoint = pretrained.on_command_line(flags.checkpoint)
    flags.lora = pretrained.adapter_on_command_line(flags.lora)
    how = preparation.given(flags)
    wanted, failed = jobs_of(flags)
    folder = bool(folders_of(flags))
    jobs.check_outputs(wanted, overwrite=flags.overwrite, bits=flags.bits)
    options = settings.given(flags)
    pictures = [] if folder else wanted[0].images  # a folder goes on past bad ones
    chosen = check(flags.checkpoint, pictures, **options)
    jobs.check_apart(pictures)
    if flags.temperatures and not folder:
        thermal.own_values(pictures)
    if stack.is_stack(wanted[0].images if wanted else ()):
        stack.check(wanted[0].images, kind=kind_of(wanted[0].prompt), strength=chosen.fidelity)
    if (flags.weights or flags.invented) and chosen.fidelity == 0:
        raise ValueError("fidelity 0 fits no maps; add --fidelity 1 for --weights and --invented")
    how.check_fidelity(chosen.fidelity)
    how = frames.settled(wanted, how, chosen.fidelity) if folder else dataclasses.replace(how, steady="off")
    with terminal.count_compiled() as compiled:
        model = DiTFuse.load(flags.checkpoint, lora=flags.lora, dtype=flags.dtype)
        say(flags, f"checkpoint  {model.checkpoint_id}")
        if folder and how.steady == "auto" and not (flags.quiet or flags.json):
            frames.told(wanted, functools.partial(say, flags))
        if flags.dtype == "auto":
            say(flags, f"numbers     {model.config.model.dtype}, the faster one here")
        todo = unfinished(wanted, model.checkpoint_id, chosen, flags, how) if flags.resume else wanted
        with watching(flags, todo, chosen.steps) as watch:
            for failure in failed if flags.json else ():
                watch.on_failure(failure)
            asked = {"seed": flags.seed, "go_on": folder, "overwrite": flags.overwrite, "bits": flags.bits}
            start = time.monotonic()
            report = making.run(model, todo, chosen, watch=watch, how=how, batch=flags.batch, **asked)
            seconds = time.monotonic() - start
        if folder and report.written:
            say(flags, f"frames      {len(report.written)}, {len(report.written) / seconds:.3g} a second")
        say(flags, "programs    {} compiled, {} from the cache".format(*compiled()))
    failed += report.failed
    if failed:
        count = len(wanted) + len(failed) - len(report.failed)
        print(f"{len(failed)} of {count} pairs failed:", file=sys.stderr)
        print("\n".join(f"  {failure.message}" for failure in failed), file=sys.stderr)
    return 1 if failed else 0


def main(arguments: list[str], prog: str = "infer.py") -> int:
    """Exit code 0, 1 if some of several pictures failed, 2 or 130 (Ctrl-C) after one message on stderr."""
    flags = parse(arguments, prog)
    if not flags.no_compile_cache:
        keep_compiled_programs()
    try:
        return fuse(flags)
    except KeyboardInterrupt:
        print(f"{prog}: interrupted; pictures that were finished are whole", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"{prog}: {message(error)}", file=sys.stderr)
        return 2
