# SPDX-License-Identifier: Apache-2.0
"""What is asked at test time and how the answers are measured, as data (paper IV-H4, IV-I, Fig. 15 to 20)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ditfuse_jax.data.instructions import TABLE_VII, TABLE_VIII
from ditfuse_jax.evaluation.baselines import BASELINES
from ditfuse_jax.evaluation.cases import Scene
from ditfuse_jax.image import luma, overlay
from ditfuse_jax.task import request

BLOCK = 16  # pixels of a patch: a VAE that scales by 8, patches of 2
LEAST_ERROR = 1e-3  # squared grey levels: a PSNR of 78 dB stands for equality

Measure = Callable[[np.ndarray, np.ndarray, Scene], float]  # result, that of the first prompt, scene


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Prompts on one kind of scene; the first one is what the others are measured against."""

    title: str
    scenes: str  # of cases.KINDS
    prompts: Mapping[str, str]  # row -> whole prompt
    measures: Mapping[str, Measure]  # column -> value, averaged over scenes
    also: tuple[str, ...] = ()  # rows of BASELINES
    orders: tuple[tuple[str, ...], ...] = field(default=())  # rows in which the first measure should grow


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """dB, of uint8 arrays of one shape; nan of empty ones."""
    if not one.size:
        return float("nan")
    error = np.square(one.astype(np.float64) - other).mean()
    return float(10 * np.log10(255.0**2 / max(error, LEAST_ERROR)))


def luminance_gain(result, base, scene) -> float:
    """Mean luminance over that of the base, grey levels."""
    return float(luma(result).mean() - luma(base).mean())


def contrast_gain(result, base, scene) -> float:
    """Standard deviation of the luminance over that of the base, grey levels."""
    return float(luma(result).std() - luma(base).std())


def colour(result, base, scene) -> float:
    """Mean over pixels of the largest less the smallest channel, grey levels; 0 of a grey picture."""
    return float(np.ptp(result.astype(np.int16), axis=-1).mean())


def to_base(result, base, scene) -> float:
    return psnr(result, base)


def to_truth(result, base, scene) -> float:
    return psnr(result, scene.truth)


def marked(result, base, scene) -> float:
    """Share of the pixels under a blue overlay, %."""
    return 100 * float(overlay.decode(result, base).mask.mean())


def blockiness(result, base, scene) -> float:
    """Mean step of the luminance across the edges of blocks over that elsewhere; 1: no blocks are seen."""
    grey = luma(result)
    ratios = []
    for steps in (np.abs(np.diff(grey, axis=0)), np.abs(np.diff(grey, axis=1)).T):
        edge = np.arange(1, len(steps) + 1) % BLOCK == 0
        ratios.append(steps[edge].mean() / max(steps[~edge].mean(), LEAST_ERROR))
    return float(np.mean(ratios))


def detail(result, base, scene) -> float:
    """Mean gradient over that of the stronger source, pixel by pixel, %: low is smooth, over 100 is added."""
    one, two, made = (_gradient(picture) for picture in (scene.first, scene.second, result))
    return 100 * float(made.mean() / max(np.maximum(one, two).mean(), LEAST_ERROR))


def _gradient(picture: np.ndarray) -> np.ndarray:
    down, across = np.gradient(luma(picture).astype(np.float64))
    return np.hypot(down, across)


def _where(choose: Callable[[np.ndarray], np.ndarray]) -> Measure:
    """PSNR to the truth where `choose` of missing bool [2, H, W] is true."""

    def measure(result, base, scene) -> float:
        place = choose(scene.missing)
        return psnr(result[place], scene.truth[place])

    return measure


def _tagged(tasks: Sequence[str], base: str = "ivif") -> dict[str, str]:
    """Every task with its tags and with its words alone, behind the plain fusion."""
    prompts = {"base": request(task=base)}
    for task in tasks:
        prompts |= {f"{task}, tag": request(task=task), f"{task}, words": request(task=task, tag=False)}
    return prompts


LIGHT = ("light--", "light-", "light+", "light++")
CONTRAST = ("contrast-", "contrast+")
GAIN = {"luminance gain (levels)": luminance_gain}


def _chain(tasks: Sequence[str], how: str) -> tuple[str, ...]:
    """Rows from less to more, the base in the middle."""
    rows = [f"{task}, {how}" for task in tasks]
    half = len(rows) // 2
    return (*rows[:half], "base", *rows[half:])


