# SPDX-License-Identifier: Apache-2.0
"""What `prompts` does with its flags: the test-time prompts of the paper on held-out pictures, measured."""

import argparse
import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from ditfuse_jax import __version__
from ditfuse_jax.config import closest
from ditfuse_jax.data.sources import data_root
from ditfuse_jax.evaluation import cases, probes, tables
from ditfuse_jax.evaluation.cases import Scene
from ditfuse_jax.evaluation.flags import sampling
from ditfuse_jax.evaluation.run_commands import loaded


def prompts(args: argparse.Namespace) -> int:
    """Tables as prompts.md, every value as prompts.csv."""
    chosen, root = choose(args.only), data_root(args.data)
    found = {
        name: cases.held_out(probes.PROBES[name].scenes, root, limit=args.limit, side=args.side)
        for name in chosen
    }
    model = loaded(args)
    texts, rows = [_facts(model, args)], []
    with tqdm(total=sum(map(len, found.values())), unit="scene", dynamic_ncols=True, disable=None) as bar:
        for name in chosen:
            probe, measured = probes.PROBES[name], []
            for scene, pictures in answered(model, probe, found[name], args):
                measured.append(probes.values(probe, scene, pictures))
                rows += _rows(name, scene.name, measured[-1])
                bar.update()
            texts.append(probes.markdown(probe, measured))
    text = "\n".join(texts)
    tables.write(args.out / "prompts.md", text)
    tables.write(args.out / "prompts.csv", _csv(rows))
    print(text)
    print(f"written     {args.out}")
    return 0


def choose(text: str) -> list[str]:
    """Names of PROBES from `all` or a list with commas. Raises ValueError for another."""
    names = list(probes.PROBES) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in probes.PROBES:
            known = ", ".join(probes.PROBES)
            raise ValueError(f"--only {name!r}{closest(name, probes.PROBES)}: not one of all, {known}")
    return names


def answered(
    model, probe: probes.Probe, found: Sequence[Scene], args: argparse.Namespace
) -> Iterator[tuple[Scene, dict[str, np.ndarray]]]:
    """Every scene with the picture of each row."""
    asked = list(probe.prompts.values())
    for scene in found:
        made = model.fuse_prompts((scene.first, scene.second), asked, seed=args.seed, **sampling(args))
        yield scene, probes.rows(probe, scene, [result.image for result in made])


def _facts(model, args: argparse.Namespace) -> str:
    settings = model.settings(**sampling(args))
    return (
        f"Checkpoint {model.checkpoint_id}, {settings.steps} steps, {settings.noises} noises, fidelity "
        f"{settings.fidelity}, seed {args.seed}; held-out scenes at {args.side} x {args.side} pixels; "
        f"luminance: BT.601 luma; code: ditfuse-jax {__version__}.\n"
    )


def _rows(probe: str, scene: str, values: dict) -> list[tuple]:
    return [(probe, scene, row, *cell) for row, cells in values.items() for cell in cells.items()]


def _csv(rows: Sequence[tuple]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        [("probe", "scene", "prompt", "measure", "value"), *rows]
    )
    return stream.getvalue()
