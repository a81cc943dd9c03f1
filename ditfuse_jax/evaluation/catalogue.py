# SPDX-License-Identifier: Apache-2.0
"""The metrics by their short names: what a table says of each one, and how each protocol computes it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax import __version__
from ditfuse_jax.config import closest
from ditfuse_jax.evaluation.metrics import (
    colour,
    edges,
    errors,
    gradients,
    information,
    similarity,
    statistics,
    visual,
)

PROTOCOLS = ("standard", "tang")
TASKS = ("ivif", "mff", "mef")
IQA = ("maniqa", "liqe", "clipiqa+", "musiq")  # no-reference scorers of the paper, see iqa.py


class Scene(NamedTuple):
    """One result with its sources, and the truth where there is one; arrays of one size."""

    first: np.ndarray  # uint8 [H, W, 3]
    second: np.ndarray
    fused: np.ndarray
    truth: np.ndarray | None
    a: np.ndarray  # the same in grey, float64 [H, W] in 0 to 255
    b: np.ndarray
    f: np.ndarray
    t: np.ndarray | None
    task: str


def scene(first, second, fused, truth=None, *, task: str) -> Scene:
    """The pictures uint8 [H, W, 3]."""
    pictures = (first, second, fused, truth)
    return Scene(*pictures, *(None if one is None else colour.grey(one) for one in pictures), task)


class Metric(NamedTuple):
    name: str
    title: str
    better: str  # "up", "down", or "" where neither is better
    unit: str
    standard: Callable[[Scene], float]
    tang: Callable[[Scene], float] | None = None  # None: the toolbox computes the same
    alone: bool = False  # it needs the fused image only
    truth: bool = False  # it needs the truth

    @property
    def arrow(self) -> str:
        return {"up": "↑", "down": "↓", "": ""}[self.better]

    def compute(self, one: Scene, protocol: str) -> float:
        return (self.tang or self.standard if protocol == "tang" else self.standard)(one)


def sources(function: Callable) -> Callable[[Scene], float]:
    return lambda s: function(s.a, s.b, s.f)


def fused(function: Callable) -> Callable[[Scene], float]:
    return lambda s: function(s.f)


def _colour_error(s: Scene) -> float:
    """Infrared-visible: to the visible image. Else the mean over both sources."""
    first = colour.ciede2000(s.fused, s.first)
    return first if s.task == "ivif" else (first + colour.ciede2000(s.fused, s.second)) / 2


METRICS = (
    Metric(
        "psnr_truth", "PSNR to truth", "up", "dB", lambda s: errors.pair_psnr(s.fused, s.truth), truth=True
    ),
    Metric("ssim_truth", "SSIM to truth", "up", "", lambda s: similarity.pair_ssim(s.f, s.t), truth=True),
    Metric(
        "ciede_truth",
        "CIEDE2000 to truth",
        "down",
        "",
        lambda s: colour.ciede2000(s.fused, s.truth),
        truth=True,
    ),
    Metric("vif", "VIF", "up", "", sources(visual.vif)),
    Metric("qabf", "Qabf", "up", "", sources(edges.qabf), sources(edges.tang_qabf)),
    Metric("q_w", "Q_W", "up", "", sources(similarity.q_w)),
    Metric("scd", "SCD", "up", "", sources(statistics.scd)),
    Metric("mse", "MSE", "down", "", sources(errors.mse), sources(errors.tang_mse)),
    Metric("psnr", "PSNR", "up", "dB", sources(errors.psnr), sources(errors.tang_psnr)),
    Metric("en", "EN", "up", "bit", fused(information.entropy), alone=True),
    Metric("sd", "SD", "up", "", fused(statistics.deviation), fused(statistics.tang_deviation), alone=True),
    Metric("sf", "SF", "up", "", fused(gradients.spatial_frequency), alone=True),
    Metric(
        "ag",
        "AG",
        "up",
        "",
        fused(gradients.average_gradient),
        fused(gradients.tang_average_gradient),
        alone=True,
    ),
    Metric(
        "mi",
        "MI",
        "up",
        "bit",
        sources(information.mutual_information),
        sources(information.tang_mutual_information),
    ),
    Metric("nmi", "NMI", "up", "", sources(information.normalised_mutual_information)),
    Metric("cc", "CC", "up", "", sources(statistics.correlation)),
    Metric("ssim", "SSIM", "up", "", sources(similarity.ssim), sources(similarity.mef_ssim)),
    Metric("ms_ssim", "MS-SSIM", "up", "", sources(similarity.ms_ssim), sources(similarity.tang_ms_ssim)),
    Metric("mef_ssim", "MEF-SSIM", "up", "", sources(similarity.mef_ssim)),
    Metric("nabf", "Nabf", "down", "", sources(edges.nabf), sources(edges.tang_nabf)),
    Metric("q_cv", "Q_CV", "down", "", sources(visual.q_cv)),
    Metric("q_cb", "Q_CB", "up", "", sources(visual.q_cb)),
    Metric("ciede", "CIEDE2000", "down", "", _colour_error),
    Metric("cf", "colourfulness", "", "", lambda s: colour.colourfulness(s.fused), alone=True),
)
BY_NAME = {metric.name: metric for metric in METRICS}
LEAD = ("vif", "qabf", "q_w", "scd")  # the nearest to truth where there is one, see docs/evaluation.md
PAPER = {"ivif": ("mse", "psnr"), "mff": ("sf", "ag"), "mef": ("en", "sd")}  # Tables I and II
PAPER_IQA = {
    "ivif": ("maniqa", "liqe", "clipiqa+"),
    "mff": ("liqe", "musiq", "clipiqa+"),
    "mef": ("liqe", "musiq", "clipiqa+"),
}


class Choice(NamedTuple):
    metrics: tuple[str, ...]  # keys of BY_NAME, in the order of METRICS
    iqa: tuple[str, ...]  # of IQA


def choose(text: str, *, task: str, truth: bool) -> Choice:
    """`paper`, `all`, or names with commas between. Raises ValueError for an unknown name.

    `paper` is the task's table in the paper, behind the metrics that lead ours; `all` is every metric but the
    no-reference scorers. With a truth the distance to it comes first.
    """
    if text == "paper":
        names = (*LEAD, *PAPER[task], *PAPER_IQA[task])
    elif text == "all":
        names = tuple(metric.name for metric in METRICS if not metric.truth)
    else:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        _check(name, truth)
    if truth and text in ("paper", "all"):
        names = (*names, *(metric.name for metric in METRICS if metric.truth))
    chosen = tuple(metric.name for metric in METRICS if metric.name in names)
    return Choice(chosen, tuple(name for name in IQA if name in names))


def _check(name: str, truth: bool) -> None:
    if name not in BY_NAME and name not in IQA:
        known = [*BY_NAME, *IQA]
        raise ValueError(
            f"metric {name!r} is not known{closest(name, known)}; use paper, all or {', '.join(known)}"
        )
    if not truth and name in BY_NAME and BY_NAME[name].truth:
        raise ValueError(f"metric {name} compares with a truth; add --truth DIR or leave it away")


def code_version() -> str:
    """Package version and a hash of the files that compute metrics: equal where numbers are comparable."""
    digest = hashlib.sha256()
    for file in sorted((Path(__file__).parent / "metrics").glob("*.py")):
        digest.update(file.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return f"ditfuse-jax {__version__}, metrics {digest.hexdigest()[:12]}"
