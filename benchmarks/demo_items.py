# SPDX-License-Identifier: Apache-2.0
"""What demo_quality.py measures: one function per item, each printing its own table."""

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import demo_cases
import jax
import numpy as np
import scores
from demo_cases import SIDE, Case

from ditfuse_jax import fidelity
from ditfuse_jax import image as images
from ditfuse_jax.data import control
from ditfuse_jax.data.segmentation import IGNORE, class_mask
from ditfuse_jax.evaluation.baselines import BASELINES
from ditfuse_jax.evaluation.segmentation import Overlap
from ditfuse_jax.image.overlay import marked_pixels
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.task import request
from ditfuse_jax.training.validation import psnr

PROJECT = Path(__file__).parents[1]
BATCH = 4  # pairs fused at once
LIGHT = ("light--", "light-", None, "light+", "light++")  # None: plain fusion
CONTRAST = ("contrast-", None, "contrast+")
MEASURES = {"luminance": (LIGHT, scores.luminance), "contrast": (CONTRAST, scores.contrast)}
LIMIT_NOISES = (1, 2, 8)
CLASSES = ("sky", "building", "road", "tree", "car", "person")


class Bench(NamedTuple):
    model: DiTFuse
    root: Path
    steps: int
    noises: int
    limit: int  # pictures per item; 0: all
    fidelity: float = 0.0  # 0: the decoded output, 1: rebuilt from the sources


def options(bench: Bench) -> dict:
    """Keywords of every fusion; in one piece, so that only the estimator differs between fidelities."""
    how = {"steps": bench.steps, "noises": bench.noises, "fidelity": bench.fidelity}
    return how | {"max_side": SIDE, "tiles": "off"}


def fuse_all(bench: Bench, cases: Sequence[Case], prompt: str, **scales) -> list[np.ndarray]:
    """The fused pictures; the last batch is filled up, so that one program serves all batches of a size."""
    scales = options(bench) | scales
    fused = []
    for start in range(0, len(cases), BATCH):
        chosen = [min(i, len(cases) - 1) for i in range(start, start + BATCH)]
        pairs = [(cases[i].first, cases[i].second) for i in chosen]
        results = bench.model.fuse_batch(pairs, [prompt] * BATCH, seed=chosen, **scales)
        fused += [result.image for result in results]
    return fused[: len(cases)]


def fuse_as(bench: Bench, case: Case, seed: int, prompts: Sequence[str]) -> list[np.ndarray]:
    """One pair as each of the prompts says."""
    results = bench.model.fuse_prompts((case.first, case.second), prompts, seed=seed, **options(bench))
    return [result.image for result in results]


