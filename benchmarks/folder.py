# SPDX-License-Identifier: Apache-2.0
"""A folder of small pairs: what the overlap brings, and what the batch axis does.

    python benchmarks/folder.py [--checkpoint DIR] [--pairs 12] [--rounds 3]

Random pictures of 256 x 256 pixels as PNG files. First the folder as `ditfuse fuse --image-dir` makes it, in
turns with the same work one half after the other; then the same pairs through the networks 1, 2, 4 and 8 at
a time. Seconds a pair, medians; processor time is of all cores over their number.
"""

import argparse
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

from ditfuse_jax.inference import jobs, lines, making  # noqa: E402
from ditfuse_jax.inference.ahead import overlapped  # noqa: E402
from ditfuse_jax.inference.fuse import DEMO, DiTFuse  # noqa: E402
from ditfuse_jax.task import request  # noqa: E402

SIDE, GRID = 256, 16
BATCHES = (1, 2, 4, 8)


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


def folder_ways(model: DiTFuse, folder: Path) -> dict[str, Callable[[], object]]:
    found, _ = jobs.folder_jobs([folder], request(task="mff"), folder / "fused")
    options = {"seed": 0, "watch": lines.SILENT, "go_on": True}

    def run(overlap: Callable) -> None:
        making.overlapped = overlap
        report = making.run(model, found, model.settings(), **options)
        assert len(report.written) == len(found), report.failed

    def after_another(halves):
        return (half() for half in halves)

    return {"one half after the other": lambda: run(after_another), "overlapped": lambda: run(overlapped)}


def batch_ways(model: DiTFuse, pairs: Sequence) -> dict[str, Callable[[], object]]:
    def run(size: int) -> None:
        for start in range(0, len(pairs), size):
            part = pairs[start : start + size]
            model.fuse_batch(part, [request(task="mff")] * len(part), maps=False)

    return {f"{size} at a time": lambda size=size: run(size) for size in BATCHES}


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
        in_turns(folder_ways(model, folder), args.pairs, args.rounds)
        names = sorted(file.name for file in (folder / "image1").iterdir())
        pairs = [[folder / side / name for side in ("image1", "image2")] for name in names]
        count = max(BATCHES) * (len(pairs) // max(BATCHES))
        print()
        in_turns(batch_ways(model, pairs[:count]), count, args.rounds)


if __name__ == "__main__":
    main()
