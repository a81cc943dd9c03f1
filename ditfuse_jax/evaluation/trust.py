# SPDX-License-Identifier: Apache-2.0
"""How far a metric can be trusted: does it put methods in the order in which they are near to the truth?"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax import image as images
from ditfuse_jax.data import pairs, sources
from ditfuse_jax.data.config import VALIDATION
from ditfuse_jax.evaluation.scoring import Row
from ditfuse_jax.evaluation.summary import better
from ditfuse_jax.evaluation.tables import title

TRUTHS = ("psnr_truth", "ssim_truth")
FEWEST_METHODS = 4  # with fewer the order of the methods says next to nothing
KINDS = {"focus": pairs.defocus, "exposure": pairs.expose}  # of simulated pairs; the photo is the truth


class Trust(NamedTuple):
    """Spearman's correlation of a metric's order of the methods with the truth's, mean over images.

    1: always the same order, 0: no relation. Metrics where lower is better are turned round first.
    """

    metric: str
    psnr: float
    ssim: float
    images: int  # with a value of the metric for FEWEST_METHODS or more


def trust(rows: Sequence[Row]) -> list[Trust]:
    """Every metric of the rows with a direction, best first. Rows hold the metrics of TRUTHS too.

    Raises ValueError where there are too few methods.
    """
    methods = {row.method for row in rows}
    if len(methods) < FEWEST_METHODS:
        raise ValueError(
            f"{len(methods)} methods give no order to compare; give {FEWEST_METHODS} or more, or leave "
            "--baselines at all"
        )
    stems = list(dict.fromkeys(row.stem for row in rows))
    scenes = [[row for row in rows if row.stem == stem] for stem in stems]
    names = [name for name in rows[0].values if name not in (*TRUTHS, "ciede_truth") and better(name)]
    found = [_of_metric(name, scenes) for name in names]
    return sorted(found, key=lambda one: -one.psnr if math.isfinite(one.psnr) else math.inf)


def _of_metric(name: str, scenes: Sequence[Sequence[Row]]) -> Trust:
    orders = [[_correlation(scene, name, truth) for scene in scenes] for truth in TRUTHS]
    kept = [[value for value in order if math.isfinite(value)] for order in orders]
    means = [float(np.mean(values)) if values else math.nan for values in kept]
    return Trust(name, *means, len(kept[0]))


def _correlation(scene: Sequence[Row], name: str, truth: str) -> float:
    """Over the methods of one image that have both values; nan where an order is missing."""
    from scipy.stats import spearmanr

    both = [(row.values[name], row.values[truth]) for row in scene]
    both = np.array([pair for pair in both if all(map(math.isfinite, pair))])
    if len(both) < FEWEST_METHODS or (np.ptp(both, axis=0) == 0).any():
        return math.nan
    sign = -1 if better(name) == "down" else 1
    return sign * float(spearmanr(*both.T).statistic)


def markdown(found: Sequence[Trust], rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """facts: what every table states, as protocol and sizes."""
    methods = list(dict.fromkeys(row.method for row in rows))
    lines = [
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        f"Spearman correlation across {len(methods)} methods ({', '.join(methods)}), mean over images:",
        "",
        "| metric | with PSNR to truth | with SSIM to truth | images |",
        "| --- | --- | --- | --- |",
        *(f"| {title(one.metric)} | {one.psnr:.2f} | {one.ssim:.2f} | {one.images} |" for one in found),
    ]
    return "\n".join(lines) + "\n"


def simulate(kind: str, root: Path, out: Path, *, limit: int) -> None:
    """Held-out photos as pairs with a truth: PNG files below out/image1, out/image2, out/truth.

    Args:
      kind: a key of KINDS. root: data root with photos/. limit: how many, evenly over the list; 0: all.
    """
    items = sources.find("photos", "photos", root, VALIDATION).items
    count = len(items) if not limit else min(limit, len(items))
    for number in range(count):
        photo = items[number * len(items) // count].images[0]
        made_with = {"simulated": kind, "photo": photo.name, "seed": str(number)}
        files = [out / side / f"{photo.stem}.png" for side in ("image1", "image2", "truth")]
        if all(images.read_metadata(file) == made_with for file in files):
            continue  # of an earlier run; its rows stay valid
        made = KINDS[kind](np.random.default_rng([0, number]), images.read(photo))
        for file, picture in zip(files, made, strict=True):
            images.write(file, picture, metadata=made_with)