def round_trip(model: DiTFuse, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each picture through the autoencoder, by the mode of its posterior."""
    decoded = []
    for start in range(0, len(pictures), 2):  # it encodes two at a time
        both = (pictures[start], pictures[min(start + 1, len(pictures) - 1)])
        pair = model.encode(both, max_side=SIDE)
        decoded += [images.to_image(model.decode(latents, pair.geometry)) for latents in pair.latents]
    return decoded[: len(pictures)]


def rebuilt(result: np.ndarray, trips, sources, kind: str | None) -> np.ndarray:
    """A result made of its sources' pixels, as the library does it; all of one size.

    result, trips, sources: uint8 [H, W, 3], or pixels float32 in [-1, 1]; two trips, two sources.
    """
    result, *others = (images.to_pixels(x) if x.dtype == np.uint8 else x for x in (result, *trips, *sources))
    both = np.stack(others)[None]
    return images.to_image(np.asarray(_rebuilt(result[None], both[:, :2], both[:, 2:], kind))[0])


@functools.partial(jax.jit, static_argnums=3)
def _rebuilt(result: jax.Array, trips: jax.Array, sources: jax.Array, kind: str | None) -> jax.Array:
    return fidelity.rebuild(result, trips, sources, kind=kind).pixels


def mean_psnr(results: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    return psnr(np.stack(results), np.stack(targets))


def table(header: Sequence[str], rows: Sequence[Sequence]) -> None:
    """Markdown; floats with two digits."""
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for row in rows:
        print("| " + " | ".join(f"{x:.2f}" if isinstance(x, float) else str(x) for x in row) + " |")


def verdict(what: str, value: float, *, must: float, goal: float | None = None) -> None:
    """One line of what was asked for and whether it is reached."""
    asked = f"must {must:.2f}" + ("" if goal is None else f", goal {goal:.2f}")
    reached = value >= must if goal is None or value < goal else "goal"
    print(
        f"{what}: {value:.2f} dB, {asked}: " + {True: "reached", False: "MISSED"}.get(reached, "goal reached")
    )


def heading(title: str, count: int) -> None:
    print(f"\n## {title} ({count} pictures)\n")


def compare(bench: Bench, cases: Sequence[Case], prompt: str) -> dict[str, float]:
    """Mean PSNR against the target: each source, fusion without a network, ours, the autoencoder alone."""
    targets = [case.target for case in cases]
    found = {
        "source 1": mean_psnr([case.first for case in cases], targets),
        "source 2": mean_psnr([case.second for case in cases], targets),
    }
    for name, fuse in BASELINES.items():
        found[name] = mean_psnr([fuse(case.first, case.second) for case in cases], targets)
    found["ours"] = mean_psnr(fuse_all(bench, cases, prompt), targets)
    found["truth through the VAE"] = mean_psnr(round_trip(bench.model, targets), targets)
    return found


def measure_vae(bench: Bench) -> None:
    photos, small = demo_cases.photo_crops(bench.root, bench.limit)
    heading("Autoencoder alone, middle 256 x 256 of the photographs", len(photos))
    print(f"{small} photographs with a side under {SIDE} are left out.\n")
    value = mean_psnr(round_trip(bench.model, photos), photos)
    verdict("round trip", value, must=30, goal=32)


def measure_m3(bench: Bench) -> None:
    shares = {"complementary": 0.0, "25 % joint": 0.25}
    found = {}
    for name, share in shares.items():
        cases = demo_cases.simulated(bench.root, "m3", joint_share=share, limit=bench.limit).cases
        found[name] = compare(bench, cases, request(task="fuse"))
    heading("M3, PSNR against the photograph", len(cases))
    table(["blocks", *found["25 % joint"]], [[name, *row.values()] for name, row in found.items()])
    print()
    joint = found["25 % joint"]
    verdict("complementary", found["complementary"]["ours"], must=26, goal=28)
    verdict("25 % joint", joint["ours"], must=23, goal=24)
    verdict("25 % joint above the mean", joint["ours"] - joint["mean"], must=4)


def measure_exposure(bench: Bench) -> None:
    cases = demo_cases.simulated(bench.root, "exposure", limit=bench.limit).cases
    found = compare(bench, cases, request(task="mef"))
    heading("Simulated multi-exposure (1 over, 2 under), PSNR against the photograph", len(cases))
    table(list(found), [list(found.values())])
    print()
    for name in ("mean", "Mertens"):
        verdict(f"above {name}", found["ours"] - found[name], must=0)


def measure_focus(bench: Bench) -> None:
    cases = demo_cases.simulated(bench.root, "focus", limit=bench.limit).cases
    found = compare(bench, cases, request(task="mff"))
    heading("Simulated multi-focus (1 far, 2 near), PSNR against the photograph", len(cases))
    table(list(found), [list(found.values())])
    print()
    verdict("above the truth through the VAE", found["ours"] - found["truth through the VAE"], must=-2)


def measure_limit(bench: Bench) -> None:
    """What keeps simulated multi-focus from the autoencoder: choosing, noise, or copying."""
    cases = demo_cases.simulated(bench.root, "focus", limit=bench.limit).cases
    same = [case._replace(first=case.target, second=case.target) for case in cases]
    truth = [case.target for case in cases]
    best = round_trip(bench.model, truth)
    heading("Simulated multi-focus: what limits it, PSNR", len(cases))
    rows = [["the truth through the VAE", "", mean_psnr(best, truth), ""]]
    for what, pairs in (("far and near", cases), ("both the truth: nothing to choose", same)):
        for noises in LIMIT_NOISES:
            fused = fuse_all(bench, pairs, request(task="mff"), noises=noises)
            rows.append([what, noises, mean_psnr(fused, truth), mean_psnr(fused, best)])
    table(["sources", "noises", "against the truth", "against the truth through the VAE"], rows)


def measure_control(bench: Bench) -> None:
    """On real infrared-visible pairs; the plain picture is the fusion of task ivif."""
    cases = demo_cases.simulated(bench.root, "ivif", limit=bench.limit).cases
    heading("Light and contrast on real infrared-visible pairs", len(cases))
    rows, means = [], []
    for asked, tag in (("with tags", True), ("words only", False)):
        prompts = {name: request(task=name or "ivif", tag=tag) for name in (*LIGHT, *control.CONTRAST)}
        results = [
            dict(zip(prompts, fuse_as(bench, case, seed, list(prompts.values())), strict=True))
            for seed, case in enumerate(cases)
        ]
        for name, (order, measure) in MEASURES.items():
            values = np.array([[measure(result[one]) for one in order] for result in results])
            rows += order_rows(asked, name, order, values)
            means += mean_rows(asked, name, order, values)
    for name, (order, measure) in MEASURES.items():
        values = np.array([[measure(truth(case.target, one)) for one in order] for case in cases])
        means += mean_rows("training target", name, order, values)
    table(["asked", "measure", "order", "share of pairs"], rows)
    print()
    table(["asked", "measure", "request", "mean over pairs"], means)


def truth(target: np.ndarray, subtask: str | None) -> np.ndarray:
    return target if subtask is None else control.adjust(target, subtask)


def order_rows(asked: str, measure: str, order: Sequence[str | None], values: np.ndarray) -> list[list]:
    names = [name or "plain" for name in order]
    found = scores.ordering(values)
    adjacent = [f"{low} < {high}" for low, high in zip(names, names[1:], strict=False)]
    shares = zip([*adjacent, "whole chain"], [*found.adjacent.tolist(), found.chain], strict=True)
    return [[asked, measure, what, f"{share:.0%}"] for what, share in shares]


def mean_rows(asked: str, measure: str, order: Sequence[str | None], values: np.ndarray) -> list[list]:
    means = zip(order, values.mean(axis=0).tolist(), strict=True)
    return [[asked, measure, name or "plain", mean] for name, mean in means]


def measure_seg(bench: Bench) -> None:
    """Sources are the two M3 copies of a labelled picture, as in training; every class is asked of each."""
    found = demo_cases.simulated(bench.root, "seg", limit=bench.limit)
    heading("Segmentation, IoU of the blue overlay", len(found.cases))
    print("Marked: at least half as blue over the plain fusion of the same pair as the overlay is inside.")
    print("Intersections and unions are summed over all pictures, with those where the class is not.\n")
    overlaps = dict.fromkeys(CLASSES, Overlap())
    prompts = [request(task="fuse"), *(request(task="seg", segment=(name,)) for name in CLASSES)]
    for seed, case in enumerate(found.cases):
        plain, *marked = fuse_as(bench, case, seed, prompts)
        for name, picture in zip(CLASSES, marked, strict=True):
            masks = (marked_pixels(picture, plain), class_mask(case.labels, found.classes, (name,)))
            overlaps[name] = overlaps[name].add(*masks, case.labels != IGNORE)
    values = [overlap.iou for overlap in overlaps.values()]
    table([*CLASSES, "mean"], [[*values, float(np.nanmean(values))]])


WATCHED = """
import re, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


def measure_start(bench: Bench) -> None:
    """`infer.py` on the example pair as a new process, first with an empty cache of compiled programs."""
    heading("Start to picture, infer.py on the example pair", 1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        options = ["--checkpoint", str(bench.model.folder), "--out", f"{folder}/fused.png"]
        command = [sys.executable, "-c", WATCHED, str(PROJECT / "infer.py"), *options]
        for name in ("first", "second"):
            start = time.perf_counter()
            environment = os.environ | {"XDG_CACHE_HOME": folder}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            kilobytes = int(done.stdout.split()[-1])
            rows.append([name, time.perf_counter() - start, kilobytes * 1024 / 1e9])
    table(["start", "s", "GB at most"], rows)
    (_, first, _), (_, second, _) = rows
    print(
        f"\nfirst {first:.1f} s, must 60, goal 30; second {second:.1f} s, must 20, goal 5; memory must 2 GB"
    )


ITEMS: dict[str, Callable[[Bench], None]] = {
    "vae": measure_vae,
    "m3": measure_m3,
    "exposure": measure_exposure,
    "focus": measure_focus,
    "limit": measure_limit,
    "control": measure_control,
    "seg": measure_seg,
    "start": measure_start,
}
