# SPDX-License-Identifier: Apache-2.0
"""What `run` and `runtime` do with their flags: a checkpoint over a dataset, and what it costs."""

import argparse
from collections import Counter
from pathlib import Path

from ditfuse_jax.data import registry, sources
from ditfuse_jax.evaluation import commands, folders, overlap, report, tables
from ditfuse_jax.evaluation.flags import sampling
from ditfuse_jax.evaluation.folders import Files
from ditfuse_jax.task import request


def run(args: argparse.Namespace) -> int:
    """Fuses every pair into out/fused, then as `compare`."""
    found, folder = scenes(args)
    chosen = report.spread(found, args.limit) if args.limit else found
    chosen = args.shard.of(sorted(chosen, key=lambda one: one.stem)) if args.shard else chosen
    model = loaded(args)
    listed = overlap.trained_on(model.folder, args.lora)
    stems, name = [one.stem for one in chosen], folder.resolve().name if folder else args.dataset
    print(overlap.sentence(stems, name, folder, listed, sources.named_root(args.data)))
    failed = fuse(model, chosen, args)
    made = args.out / "fused"
    ours = [
        one._replace(method="ditfuse", fused=made / f"{one.stem}.png")
        for one in chosen
        if (made / f"{one.stem}.png").exists()
    ]
    others = []
    for method, at in folders.methods(args.fused).items():
        results, _ = folders.by_stem(at)
        others += [
            one._replace(method=method, fused=results[one.stem]) for one in chosen if one.stem in results
        ]
    spot = [one._replace(method=name) for name in commands.baselines(args.baselines) for one in chosen]
    return commands.evaluate_and_draw(args, folders.Listing((*ours, *others, *spot), tuple(failed)))


def scenes(args: argparse.Namespace) -> tuple[list[Files], Path | None]:
    """The pairs of a dataset by name, or of a folder with two sides, which is returned too.

    Raises ValueError for what is not there.
    """
    if args.dataset in registry.DATASETS:
        known = registry.get(args.dataset)
        split = args.split or ("test" if "test" in known.splits else next(iter(known.splits)))
        pairs = [
            (one.first, one.second, one.target) for one in known.pairs(sources.data_root(args.data), split)
        ]
        return _named(pairs), None
    folder = Path(args.dataset)
    if not folder.is_dir():
        raise ValueError(f"{args.dataset} is no folder and none of {', '.join(registry.DATASETS)}")
    return _named([(*item.images, item.target) for item in sources.pairs(folder, args.names)]), folder


def _named(pairs: list[tuple[Path, Path, Path | None]]) -> list[Files]:
    """By the stem of source 1, with its folder's name in front where stems repeat (exposure stacks)."""
    count = Counter(first.stem for first, _, _ in pairs)
    return [
        Files(
            "", one.stem if count[one.stem] == 1 else f"{one.parent.name}_{one.stem}", one, two, None, truth
        )
        for one, two, truth in pairs
    ]


def fuse(model, chosen: list[Files], args: argparse.Namespace) -> list[str]:
    """Writes out/fused/STEM.png, also what a second run still lacks; returns a line for each failure."""
    from ditfuse_jax.inference import jobs, making, terminal  # JAX: seconds, and not needed to score

    settings, prompt = model.settings(**sampling(args)), request(task=args.task)
    todo = [
        jobs.Job((one.first, one.second), prompt, args.out / "fused" / f"{one.stem}.png") for one in chosen
    ]
    print(f"checkpoint  {model.checkpoint_id}")
    todo = jobs.unfinished(todo, settings, seed=args.seed, checkpoint=model.checkpoint_id)
    with terminal.progress(todo, settings.steps) as watch:
        how = {"seed": args.seed, "batch": args.batch, "go_on": True}
        done = making.run(model, todo, settings, watch=watch, **how)
    return [failure.message for failure in done.failed]


def loaded(args: argparse.Namespace):
    """The checkpoint that the flags name, a folder or `hf:owner/name`, with its adapter."""
    from ditfuse_jax.inference import pretrained
    from ditfuse_jax.inference.fuse import DiTFuse

    checkpoint = pretrained.on_command_line(args.checkpoint)
    lora = pretrained.adapter_on_command_line(args.lora)
    return DiTFuse.load(checkpoint, lora=lora, dtype=args.dtype)


def runtime(args: argparse.Namespace) -> int:
    """The paper's Table V for one checkpoint on this machine, with all that its numbers depend on."""
    from ditfuse_jax.evaluation import runtime as clock

    width, height = size_of(args.size)
    if args.samples < 1:
        raise ValueError(f"--samples {args.samples}: give 1 or more")
    table = clock.markdown(clock.measure(loaded(args), args, height, width, request(task=args.task)))
    print(table)
    if args.out:
        tables.write(args.out / "runtime.md", table)
    return 0


def size_of(text: str) -> tuple[int, int]:
    """`640x480` -> width, height. Raises ValueError."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise ValueError(f"--size {text}: write width x height in pixels, as 640x480")
    return int(sides[0]), int(sides[1])
