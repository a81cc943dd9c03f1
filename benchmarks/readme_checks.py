# SPDX-License-Identifier: Apache-2.0
"""Runs one command of the pages, and what the pages claim of its result: used by benchmarks/readme.py."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]


class Result(NamedTuple):
    """What a command left in its folder."""

    folder: Path
    output: str
    seconds: float

    def picture(self, name: str = "fused.png") -> np.ndarray:
        """float64 [H, W, 3]."""
        with Image.open(self.folder / name) as image:
            return np.asarray(image.convert("RGB"), np.float64)


def run(command: str, folder: Path) -> Result:
    """Raises RuntimeError with the end of the output where the command fails."""
    words = shlex.split(command)
    words[0] = sys.executable if words[0] == "python" else words[0]
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    return Result(folder, done.stdout, time.perf_counter() - start)


def example(name: str, side: int) -> np.ndarray:
    folder = PROJECT / "examples" / name
    with Image.open(next(folder.glob(f"image{side}.*"))) as image:
        return np.asarray(image.convert("RGB"), np.float64)


def done(result: Result) -> None:
    """What leaves no file: that it ran is all."""


def fuses(result: Result) -> None:
    """The picture of the infrared-visible example: of its size, and of both sources."""
    fused = result.picture()
    for side in (1, 2):
        source = example("ivif", side)
        assert fused.shape == source.shape, f"{fused.shape} is not the size of image {side}"
        assert np.corrcoef(fused.ravel(), source.ravel())[0, 1] > 0.4, f"fused is not like image {side}"


def brightens(result: Result) -> None:
    """In the order that the README claims, for all six tasks; the first comes from the command itself."""
    fuses(result)
    level = {"light+": result.picture().mean()}
    spread = {}
    for task in ("ivif", "light++", "light-", "light--", "contrast+", "contrast-"):
        made = run(f"python infer.py --task {task}", result.folder).picture()
        level[task], spread[task] = made.mean(), made.std()
    order = ["light--", "light-", "ivif", "light+", "light++"]
    assert sorted(order, key=level.get) == order, level
    assert spread["contrast-"] < spread["ivif"] < spread["contrast+"], spread


def plain(result: Result) -> np.ndarray:
    """The same pair without another wish."""
    return run("python infer.py --task ivif", result.folder).picture()


def obeys_words(result: Result) -> None:
    """Brighter; the page promises no more of words about one thing."""
    asked = result.picture()
    fuses(result)
    assert asked.mean() > plain(result).mean() + 2


def marks(result: Result) -> None:
    """Road and car become bluer than the house, the grass and the sky."""
    asked = result.picture()
    change = asked - plain(result)
    blue = change[..., 2] - change[..., :2].mean(-1)
    inside = [blue[300:384, 60:240].mean(), blue[250:300, 340:480].mean()]
    outside = [blue[80:220, 30:190].mean(), blue[200:240, 400:500].mean(), blue[:80, 200:380].mean()]
    assert min(inside) > max(outside) + 10, (inside, outside)


def sharpens(result: Result) -> None:
    """Focus: sharper than either source on the whole."""
    sharp = [
        np.abs(np.diff(image.mean(-1), axis=1)).mean() for image in (example("mff", 1), example("mff", 2))
    ]
    fused = np.abs(np.diff(result.picture().mean(-1), axis=1)).mean()
    assert fused > max(sharp), f"{fused:.2f} is not over {sharp}"


def draws(name: str) -> Callable[[Result], None]:
    """A check that a picture of the pages is what its command makes of the examples."""

    def check(result: Result) -> None:
        with Image.open(PROJECT / name) as image:
            kept = np.asarray(image.convert("RGB"), np.float64)
        made = result.picture(name)
        assert made.shape == kept.shape
        assert np.abs(made - kept).mean() < 2.0

    return check


def sees(name: str, sources: Sequence[str]) -> Callable[[Result], None]:
    """A check that a result of docs/photographs.md is of all its sources, over the first of them."""

    def check(result: Result) -> None:
        fused = result.picture(name).mean(-1)
        for source in sources:
            with Image.open(result.folder / source) as file:
                other = np.asarray(file.convert("F"))
            assert fused.shape == other.shape, f"{name} is not of the size of {source}"
            assert np.corrcoef(fused.ravel(), other.ravel())[0, 1] > 0.3, f"{name} is not like {source}"

    return check


def stores(*names: str) -> Callable[[Result], None]:
    """A check that these files are there."""

    def check(result: Result) -> None:
        for name in names:
            assert (result.folder / name).is_file(), f"{name} was not written"

    return check


def counts(result: Result) -> None:
    """Pairs to train on, pairs that are held out, and no bad file."""
    assert result.output.count("no bad files") == 2, result.output
    assert "held-out files:" in result.output


def sheets(result: Result) -> None:
    assert result.picture("mine/sheet.png").std() > 10


def trains(result: Result) -> None:
    """From the first step: a loss, a validation loss on named pairs, a picture."""
    assert "validates on 1 held-out scenes: 0" in result.output, result.output
    log = [json.loads(line) for line in (result.folder / "mine/run/log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line.get("loss", line.get("validation_loss"))) for line in log)
    assert {"loss", "validation_loss"} <= {name for line in log for name in line}
    assert list((result.folder / "mine/run/pictures").glob("step_*.png"))


def goes_on(result: Result) -> None:
    trains(result)
    assert "starts at step 2 of 4" in result.output, result.output


def exports(result: Result) -> None:
    assert (result.folder / "mine/adapter/adapter.json").is_file()


def fuses_own(result: Result) -> None:
    with Image.open(result.folder / "mine/pairs/vis/01.png") as source:
        assert result.picture("mine/fused.png").shape[:2] == source.size[::-1]


def scores(result: Result) -> None:
    table = (result.folder / "mine/before/summary.md").read_text("utf-8")
    assert "| ditfuse | 1 |" in table, table


def compares(result: Result) -> None:
    """Both checkpoints over the held-out pair, in one table."""
    table = (result.folder / "mine/after/summary.md").read_text("utf-8")
    assert "| ditfuse | 1 |" in table, table
    assert "| before | 1 |" in table, table
    assert (result.folder / "mine/after/sheet.png").is_file()
