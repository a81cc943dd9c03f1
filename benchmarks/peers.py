# SPDX-License-Identifier: Apache-2.0
"""Fuses folders of pairs with other people's programs, for rows of docs/results.md.

    pip install -e ".[bench]"     # openfocus and focusweave; enfuse is a package of the system
    python benchmarks/peers.py --dataset data/mff/lytro --names val.txt --task mff --out peers

writes peers/PROGRAM/STEM.png, which `evaluation compare --fused` reads. What is there is not made again, so a
run that was stopped goes on. A program that is not installed is named, and the others run. Pairs are
registered, so nothing is aligned or exposure-matched; openfocus and focusweave fuse focus alone.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from stacks import FOCUS_ONLY

from ditfuse_jax import image
from ditfuse_jax.data import sources
from ditfuse_jax.evaluation.folders import Files
from ditfuse_jax.evaluation.report import spread

PLAIN = ("--no-exposure-match", "--cpu")  # openfocus


class Peer(NamedTuple):
    program: str
    tasks: tuple[str, ...]
    command: Callable[[str, Path, Path], list]  # task, folder with 1.png and 2.png, result -> words
    install: str


def enfuse(task: str, folder: Path, out: Path) -> list:
    return ["enfuse", *(FOCUS_ONLY if task == "mff" else ()), "-o", out, folder / "1.png", folder / "2.png"]


def openfocus(method: str) -> Callable[[str, Path, Path], list]:
    def command(task: str, folder: Path, out: Path) -> list:
        return ["openfocus", "-i", folder, "-o", out, "-m", method, *PLAIN]

    return command


def focusweave(task: str, folder: Path, out: Path) -> list:
    return ["focusweave", folder, "--output", out, "--no-align", "--keep-size"]


BENCH = 'pip install -e ".[bench]"'
PEERS = {
    "enfuse": Peer("enfuse", ("mff", "mef"), enfuse, "apt install enfuse"),
    "openfocus C": Peer("openfocus", ("mff",), openfocus("openfocus_c"), BENCH),
    "openfocus StackMFF V3": Peer("openfocus", ("mff",), openfocus("stackmffv3"), BENCH),
    "focusweave": Peer("focusweave", ("mff",), focusweave, BENCH),
}


def fuse(name: str, task: str, pairs: Sequence[Files], out: Path) -> list[str]:
    """Writes out/NAME/STEM.png; returns a line for each pair that failed, or one without the program."""
    peer = PEERS[name]
    if shutil.which(peer.program) is None:
        return [f"{name}: {peer.program} is not installed; {peer.install}"]
    problems = []
    for one in pairs:
        file = out / name / f"{one.stem}.png"
        if not file.exists():
            problems += _fuse(name, task, one, file)
    return problems


def _fuse(name: str, task: str, pair: Files, file: Path) -> list[str]:
    """One pair: as PNG files of three channels in a folder of their own, under a temporary name first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as place:
        folder, made = Path(place) / "in", Path(place) / "out.png"
        folder.mkdir()
        for number, source in enumerate((pair.first, pair.second), 1):
            Image.fromarray(image.read(source)).save(folder / f"{number}.png")
        words = [str(word) for word in PEERS[name].command(task, folder, made)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode or not made.is_file():
            told = (done.stderr or done.stdout).strip().splitlines() or ["no result"]
            return [f"{name} of {pair.stem}: {told[-1]}"]
        made.replace(file)
    return []


def pairs_of(dataset: Path, names: str | None, limit: int) -> list[Files]:
    """Of a folder with two sides; `limit` evenly over the list, 0: all."""
    items = sources.pairs(dataset, names)
    found = [Files("", item.images[0].stem, *item.images, None, item.target) for item in items]
    return spread(found, limit) if limit else found


def peers_of(task: str) -> list[str]:
    return [name for name, peer in PEERS.items() if task in peer.tasks]


def main(words: list[str] | None = None) -> int:
    """Exit code 1 where something was not fused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder of pairs, as a/b")
    parser.add_argument("--names", help="a list of stems in it, as val.txt")
    parser.add_argument("--task", choices=("mff", "mef"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=0, help="pairs, evenly over the list; 0: all")
    args = parser.parse_args(words)
    found = pairs_of(args.dataset, args.names, args.limit)
    problems = [line for name in peers_of(args.task) for line in fuse(name, args.task, found, args.out)]
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
