# SPDX-License-Identifier: Apache-2.0
"""Memory of a focus stack of large photographs, beside the networks.

    python benchmarks/stack_memory.py --pictures 5 20 --megapixels 12

Each row is a process of its own, as in picture_memory.py. JPEG files of one scene, each sharp in a band of
its own and some pixels off, go through all that `infer.py` does to a stack: read, measured, brought over the
first, searched for what moved, put on the shelf, decided on one after the other, all maps kept. No network
runs: the bands that it would decode are the sources, and blocks are copied, not fitted. What is told is the
largest resident memory above that of the same process before it read. Linux alone counts so.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from picture_memory import copy_blocks, rebuilt, told

from ditfuse_jax.image import Picture
from ditfuse_jax.inference import prepare, scene, stack
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.inference.results import Fused
from ditfuse_jax.inference.timings import Timings
from ditfuse_jax.prompt import kind_of
from ditfuse_jax.task import request

PROMPT = request(task="mff")
HOW = Preparation(align="auto", deghost="auto")
BLUR, OFF = 6.0, 5  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.row:
        print(row(flags.pictures[0], flags.megapixels))
        return
    heads = ("pictures", "megapixels", "brought over", "memory, GB", "while aligning", "seconds")
    print(f"| {' | '.join(heads)} |\n" + "|---" * len(heads) + "|", flush=True)
    for count in flags.pictures:
        asked = ["--row", "--pictures", str(count), "--megapixels", str(flags.megapixels)]
        subprocess.run([sys.executable, __file__, *asked], check=True)


def row(count: int, megapixels: float) -> str:
    """A line of the table."""
    copy_blocks()
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    size = height, height * 4 // 3
    with tempfile.TemporaryDirectory() as name:
        asked = map(str, (name, count, *size, BLUR, OFF))
        subprocess.run([sys.executable, "-c", WRITER, *asked], check=True)
        files = sorted(Path(name).iterdir())
        small = np.zeros((512, 512, 3), np.uint8)
        stack.fuse(pair, [small] * 3, PROMPT, strength=1.0)  # loads libraries
        before, start = told("VmRSS"), time.monotonic()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        ready = prepare.prepare(files, kind=kind_of(PROMPT), how=HOW)
        after = told("VmHWM")
        made = stack.fuse(pair, ready, PROMPT, strength=1.0)
        most, seconds = told("VmHWM"), time.monotonic() - start
        assert made.image.shape == (*size, 3)
    moved = sum(source.matrix is not None for source in ready.sources)
    gigabytes = [(each - before) / 1e9 for each in (most, after)]
    return f"| {count} | {megapixels:g} | {moved} | {gigabytes[0]:.2f} | {gigabytes[1]:.2f} | {seconds:.0f} |"


WRITER = """
import sys
from pathlib import Path
import cv2
import numpy as np
from ditfuse_jax import image
folder, count, height, width = Path(sys.argv[1]), *map(int, sys.argv[2:5])
blur, off = float(sys.argv[5]), int(sys.argv[6])
rng = np.random.default_rng(0)
scene = np.zeros((height + 2 * off, width + 2 * off, 3), np.float32)
for level in range(7):  # detail of all sizes
    side = 2 ** (9 - level)
    part = rng.standard_normal((height // side + 2, width // side + 2, 3)).astype(np.float32)
    scene += cv2.resize(part, scene.shape[1::-1], interpolation=cv2.INTER_LINEAR) * 25
scene = np.clip(scene + 128, 0, 255).astype(np.uint8)
far = cv2.GaussianBlur(scene, (0, 0), blur)
for number in range(count):
    right, down = (off, off) if number == 0 else rng.integers(0, 2 * off, 2)
    shot, sharp = (each[down : down + height, right : right + width].copy() for each in (far, scene))
    rows = np.s_[number * height // count : (number + 1) * height // count]
    shot[rows] = sharp[rows]
    image.write(folder / f"{number:03}.jpg", shot, metadata={})
"""


def pair(two: list[Picture], prompt: str, bits: int) -> Fused:
    """The decision of one step: its bands show the first picture."""
    read = scene.read(two)
    made = rebuilt(read, maps=True)
    return Fused(**made._asdict(), latents=None, timings=Timings(), origin=read.origin)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
