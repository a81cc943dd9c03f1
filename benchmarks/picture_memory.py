# SPDX-License-Identifier: Apache-2.0
"""Memory of a fusion beside the networks: reading, rebuilding and writing a large pair.

    python benchmarks/picture_memory.py --megapixels 24 100 --bits 8 16 [--copied]

With --copied the blocks of the rebuild are copied, not fitted, so that 100 megapixels take minutes, not an
hour; all arrays are the same but those inside the program of one block. Each row is a process of its own: it
reads a pair of files, makes the result of bands as they come from the tiles (no network runs: the bands are
the sources), and writes it, as `infer.py` does. What is told is the largest resident memory above that of the
same process before it read. Linux alone counts so.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from ditfuse_jax import image
from ditfuse_jax.inference import native, scene, tiles

TILE = (256, 256)  # of the demo checkpoint
UNIT = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[24, 100])
    parser.add_argument("--bits", type=int, nargs="+", choices=(8, 16), default=[8, 16])
    parser.add_argument("--suffix", default=".png", help="of all files; JPEG has 8 bits alone")
    parser.add_argument("--copied", action="store_true", help="copy blocks instead of fitting them")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.copied:
        copy_blocks()
    if flags.row:
        print(row(flags.megapixels[0], flags.bits[0], flags.suffix))
        return
    print("| megapixels | bits | read | read, rebuilt, written |\n|---|---|---|---|", flush=True)
    for megapixels in flags.megapixels:
        for bits in flags.bits:
            asked = ["--row", "--megapixels", str(megapixels), "--bits", str(bits), "--suffix", flags.suffix]
            asked += ["--copied"] * flags.copied
            subprocess.run([sys.executable, __file__, *asked], check=True)


def row(megapixels: float, bits: int, suffix: str) -> str:
    """A line of the table, in GB."""
    height = round((megapixels * 1e6 * 2 / 3) ** 0.5)
    size = height, height * 3 // 2
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"{number}{suffix}" for number in (1, 2)]
        for number, file in enumerate(files):
            asked = map(str, (file, *size, bits, number))
            subprocess.run([sys.executable, "-c", WRITER, *asked], check=True)
        small = np.zeros((512, 512, 3), f"uint{bits}")
        finish(scene.read([small, small]), Path(name) / f"small{suffix}")  # compiles, loads libraries
        before = told("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        read = scene.read(files)
        after = told("VmHWM")
        finish(read, Path(name) / f"out{suffix}")
        most = told("VmHWM")
        return f"| {megapixels:g} | {bits} | {(after - before) / 1e9:.2f} | {(most - before) / 1e9:.2f} |"


WRITER = """
import sys
import numpy as np
from ditfuse_jax import image
file, height, width, bits, seed = sys.argv[1], *map(int, sys.argv[2:])
rows = np.random.default_rng(seed).integers(0, 2**bits, (1024, 1024, 3)).astype(f"uint{bits}") // 8
image.write(file, np.tile(rows, (height // 1024 + 1, width // 1024 + 1, 1))[:height, :width], metadata={})
"""


def copy_blocks() -> None:
    """The program of a block gives the decoded pixels back."""

    def program(maps, originals, strength, *, kind):
        inner = maps[native.fidelity.HALO :, native.fidelity.HALO :, :3][: native.BLOCK, : native.BLOCK]
        pixels = inner.astype(np.float32)
        return pixels, np.ones(pixels.shape[:2], np.float32), np.zeros(pixels.shape[:2], np.float32)

    native._program = lambda: program


def finish(read: scene.Scene, out: Path) -> None:
    """The result of bands that show the sources, to a file."""
    image.write(out, rebuilt(read, maps=False).image, metadata={}, origin=read.origin)


def rebuilt(read: scene.Scene, *, maps: bool) -> native.Native:
    """The result of bands that show the sources."""
    tiling = tiles.tiling(*read.size, tile=TILE, unit=UNIT)

    def decoded():
        for corner in tiling.corners:
            both = [image.to_pixels(read.seen(tiles.cut(pixels, tiling, corner))) for pixels in read.pixels]
            yield np.concatenate([both[0], *both], axis=-1)

    bits = image.bits_of(read.pixels[0])
    bands = tiles.bands(decoded(), tiling)
    how = {"strength": 1.0, "kind": None, "bits": bits, "profile": read.origin.profile, "maps": maps}
    return native.finish(bands, read.pixels, **how)


def told(field: str) -> int:
    """Bytes that this process has in memory, VmRSS, or had at the most, VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
