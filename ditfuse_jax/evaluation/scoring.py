# SPDX-License-Identifier: Apache-2.0
"""From files to rows: every metric of every result, on several processes, kept so that a run can go on."""

import hashlib
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax import image as images
from ditfuse_jax.evaluation import alignment, catalogue
from ditfuse_jax.evaluation.baselines import BASELINES
from ditfuse_jax.evaluation.folders import Files

STORE, STORES = "rows.jsonl", "rows*.jsonl"


class Settings(NamedTuple):
    """What a number depends on besides the pixels."""

    task: str
    protocol: str
    metrics: tuple[str, ...]
    resize: bool  # bring a result of another size to its sources' size


class Row(NamedTuple):
    """One result. Values that could not be computed are nan, and a problem says why."""

    method: str
    stem: str
    size: tuple[int, int]  # width, height
    values: dict[str, float]
    shift: tuple[float, float, float]  # right, down in pixels, peak
    resized: bool
    problems: tuple[str, ...]

    @property
    def moved(self) -> bool:
        return alignment.Shift(*self.shift).moved


class Unusable(NamedTuple):
    """A result without a row."""

    method: str
    stem: str
    problem: str


Scorer = Callable[[np.ndarray], float]  # uint8 [H, W, 3] -> a no-reference score


def score(files: Files, settings: Settings) -> Row:
    """Reads the files and computes the metrics. Raises ValueError for files that make no scene."""
    first, second = images.read(files.first), images.read(files.second)
    images.check_same_size(first, second, (str(files.first), str(files.second)))
    fused = picture(files, first, second)
    resized, problems = fused.shape != first.shape, []
    if resized:
        problems.append(_resized_text(files, fused, first, settings.resize))
        if not settings.resize:
            return _alone(files, fused, settings, problems)
        fused = cv2.resize(fused, first.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    size = (fused.shape[1], fused.shape[0])
    truth = images.read(files.truth) if files.truth else None
    if truth is not None:
        images.check_same_size(fused, truth, (files.result, str(files.truth)))
    one = catalogue.scene(first, second, fused, truth, task=settings.task)
    problems += _constant(files, one)
    moved = alignment.shift(one.a, one.b, one.f)
    if moved.moved:
        problems.append(
            f"{files.result}: shifted by {moved.right:+.1f}, {moved.down:+.1f} pixels (right, down)"
        )
    values = _values(one, settings.metrics, settings, problems)
    shift = (float(moved.right), float(moved.down), float(moved.peak))
    return Row(files.method, files.stem, size, values, shift, resized, tuple(problems))


def _alone(files: Files, fused: np.ndarray, settings: Settings, problems: list[str]) -> Row:
    """What can be said of a result that does not lie on its sources."""
    one = catalogue.scene(fused, fused, fused, task=settings.task)
    names = [name for name in settings.metrics if catalogue.BY_NAME[name].alone]
    values = dict.fromkeys(settings.metrics, math.nan) | _values(one, names, settings, problems)
    size = (fused.shape[1], fused.shape[0])
    return Row(files.method, files.stem, size, values, (0.0, 0.0, 0.0), True, tuple(problems))


def picture(files: Files, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The result, uint8 [H, W, 3]: read, or computed from its sources."""
    return images.read(files.fused) if files.fused else BASELINES[files.method](first, second)


def _values(one: catalogue.Scene, names, settings: Settings, problems: list[str]) -> dict[str, float]:
    found, unsaid = {}, []
    for name in names:
        try:
            found[name] = float(catalogue.BY_NAME[name].compute(one, settings.protocol))
        except ValueError as error:
            found[name] = math.nan
            problems.append(str(error))
            continue
        if math.isnan(found[name]):
            unsaid.append(name)
    if unsaid:
        problems.append(f"no value for {', '.join(unsaid)}: an image without contrast, or equal images")
    return found


def _resized_text(files: Files, fused: np.ndarray, first: np.ndarray, resize: bool) -> str:
    sizes = " and its sources ".join(f"{size[1]} x {size[0]}" for size in (fused.shape, first.shape))
    done = "scaled to them" if resize else "only metrics of the fused image alone are computed; add --resize"
    return f"{files.result}: {sizes}; {done}"


def _constant(files: Files, one: catalogue.Scene) -> list[str]:
    named = ((files.first, one.a), (files.second, one.b), (files.result, one.f))
    return [f"{file}: all pixels are equal" for file, grey in named if grey.min() == grey.max()]


def key(files: Files, settings: Settings) -> str:
    """Equal exactly while files, settings and code are the same."""
    stats = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files[2:] if f is not None]
    text = json.dumps([files.method, files.stem, stats, settings, catalogue.code_version()])
    return hashlib.sha256(text.encode()).hexdigest()


def _attempt(files: Files, settings: Settings) -> Row | Unusable:
    cv2.setNumThreads(1)  # processes share the cores
    try:
        return score(files, settings)
    except (ValueError, OSError) as error:
        return Unusable(files.method, files.stem, str(error))


def rows(
    listing: Sequence[Files],
    settings: Settings,
    *,
    store: Path,
    jobs: int,
    scorers: Mapping[str, Scorer],
    on_done: Callable[[], None],
) -> tuple[list[Row], list[str]]:
    """All rows in the order of the listing, and a line for each result without one.

    Rows are appended to `store` as they are made; a second run computes what is neither in there nor in
    another store beside it, such as those of --shard.
    """
    asked = settings._replace(metrics=(*settings.metrics, *scorers))
    known = _stored(store.parent)
    made: dict[int, Row | Unusable] = {}
    waiting = {}
    for number, files in enumerate(listing):
        identity = key(files, asked)
        if identity in known:
            made[number] = known[identity]
            on_done()
        else:
            waiting[number] = identity
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.open("a") as file:
        for number, row in _computed({n: listing[n] for n in waiting}, settings, jobs):
            if isinstance(row, Row):
                row = _with_scores(row, listing[number], scorers)
                file.write(json.dumps({"key": waiting[number], "row": row}) + "\n")
                file.flush()
            made[number] = row
            on_done()
    ordered = [made[number] for number in range(len(listing))]
    found = [row for row in ordered if isinstance(row, Row)]
    return found, [f"{row.method}, {row.stem}: {row.problem}" for row in ordered if isinstance(row, Unusable)]


def _computed(
    waiting: dict[int, Files], settings: Settings, jobs: int
) -> Iterator[tuple[int, Row | Unusable]]:
    if jobs == 1 or len(waiting) < 2:
        for number, files in waiting.items():
            yield number, _attempt(files, settings)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of OpenCV
    with ProcessPoolExecutor(min(jobs, len(waiting)), mp_context=context) as pool:
        futures = {pool.submit(_attempt, files, settings): number for number, files in waiting.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _with_scores(row: Row, files: Files, scorers: Mapping[str, Scorer]) -> Row:
    if not scorers:
        return row
    fused = picture(files, images.read(files.first), images.read(files.second))
    return row._replace(values=row.values | {name: float(scorer(fused)) for name, scorer in scorers.items()})


def _stored(folder: Path) -> dict[str, Row]:
    """Rows of all stores by key; a line torn by a kill is left out."""
    found = {}
    stores = sorted(folder.glob(STORES))
    for line in (line for store in stores for line in store.read_text().splitlines()):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        method, stem, size, values, shift, resized, problems = entry["row"]
        row = Row(method, stem, tuple(size), values, tuple(shift), resized, tuple(problems))
        found[entry["key"]] = row
    return found


def default_jobs() -> int:
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
