# SPDX-License-Identifier: Apache-2.0
"""The ablations of the paper (Table VI, Fig. 15 and 16) at the scale of the demo: eight runs, then tables.

    python benchmarks/ablations.py train --out runs/ablations [--steps 600] [--init DIR] [--only m3_blur,all]
    python benchmarks/ablations.py measure --out runs/ablations [--limit 8]

All runs have one start (random weights of one seed on the frozen autoencoder of --init-vae, or --init), equal
steps, batches and data but for what they ablate. `train` may be stopped (Ctrl-C, SIGTERM, kill) and started
again: it goes on from the last save, and what is finished stays. `measure` takes what is there.

The mixture is that of configs/demo.py with tags on every prompt; its sources are drawn by weight, so equal
steps are equal samples, and a run on fewer sources sees each of its files more often. Pictures are 160 pixels
or less. Results are decoded, not rebuilt from the sources, which would hide what the network does.
"""

import argparse
import dataclasses
import functools
import math
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
from demo_items import table

from convert.from_train import from_train
from ditfuse_jax.config import DEMO
from ditfuse_jax.data import sources
from ditfuse_jax.data.config import Bucket
from ditfuse_jax.evaluation import cases, catalogue, probes, published
from ditfuse_jax.evaluation.prompt_commands import answered
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.task import request
from ditfuse_jax.training.config import TrainConfig, load
from ditfuse_jax.training.start import Place, run

DEMO_RUN = Path(__file__).parents[1] / "configs" / "demo.py"
LEAST, SIDE = 96, 160  # pixels of a side, in training; measured at SIDE
FUSION = ("ivif", "focus", "exposure")
SAMPLING = {"steps": 4, "guidance": 1.0, "image_guidance": 1.0, "noises": 2, "fidelity": 0.0}
OPERATIONS = {"m3_blur": ("blur",), "m3_mask": ("mask",), "m3_noise": ("noise",)}
DATA = {"fusion_only": FUSION, "m3_only": ("m3",), "fusion_and_m3": ("m3", *FUSION)}
NAMES = (*OPERATIONS, "all", "no_tags", *DATA)
TABLE_VI = {"m3_blur": "blur", "m3_mask": "noise mask", "m3_noise": "Gaussian noise", "all": "all three"}


def settings(name: str, steps: int, *, init: str, init_vae: str) -> TrainConfig:
    """One of NAMES. With `init` its networks and tokenizer are taken, and `init_vae` is not."""
    base = load(DEMO_RUN)
    mixture = dataclasses.replace(
        base.mixture,
        buckets=(Bucket(height=SIDE, width=SIDE, least_height=LEAST, least_width=LEAST),),
        untagged_share=1.0 if name == "no_tags" else 0.0,
    )
    if name in OPERATIONS:
        m3 = dataclasses.replace(mixture.m3, operations=OPERATIONS[name])
        mixture = dataclasses.replace(mixture, m3=m3)
    if name in DATA:
        kept = tuple(source for source in mixture.sources if source.name in DATA[name])
        mixture = dataclasses.replace(mixture, sources=kept)
    return dataclasses.replace(
        base,
        name=name,
        mixture=mixture,
        steps=steps,
        init=init,
        init_vae="" if init else init_vae,
        save_every=50,
        validate_every=0,
    )


def train(args: argparse.Namespace) -> None:
    """Every run that is not finished, one after the other, and its checkpoint folder."""
    for name in chosen(args.only):
        workdir, target = args.out / "runs" / name, args.out / name
        if (target / "config.json").is_file():
            print(f"{name}: finished")
            continue
        config = settings(name, args.steps, init=args.init, init_vae=args.init_vae)
        place = Place(workdir, sources.data_root(args.data), "", report_to="none")
        if run(config, place) < config.steps:
            return  # asked to stop
        export = {"step": None, "raw": False, "merged": False, "dtype": None, "overwrite": False}
        from_train(workdir, target, **export, sampling=SAMPLING)
        jax.clear_caches()


def chosen(text: str) -> list[str]:
    names = list(NAMES) if text == "all" else text.split(",")
    for name in names:
        if name not in NAMES:
            raise SystemExit(f"--only {name}: not one of all, {', '.join(NAMES)}")
    return names


def measure(args: argparse.Namespace) -> None:
    """Three tables, and whether the paper's order comes out."""
    there = {name: args.out / name for name in NAMES}
    models = {name: DiTFuse.load(folder) for name, folder in there.items() if folder.is_dir()}
    if not models:
        raise SystemExit(f"{args.out} holds no finished run; start with `train --out {args.out}`")
    for name, model in models.items():
        print(f"{name}: {model.checkpoint_id}")
    measured = Measured(models, sources.data_root(args.data), args.limit)
    degradations(measured)
    tags(measured)
    compositions(measured)


class Measured:
    """Probes of the models, each computed once."""

    def __init__(self, models: dict, root: Path, limit: int):
        self.models, self.root, self.limit = models, root, limit
        self.probe = functools.cache(self._probe)

    def scenes(self, kind: str) -> list[cases.Scene]:
        return cases.held_out(kind, self.root, limit=self.limit, side=SIDE)

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
    rows, truths = [], {}
    for name in TABLE_VI:
        if name not in measured.models:
            continue
        mse, psnr = measured.tang(name)
        truths[name] = measured.mean(name, "blocks", "fusion, tag", "PSNR to the photograph (dB)")
        theirs = paper.get(TABLE_VI[name], (math.nan, math.nan))
        rows.append([TABLE_VI[name], f"{mse:.4f}", psnr, truths[name], *map(str, theirs[:2])])
    heading("Table VI: what M3 damages")
    columns = ["M3 damages by", "MSE (tang)", "PSNR (tang)", "PSNR to the photograph, M3 copies (dB)"]
    table([*columns, "paper: MSE", "paper: PSNR"], rows)
    if len(truths) == len(TABLE_VI):
        best = max(truths, key=truths.get)
        verdict("all three are best", best == "all", f"best is {TABLE_VI[best]}")


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
        verdict("tags keep contrasts apart", spans["all"] > spans["no_tags"], f"{spans}")


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
        verdict("fusion data alone is smoothest", smooth, str(found))
        verdict("M3 alone shows the most blocks", blocky, str(found))


def heading(title: str) -> None:
    print(f"\n## {title}\n")


def verdict(claim: str, holds: bool, values: str) -> None:
    print(f"\nThe paper's {claim!r}: {'reproduced' if holds else 'NOT reproduced'} ({values})")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("train", "measure"))
    parser.add_argument("--out", type=Path, required=True, help="a folder per run")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="all", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--steps", type=int, default=600, help="of each run")
    parser.add_argument("--init", default="", help="checkpoint folder that all start from; default: random")
    parser.add_argument("--init-vae", default=str(DEMO), help="of the autoencoder; default: the demo's")
    parser.add_argument("--limit", type=int, default=8, help="scenes of each measure; 0: all")
    args = parser.parse_args(words)
    {"train": train, "measure": measure}[args.command](args)


if __name__ == "__main__":
    main()
