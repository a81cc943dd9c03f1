# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/ablations.md: what the runs were, Table VI, Fig. 15 and 16 of the paper."""

import functools
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from ablation_runs import DATA, passes
from demo_items import table

from ditfuse_jax.evaluation import cases, catalogue, probes, published
from ditfuse_jax.evaluation.prompt_commands import answered
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.task import request
from ditfuse_jax.training.config import TrainConfig

TABLE_VI = {"m3_blur": "blur", "m3_mask": "noise mask", "m3_noise": "Gaussian noise", "all": "all three"}


def runs(configs: dict[str, TrainConfig], models: dict, root: Path) -> None:
    """What all had, and how often each saw its files."""
    heading("The runs")
    print(f"{shared(next(iter(configs.values())))} Mean number of times that a file was drawn:\n")
    seen = {name: passes(config, root) for name, config in configs.items()}
    paths = list(dict.fromkeys(path for found in seen.values() for path in found))
    rows = []
    for name, found in seen.items():
        cells = [f"{found[path]:.2f}" if path in found else "-" for path in paths]
        rows.append([name, models[name].checkpoint_id, *cells])
    table(["run", "checkpoint", *paths], rows)


def shared(one: TrainConfig) -> str:
    """Start and length, which are the same in all runs."""
    start = f"the checkpoint {DiTFuse.load(one.init).checkpoint_id}" if one.init else "random weights"
    samples, bucket = one.steps * one.batch_size, one.mixture.buckets[0]
    rows = f"{one.steps} steps of {one.batch_size} rows, {one.draws} noises a row"
    return (
        f"Start: {start}, seed {one.seed}. Each {rows}: {samples} samples, {samples / one.mixture.epoch:g} "
        f"epochs of {one.mixture.epoch}. Sides of {bucket.least[0]} to {bucket.height} pixels; rate "
        f"{one.optim.learning_rate:g}, falling to zero."
    )


class Measured:
    """Probes of the models, each computed once."""

    def __init__(self, models: dict, root: Path, limit: int, side: int):
        self.models, self.root, self.limit, self.side = models, root, limit, side
        self.probe = functools.cache(self._probe)

    def told(self) -> str:
        """What the tables state of themselves."""
        number = f"{self.limit} held-out scenes" if self.limit else "all held-out scenes"
        return (
            f"- figures: means over {number} of each kind at {self.side} x {self.side} pixels, decoded\n"
            "- MSE and PSNR to the sources: protocol tang, grey (BT.601 luma); the rest as in evaluation.md\n"
            f"- code: {catalogue.code_version()}"
        )

    def scenes(self, kind: str) -> list[cases.Scene]:
        return cases.held_out(kind, self.root, limit=self.limit, side=self.side)

    def _probe(self, name: str, probe: str) -> list[dict]:
        """Row -> column -> value, of each scene."""
        one = probes.PROBES[probe]
        how = SimpleNamespace(seed=0, steps=None, noises=None, fidelity=None)
        asked = answered(self.models[name], one, self.scenes(one.scenes), how)
        return [probes.values(one, scene, pictures) for scene, pictures in asked]

    def mean(self, name: str, probe: str, row: str, column: str) -> float:
        values = [scene[row][column] for scene in self.probe(name, probe)]
        return float(np.nanmean(values))

    def tang(self, name: str) -> tuple[float, float]:
        """MSE and PSNR with both sources, as the paper prints them, on infrared-visible pairs."""
        rows = []
        for scene in self.scenes("ivif"):
            made = self.models[name].fuse((scene.first, scene.second), request(task="ivif"), seed=0)
            one = catalogue.scene(scene.first, scene.second, made.image, task="ivif")
            rows.append([catalogue.BY_NAME[metric].compute(one, "tang") for metric in ("mse", "psnr")])
        mse, psnr = np.mean(rows, axis=0).tolist()
        return mse, psnr


def degradations(measured: Measured) -> None:
    """Table VI."""
    paper = next(one for one in published.tables() if one.name == "Table VI").rows
    rows, truths, distances = [], {}, {}
    for name in TABLE_VI:
        if name not in measured.models:
            continue
        mse, psnr = measured.tang(name)
        truths[name] = measured.mean(name, "blocks", "fusion, tag", "PSNR to the photograph (dB)")
        distances[name] = mse
        theirs = paper.get(TABLE_VI[name], (math.nan, math.nan))
        rows.append([TABLE_VI[name], f"{mse:.4f}", psnr, truths[name], *map(str, theirs[:2])])
    heading("Table VI: what M3 damages")
    columns = ["M3 damages by", "MSE (tang)", "PSNR (tang)", "PSNR to the photograph, M3 copies (dB)"]
    table([*columns, "paper: MSE", "paper: PSNR"], rows)
    if len(truths) == len(TABLE_VI):
        near = min(distances, key=distances.get)
        verdict("all three are nearest to the sources (MSE)", near == "all", f"nearest: {TABLE_VI[near]}")
        best = max(truths, key=truths.get)
        verdict("all three are best, by the photograph", best == "all", f"best: {TABLE_VI[best]}")


def tags(measured: Measured) -> None:
    """Fig. 15."""
    rows, spans = [], {}
    for name, how in (("all", "tag"), ("no_tags", "words")):
        if name not in measured.models:
            continue
        grey = measured.mean(name, "grey", f"ivif, {how}", "colour (levels)")
        found = measured.probe(name, "contrast")
        gains = [[s[f"{task}, {how}"]["contrast gain (levels)"] for task in probes.CONTRAST] for s in found]
        spans[name] = float(np.mean([low < high for low, high in gains]))
        rows.append([name, grey, *np.mean(gains, axis=0).tolist(), f"{spans[name]:.0%}"])
    heading("Fig. 15: tags")
    table(["run", "colour on grey (levels)", "contrast-", "contrast+", "contrast- < contrast+"], rows)
    if len(spans) == 2:
        told = ", ".join(f"{name} {span:.0%}" for name, span in spans.items())
        verdict("tags keep contrasts apart", spans["all"] > spans["no_tags"], told)


def compositions(measured: Measured) -> None:
    """Fig. 16."""
    rows, found = [], {}
    for name in DATA:
        if name not in measured.models:
            continue
        blocks = measured.mean(name, "blocks", "fusion, tag", "blockiness")
        detail = measured.mean(name, "smooth", "mff, tag", "detail (%)")
        truth = measured.mean(name, "blocks", "fusion, tag", "PSNR to the photograph (dB)")
        found[name] = (blocks, detail)
        rows.append([name, blocks, detail, truth])
    heading("Fig. 16: what is trained on")
    table(["run", "blockiness", "detail, multi-focus (%)", "PSNR to the photograph, M3 copies (dB)"], rows)
    if len(found) == len(DATA):
        smooth = found["fusion_only"][1] == min(detail for _, detail in found.values())
        blocky = found["m3_only"][0] == max(blocks for blocks, _ in found.values())
        details = ", ".join(f"{name} {detail:.1f} %" for name, (_, detail) in found.items())
        verdict("fusion data alone is smoothest", smooth, f"detail: {details}")
        blocks = ", ".join(f"{name} {value:.2f}" for name, (value, _) in found.items())
        verdict("M3 alone shows the most blocks", blocky, f"blockiness: {blocks}")


def heading(title: str) -> None:
    print(f"\n## {title}\n")


def verdict(claim: str, holds: bool, values: str) -> None:
    print(f"\n* the paper: {claim}: {'reproduced' if holds else 'NOT reproduced'} ({values})")
