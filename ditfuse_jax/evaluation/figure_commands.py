# SPDX-License-Identifier: Apache-2.0
"""What `figures` does with its flags: sheets in the form of the paper's figures."""

import argparse
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ditfuse_jax import image
from ditfuse_jax.data import segmentation
from ditfuse_jax.data.config import TRAINING
from ditfuse_jax.data.sources import data_root
from ditfuse_jax.evaluation import cases, commands, folders, overlap, plates, sheets, zoom
from ditfuse_jax.evaluation.baselines import BASELINES
from ditfuse_jax.evaluation.cases import Scene
from ditfuse_jax.evaluation.figures import FIGURES, GROUPS, Figure
from ditfuse_jax.evaluation.flags import sampling
from ditfuse_jax.evaluation.run_commands import loaded


def figures(args: argparse.Namespace) -> int:
    """OUT/fig7.png and so on."""
    others = others_of(args)
    found = {number: scenes_of(FIGURES[number], args) for number in args.number}
    model = loaded(args)
    print(f"checkpoint  {model.checkpoint_id}")
    args.out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=sum(map(len, found.values())), unit="scene", dynamic_ncols=True, disable=None) as bar:
        for number in args.number:
            rows = []
            for scene in found[number]:
                rows += rows_of(model, FIGURES[number], scene, args, others)
                bar.update()
            plates.draw(rows).save(args.out / f"fig{number}.png")
            print(f"written     {args.out / f'fig{number}.png'}: {FIGURES[number].title}")
    return 0


class Others(NamedTuple):
    """What stands beside the checkpoint."""

    baselines: tuple[str, ...]  # keys of BASELINES
    fused: Mapping[str, Mapping[str, Path]]  # method -> stem -> result
    masks: Mapping[str, Path]  # segmenter -> folder of DIR/CLASS/STEM


def others_of(args: argparse.Namespace) -> Others:
    fused = {name: folders.by_stem(folder)[0] for name, folder in folders.methods(args.fused).items()}
    return Others(tuple(commands.baselines(args.baselines)), fused, folders.methods(args.masks))


def scenes_of(figure: Figure, args: argparse.Namespace) -> list[Scene]:
    root = data_root(args.data)
    if figure.scenes == GROUPS:
        return grouped(args.groups, root, args.limit)
    return cases.held_out(figure.scenes, root, limit=args.limit, side=args.side if figure.square else None)


def grouped(file: Path | None, root: Path, limit: int) -> list[Scene]:
    """The first `limit` scenes of each group, its name in front of theirs; 0: all.

    file: TOML, a table a group, in it stems by folder below `root`; None: groups.toml. Says which scenes
    training takes of their folder. Raises ValueError for what is not there.
    """
    own = resources.files("ditfuse_jax.evaluation").joinpath("groups.toml")
    groups = tomllib.loads((file or own).read_text("utf-8"))
    found = []
    for group, places in groups.items():
        listed = [(root / path, stem) for path, stems in places.items() for stem in stems]
        for folder, stem in listed[: limit or None]:
            scene = cases.named(folder, stem)
            seen = ", trained on" if stem in overlap.stems(folder, TRAINING) else ""
            found.append(scene._replace(name=f"{group}: {scene.name}{seen}"))
    return found


def rows_of(
    model, figure: Figure, scene: Scene, args: argparse.Namespace, others: Others
) -> list[plates.PlateRow]:
    """One row, and two more where residuals are shown."""
    asked = list(figure.prompts.values())
    made = model.fuse_prompts((scene.first, scene.second), asked, seed=args.seed, **sampling(args))
    results = dict(zip(figure.prompts, (result.image for result in made), strict=True))
    if figure.methods:
        results |= {name: BASELINES[name](scene.first, scene.second) for name in others.baselines}
        results |= from_folders(scene, others.fused)
    if figure.segments:
        base = results[next(iter(figure.prompts))]
        results |= segmented(scene, base, figure.segments, others.masks)
    boxes = zoom.boxes(scene.first, scene.second, args.zooms)
    pictures = {"source 1": scene.first, "source 2": scene.second, **results}
    rows = [plates.PlateRow(scene.name, pictures, boxes)]
    if figure.residuals:
        rows += [_residuals(scene, results, number) for number in (1, 2)]
    return rows


def from_folders(scene: Scene, fused: Mapping[str, Mapping[str, Path]]) -> dict[str, np.ndarray]:
    """The results of other methods that have this scene. Raises ValueError for one of another size."""
    found = {name: image.read(files[scene.stem]) for name, files in fused.items() if scene.stem in files}
    for name, picture in found.items():
        image.check_same_size(picture, scene.first, (f"{name} of {scene.stem}", "its source"))
    return found


def segmented(scene: Scene, base: np.ndarray, thing: str, masks: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Masks of other segmenters as blue overlays on our plain fusion, of those that have this scene."""
    found = {}
    for name, folder in masks.items():
        files, _ = folders.by_stem(folder / thing)
        if scene.stem in files:
            mask = image.read(files[scene.stem])
            image.check_same_size(mask, base, (f"{name} of {scene.stem}", "its source"))
            found[f"{name}: {thing}"] = segmentation.overlay(base, mask[..., 0] >= 128)
    return found


def _residuals(scene: Scene, results: Mapping[str, np.ndarray], number: int) -> plates.PlateRow:
    source = (scene.first, scene.second)[number - 1]
    empty = {" " * column: np.full_like(source, 255) for column in (1, 2)}  # below the sources
    away = {name: sheets.residual(result, source) for name, result in results.items()}
    return plates.PlateRow(f"minus source {number}", empty | away)
