# SPDX-License-Identifier: Apache-2.0
"""A folder of small pairs: what the overlap brings, what the batch axis does, and why.

    python benchmarks/folder.py [--checkpoint DIR] [--pairs 12] [--rounds 3]

Random pictures of 256 x 256 pixels as PNG files. First the folder as `ditfuse fuse --image-dir` makes it, in
turns with the same work one half after the other; then the same with --batch 1, 2, 4 and 8. Seconds a pair,
medians; processor time is of all cores over their number. Last, how fast a layer's product is with the rows
of so many pictures: where one picture has it at its full speed, a batch has nothing to gain.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ditfuse_jax.cli import environment

environment.for_fusing()  # before JAX is imported

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from ditfuse_jax.inference import jobs, lines, making  # noqa: E402
from ditfuse_jax.inference.ahead import overlapped  # noqa: E402
from ditfuse_jax.inference.fuse import DEMO, DiTFuse  # noqa: E402
from ditfuse_jax.inference.jobs import Job  # noqa: E402
from ditfuse_jax.ops.products import matmul  # noqa: E402
from ditfuse_jax.task import request  # noqa: E402

SIDE, GRID = 256, 16
BATCHES = (1, 2, 4, 8)
PRODUCTS = 20


def draw(folder: Path, count: int) -> None:
    """Pairs of smooth random pictures."""
    rng = np.random.default_rng(0)
    for side in ("image1", "image2"):
        (folder / side).mkdir()
        for number in range(count):
            small = Image.fromarray(rng.integers(0, 256, (GRID, GRID, 3), dtype=np.uint8))
            small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / side / f"{number:02}.png")


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the wall's clock, and of processor time."""
    start, busy = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, (time.process_time() - busy) / os.cpu_count()


def in_turns(ways: dict[str, Callable[[], object]], count: int, rounds: int) -> None:
    """Prints the medians of each way, and its ratio to the first."""
    spent = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            seconds = timed(run)
            spent[name] += [seconds] * (number > 0)  # the first turn compiles
    middle = {
        name: [statistics.median(each) / count for each in zip(*s, strict=True)] for name, s in spent.items()
    }
    first = next(iter(middle.values()))
    print("| | s a pair | ratio | processor s a pair | ratio |\n|---|---|---|---|---|")
    for name, (wall, busy) in middle.items():
        print(
            f"| {name} | {wall:.3f} | {wall / first[0]:.2f} | {busy:.3f} | {busy / first[1]:.2f} |",
            flush=True,
        )


def run(model: DiTFuse, found: Sequence[Job], overlap: Callable = overlapped, *, batch: int = 1) -> None:
    making.overlapped = overlap
    how = {"seed": 0, "watch": lines.SILENT, "go_on": True, "batch": batch}
    report = making.run(model, found, model.settings(), **how)
    assert len(report.written) == len(found), report.failed


def after_another(halves):
    return (half() for half in halves)


def repeat(call: Callable) -> None:
    for _ in range(PRODUCTS):
        call().block_until_ready()


def tell_products(model: DiTFuse) -> None:
    cfg = model.config.model
    ((_, tokens), *_) = model.plan(SIDE, SIDE, request(task="mff")).tokens.values()
    kernel = jnp.ones((cfg.width, cfg.mlp_width), cfg.dtype)
    product = jax.jit(functools.partial(matmul, dtype=cfg.dtype))
    print("\n| | rows of a product | GFLOP/s | by processor time |\n|---|---|---|---|")
    for count in BATCHES:
        x = jnp.ones((count * tokens, cfg.width))
        several = functools.partial(repeat, functools.partial(product, x, kernel))
        spent = [timed(several) for _ in range(PRODUCTS)]
        wall, busy = (
            2e-9 * PRODUCTS * x.size * cfg.mlp_width / min(each) for each in zip(*spent, strict=True)
        )
        print(f"| {count} at a time | {len(x)} | {wall:.0f} | {busy:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO, help="default: the one that ships")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    model = DiTFuse.load(args.checkpoint)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        draw(folder, args.pairs)
        print(f"{args.pairs} pairs, {model.checkpoint_id}\n")
        found, _ = jobs.folder_jobs([folder], request(task="mff"), folder / "fused")
        halves = {"one half after the other": after_another, "overlapped": overlapped}
        ways = {name: functools.partial(run, model, found, overlap) for name, overlap in halves.items()}
        in_turns(ways, args.pairs, args.rounds)
        full = found[: max(BATCHES) * (len(found) // max(BATCHES))]
        sizes = {f"{size} at a time": functools.partial(run, model, full, batch=size) for size in BATCHES}
        print()
        in_turns(sizes, len(full), args.rounds)
    tell_products(model)


if __name__ == "__main__":
    main()
