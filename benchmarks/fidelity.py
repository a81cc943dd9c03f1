# SPDX-License-Identifier: Apache-2.0
"""What original pixels bring: the decoded result and the rebuilt one, with and without a model.

    python benchmarks/fidelity.py [--checkpoint DIR] [--data DIR] [--limit 32] [--steps N] [--noises N]
    python benchmarks/fidelity.py --size 512     # whole photographs, long side up to 512, in native tiles
    python benchmarks/fidelity.py --size 1024    # streets of examples/render_scene.py; needs no data

Simulated pairs of held-out photographs at 256 px. PSNR in dB and mean CIEDE2000 to the truth, of results
rounded to 8 bit. "no model" is the same estimator with the mean of the sources in the place of the model's
result, and "tiles alone" is without the pass over the whole picture (inference/overview.py).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import demo_cases
import numpy as np
from demo_cases import SIDE, Case
from demo_items import Bench, fuse_all, heading, mean_psnr, rebuilt, round_trip, table

from ditfuse_jax.data import control, sources
from ditfuse_jax.evaluation.baselines import BASELINES
from ditfuse_jax.evaluation.metrics.colour import ciede2000
from ditfuse_jax.inference import overview
from ditfuse_jax.inference.fuse import DEMO, DiTFuse
from ditfuse_jax.prompt import kind_of
from ditfuse_jax.task import request

PLAIN = "Fuse the two images."
DRAWN = 1024  # pixels: no photograph of the validation list is so large, so these are drawn


class Kind(NamedTuple):
    source: str  # of the demo mixture
    joint_share: float  # M3 blocks that are degraded in both sources
    task: str


# task: "fuse" is [FUSION] without subtask; a control changes the truth likewise
KINDS = {
    "M3": Kind("m3", 0.0, "fuse"),
    "M3, 25 % joint": Kind("m3", 0.25, "fuse"),
    "multi-focus": Kind("focus", 0.0, "mff"),
    "multi-exposure": Kind("exposure", 0.0, "mef"),
    "multi-exposure, wide": Kind("exposure_wide", 0.0, "mef"),
}
LARGE = KINDS | {name: Kind("focus", 0.0, name) for name in ("contrast+", "contrast-")}


def without_model(model: DiTFuse, case: Case, kind: str | None) -> np.ndarray:
    """The estimator with the mean of both round trips as the result, uint8 [H, W, 3]."""
    both = model.encode((case.first, case.second), max_side=SIDE)
    trips = [model.decode(latents, both.geometry) for latents in both.latents]
    return rebuilt(np.mean(trips, axis=0), trips, (case.first, case.second), kind)


def rows_of(bench: Bench, kind: Kind) -> list[list]:
    cases = demo_cases.simulated(
        bench.root, kind.source, joint_share=kind.joint_share, limit=bench.limit
    ).cases
    prompt = request(task=kind.task)
    native = {"fidelity": 1.0}
    results = {
        "decoded": fuse_all(bench, cases, prompt),
        "rebuilt, with the task": fuse_all(bench, cases, prompt, **native),
        "rebuilt, words alone": fuse_all(bench, cases, PLAIN, **native),
        "no model, with the task": [without_model(bench.model, case, kind_of(prompt)) for case in cases],
        "truth through the autoencoder": round_trip(bench.model, [case.target for case in cases]),
    }
    results |= {name: [fuse(c.first, c.second) for c in cases] for name, fuse in BASELINES.items()}
    return [[name, *scores(made, cases)] for name, made in results.items()]


def rows_of_large(bench: Bench, kind: Kind, size: int) -> list[list]:
    """Of pictures larger than the model sees: in native tiles, one after the other."""
    how = {"joint_share": kind.joint_share, "limit": bench.limit}
    found = demo_cases.simulated(bench.root, kind.source, longest=size, **how) if size < DRAWN else None
    cases = (found or demo_cases.drawn(kind.source, **how)).cases
    if kind.task in control.CONTROLS:
        cases = [case._replace(target=control.adjust(case.target, kind.task)) for case in cases]
    settings = {"steps": bench.steps, "noises": bench.noises, "tiles": "on"}

    def fused(prompt: str, fidelity: float) -> list[np.ndarray]:
        made = (
            bench.model.fuse((case.first, case.second), prompt, seed=number, fidelity=fidelity, **settings)
            for number, case in enumerate(cases)
        )
        return [result.image for result in made]

    prompt = request(task=kind.task)
    results = {
        "decoded": fused(prompt, 0.0),
        "rebuilt, with the task": fused(prompt, 1.0),
        "rebuilt, words alone": fused(PLAIN, 1.0),
    }
    if kind_of(prompt) in overview.WIDE:
        with mock.patch.object(overview, "wanted", return_value=False):
            results["rebuilt, tiles alone"] = fused(prompt, 1.0)
    results |= {name: [fuse(c.first, c.second) for c in cases] for name, fuse in BASELINES.items()}
    return [[name, *scores(made, cases)] for name, made in results.items()]


def scores(made: Sequence[np.ndarray], cases: Sequence[Case]) -> tuple[float, float]:
    """Mean PSNR and mean colour error."""
    targets = [case.target for case in cases]
    errors = [ciede2000(result, target) for result, target in zip(made, targets, strict=True)]
    values = [mean_psnr([result], [target]) for result, target in zip(made, targets, strict=True)]
    return float(np.mean(values)), float(np.mean(errors))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--noises", type=int)
    parser.add_argument("--size", type=int, choices=(SIDE, 512, DRAWN), default=SIDE)
    flags = parser.parse_args()
    model = DiTFuse.load(flags.checkpoint)
    proposed = model.config.sampling
    steps, noises = flags.steps or proposed.steps, flags.noises or proposed.noises
    root = Path() if flags.size == DRAWN else sources.data_root(flags.data)
    bench = Bench(model, root, steps, noises, flags.limit)
    print(f"{model.checkpoint_id}, {steps} steps, {noises} noises")
    for name, kind in (KINDS if flags.size == SIDE else LARGE).items():
        rows = rows_of(bench, kind) if flags.size == SIDE else rows_of_large(bench, kind, flags.size)
        heading(name, flags.limit)
        table(["", "PSNR, dB", "CIEDE2000"], rows)


if __name__ == "__main__":
    main()