PROBES = {
    "tag": Probe(
        title="Light with and without its tag (Fig. 17)",
        scenes="ivif",
        prompts=_tagged(LIGHT),
        measures=GAIN,
        orders=(
            *(_chain(LIGHT, how) for how in ("tag", "words")),
            *(("base", f"{task}, words", f"{task}, tag") for task in LIGHT[2:]),
        ),
    ),
    "grey": Probe(
        title="Colour invented on grey sources (Fig. 15)",
        scenes="grey",
        prompts=_tagged(("ivif", "light++", "contrast+")),
        measures={"colour (levels)": colour},
    ),
    "contrast": Probe(
        title="Order of the contrasts (Fig. 15)",
        scenes="ivif",
        prompts=_tagged(CONTRAST),
        measures={"contrast gain (levels)": contrast_gain},
        orders=tuple(_chain(CONTRAST, how) for how in ("tag", "words")),
    ),
    "blocks": Probe(
        title="Blocks on M3 copies of photographs (Fig. 16)",
        scenes="damaged",
        prompts={"fusion, tag": request(task="fuse"), "fusion, words": request(task="fuse", tag=False)},
        measures={"blockiness": blockiness, "detail (%)": detail, "PSNR to the photograph (dB)": to_truth},
        also=("mean",),
    ),
    "smooth": Probe(
        title="Smoothness on multi-focus pairs (Fig. 16)",
        scenes="mff",
        prompts={"mff, tag": request(task="mff"), "mff, words": request(task="mff", tag=False)},
        measures={"detail (%)": detail, "blockiness": blockiness},
        also=("mean", "Laplacian pyramid"),
    ),
    "words": Probe(
        title="Words that training did not see, without tags (Table VII, Fig. 18)",
        scenes="ivif",
        prompts={"base": request(task="fuse", tag=False)}
        | {f"prompt {number}": request(words) for number, words in enumerate(TABLE_VII, 1)},
        measures=GAIN,
        orders=tuple(("base", f"prompt {number}") for number in range(1, len(TABLE_VII) + 1)),
    ),
    "noise": Probe(
        title="Noise for a prompt (Table VIII, Fig. 19)",
        scenes="streets",
        prompts={"plain fusion": request(task="fuse")}
        | {f"prompt {number}": request(words) for number, words in enumerate(TABLE_VIII, 1)},
        measures={"PSNR to plain fusion (dB)": to_base, "detail (%)": detail, "marked (%)": marked},
    ),
    "irregular": Probe(
        title="Irregular masks (Fig. 20), PSNR to the photograph by area",
        scenes="irregular",
        prompts={"fusion": request(task="fuse")},
        measures={
            "lost in one source (dB)": _where(lambda missing: missing[0] ^ missing[1]),
            "lost in both (dB)": _where(lambda missing: missing.all(0)),
            "lost in none (dB)": _where(lambda missing: ~missing.any(0)),
        },
        also=("mean", "Laplacian pyramid"),
    ),
}


def rows(probe: Probe, scene: Scene, answers: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The picture of every row: answers in the order of the prompts, then fusion without a network."""
    also = {name: BASELINES[name](scene.first, scene.second) for name in probe.also}
    return dict(zip(probe.prompts, answers, strict=True)) | also


def values(probe: Probe, scene: Scene, pictures: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Row -> column -> value, of one scene."""
    base = pictures[next(iter(probe.prompts))]
    return {
        row: {column: measure(picture, base, scene) for column, measure in probe.measures.items()}
        for row, picture in pictures.items()
    }


def markdown(probe: Probe, found: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    """Means over scenes, and the share of scenes where each order holds. found: `values` of each scene."""
    columns = list(probe.measures)
    lines = [f"### {probe.title}, {len(found)} scenes", ""]
    lines += ["| | " + " | ".join(columns) + " |", "| --- " * (1 + len(columns)) + "|"]
    for row in found[0]:
        cells = [np.array([scene[row][column] for scene in found]) for column in columns]
        means = [f"{cell[~np.isnan(cell)].mean():.2f}" if not np.isnan(cell).all() else "-" for cell in cells]
        lines.append(f"| {row} | " + " | ".join(means) + " |")
    if probe.orders:
        lines += ["", "| order | scenes |", "| --- | --- |"]
    for order in probe.orders:
        grows = [np.diff([scene[row][columns[0]] for row in order]) > 0 for scene in found]
        lines.append(f"| {' < '.join(order)} | {np.mean([all(steps) for steps in grows]):.0%} |")
    return "\n".join(lines) + "\n"
