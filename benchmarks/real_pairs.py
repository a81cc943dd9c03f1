# SPDX-License-Identifier: Apache-2.0
"""Real validation pairs at native size, without a truth: our result beside fusion without a network.

    python benchmarks/real_pairs.py [--checkpoint DIR] [--data DIR] [--limit 8] [--only ivif,mff,mef]
    python benchmarks/real_pairs.py --steps 1 --noises 1    # other settings than the checkpoint's
    python benchmarks/real_pairs.py --ceilings      # a rival's result in the place of the model's

Metrics of `ditfuse_jax.evaluation` by definition (protocol standard, grey). Pairs are spread over each list;
0: all. enfuse, if it is installed, with the options of `stacks.enfuse`.

--ceilings: a rival's result goes through the autoencoder and is then rebuilt from the sources, on the middle
256 x 256 pixels: what a model that decides as the rival does would give. It should have the rival's figures.
"""

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import demo_cases
import numpy as np
from demo_cases import SIDE, Case
from demo_items import heading, rebuilt, round_trip, table
from stacks import FOCUS_ONLY, enfuse

from ditfuse_jax.data import sources
from ditfuse_jax.data.config import VALIDATION
from ditfuse_jax.evaluation import catalogue
from ditfuse_jax.evaluation.baselines import BASELINES
from ditfuse_jax.inference.fuse import DEMO, DiTFuse
from ditfuse_jax.prompt import kind_of
from ditfuse_jax.task import request

METRICS = {
    "ivif": ("vif", "qabf", "q_w", "scd", "ssim"),
    "mff": ("vif", "qabf", "q_w", "scd", "ssim"),
    "mef": ("vif", "qabf", "q_w", "mef_ssim", "ssim"),
}
RIVALS = {"ivif": "Laplacian pyramid", "mff": "Laplacian pyramid", "mef": "Mertens"}  # of --ceilings
Fuse = Callable[[np.ndarray, np.ndarray], np.ndarray]  # uint8 [H, W, 3] each


def read_pairs(root: Path, task: str, limit: int) -> list[Case]:
    """Held-out pairs of one kind at their native size."""
    items = demo_cases.spread(sources.find("pairs", demo_cases.REAL[task], root, VALIDATION).items, limit)
    return [Case(item.images[0].stem, *sources.load(item).images) for item in items]


def middle(case: Case) -> Case | None:
    """SIDE x SIDE pixels, None of a smaller pair."""
    if min(case.first.shape[:2]) < SIDE:
        return None
    return case._replace(first=demo_cases.middle(case.first), second=demo_cases.middle(case.second))


def means(cases: Sequence[Case], fuse: Fuse, task: str) -> list[float]:
    """The mean of each metric of the task over the cases."""
    rows = []
    for case in cases:
        scene = catalogue.scene(case.first, case.second, fuse(case.first, case.second), task=task)
        rows.append([catalogue.BY_NAME[name].compute(scene, "standard") for name in METRICS[task]])
    return np.mean(rows, axis=0).tolist()


def rivals(task: str) -> dict[str, Fuse]:
    found = dict(BASELINES)
    if shutil.which("enfuse"):
        options = FOCUS_ONLY if task == "mff" else ()
        found["enfuse"] = lambda first, second: enfuse([first, second], *options)
    return found


def measure(model: DiTFuse, task: str, cases: Sequence[Case], options: dict) -> None:
    """All methods on one kind."""

    def ours(**more) -> Fuse:
        return lambda first, second: model.fuse((first, second), task=task, **options | more).image

    methods = {"ours": ours(), "ours, decoded": ours(fidelity=0.0, tiles="on"), **rivals(task)}
    heading(task, len(cases))
    table(["", *METRICS[task]], [[name, *means(cases, fuse, task)] for name, fuse in methods.items()])


def measure_ceiling(model: DiTFuse, task: str, cases: Sequence[Case]) -> None:
    """A rival, the same through the autoencoder, and that rebuilt."""
    small = [part for case in cases if (part := middle(case)) is not None]
    name, kind = RIVALS[task], kind_of(request(task=task))

    def decoded(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return round_trip(model, [BASELINES[name](first, second)])[0]

    def native(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        result, *trips = round_trip(model, [BASELINES[name](first, second), first, second])
        return rebuilt(result, trips, (first, second), kind)

    methods = {name: BASELINES[name], "through the autoencoder": decoded, "rebuilt": native}
    heading(f"{task}, ceiling", len(small))
    table(["", *METRICS[task]], [[title, *means(small, fuse, task)] for title, fuse in methods.items()])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--only", default=",".join(METRICS))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--noises", type=int)
    parser.add_argument("--fidelity", type=float)
    parser.add_argument("--ceilings", action="store_true")
    args = parser.parse_args()
    model, root = DiTFuse.load(args.checkpoint), sources.data_root(args.data)
    options = {
        name: value for name in ("steps", "noises", "fidelity") if (value := getattr(args, name)) is not None
    }
    print(f"{model.checkpoint_id}, {options or 'default settings'}, native size")
    for task in args.only.split(","):
        cases = read_pairs(root, task, args.limit)
        if args.ceilings:
            measure_ceiling(model, task, cases)
        else:
            measure(model, task, cases, options)


if __name__ == "__main__":
    main()
