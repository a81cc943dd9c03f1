# SPDX-License-Identifier: Apache-2.0
"""How well a small checkpoint does its job, on held-out pictures at 256 px, beside fusion without a network.

    python benchmarks/demo_quality.py [--checkpoint DIR] [--data DIR] [--steps N] [--noises N] [--limit 8]
    python benchmarks/demo_quality.py --only vae,m3     # of vae m3 exposure focus limit control seg start
    python benchmarks/demo_quality.py --sheet sheet.png # all real pairs to look at: 1, 2, mean, ours
    python benchmarks/demo_quality.py --table           # quality against steps, guidance and noises

Every figure is of the decoded output, or with --fidelity 1 of the rebuilt one, rounded to 8 bit; PSNR is the
mean over pictures of each one's PSNR against 255. Pair number i starts from the noise of seed i. Steps and
scales are the checkpoint's unless named.
"""

import argparse
import time
from pathlib import Path

import demo_cases
import demo_sheet
import jax
from demo_cases import SIDE, Case
from demo_items import BATCH, ITEMS, Bench, fuse_all, heading, mean_psnr, table

from ditfuse_jax.data import sources
from ditfuse_jax.evaluation.baselines import BASELINES
from ditfuse_jax.inference.fuse import DEMO, DiTFuse
from ditfuse_jax.task import request

MOST_STEPS = 20
TABLE_STEPS = (1, 2, 4, 8, 20)
TABLE_GUIDANCE = ((1.0, 1.0), (1.0, 1.2), (1.5, 1.2), (2.0, 1.6))  # text, image; 1, 1: one branch
TABLE_NOISES = (2, 4, 8)  # with the first of TABLE_GUIDANCE
TABLE_PAIRS = 24  # of each kind, unless --limit says fewer


def measure_steps(bench: Bench) -> None:
    """Quality against steps, guidance and noises, the table from which a checkpoint's defaults are chosen."""
    limit = min(bench.limit or TABLE_PAIRS, TABLE_PAIRS)
    kinds = {
        "fuse": demo_cases.simulated(bench.root, "m3", joint_share=0.0, limit=limit).cases,
        "ivif": demo_cases.simulated(bench.root, "ivif", limit=limit).cases,
        "mef": demo_cases.simulated(bench.root, "exposure", limit=limit).cases,
    }
    heading("PSNR against steps, guidance, noises: complementary M3, infrared-visible, multi-exposure", limit)
    print("Infrared-visible: against the mean luminance under the colour of the visible picture.\n")
    rows = []
    for guidance in TABLE_GUIDANCE:
        scales = dict(zip(("guidance", "image_guidance"), guidance, strict=True)) | {"noises": 1}
        for task, cases in kinds.items():  # compile, so that no row below waits for it
            fuse_all(bench, cases[:BATCH], request(task=task), steps=1, **scales)
        rows += [steps_row(bench, kinds, steps, scales) for steps in TABLE_STEPS]
    scales = dict(zip(("guidance", "image_guidance"), TABLE_GUIDANCE[0], strict=True))
    for noises in TABLE_NOISES:
        rows += [steps_row(bench, kinds, steps, scales | {"noises": noises}) for steps in TABLE_STEPS[:3]]
    table(["steps", "text scale", "image scale", "noises", "M3", "ivif", "exposure", "s a picture"], rows)


def steps_row(bench: Bench, kinds: dict[str, list[Case]], steps: int, scales: dict[str, float]) -> list:
    """scales: guidance, image_guidance, noises, in this order."""
    start = time.perf_counter()
    results = {
        task: fuse_all(bench, cases, request(task=task), steps=steps, **scales)
        for task, cases in kinds.items()
    }
    spent = (time.perf_counter() - start) / sum(map(len, kinds.values()))
    quality = [mean_psnr(results[task], [case.target for case in cases]) for task, cases in kinds.items()]
    return [steps, *(f"{scale:g}" for scale in scales.values()), *quality, spent]


def draw_sheet(bench: Bench, file: Path) -> None:
    """Every real validation pair: source 1, source 2, their mean, ours."""
    cells = []
    for task in demo_cases.REAL:
        cases = demo_cases.real_pairs(bench.root, task, bench.limit)
        for shape in demo_cases.SHAPES:
            alike = [case for case in cases if case.first.shape[:2] == shape]
            fused = fuse_all(bench, alike, request(task=task)) if alike else []
            for case, ours in zip(alike, fused, strict=True):
                mean = BASELINES["mean"](case.first, case.second)
                cells.append(demo_sheet.Cell(case.name, (case.first, case.second, mean, ours)))
    demo_sheet.draw(cells, across=2).save(file)
    print(f"\n{file}: {len(cells)} real pairs; from left to right source 1, source 2, their mean, ours")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO, help="default: the one that ships")
    parser.add_argument("--data", help="data root (default: $DITFUSE_DATA, else ../shared/data)")
    parser.add_argument("--steps", type=int, help=f"default: the checkpoint's, at most {MOST_STEPS}")
    parser.add_argument("--noises", type=int, help="default: the checkpoint's")
    parser.add_argument("--fidelity", type=float, default=0.0, help="0: decoded (default), 1: rebuilt")
    parser.add_argument("--limit", type=int, default=0, help="pictures per item, evenly over the lists")
    parser.add_argument("--only", help=f"{','.join(ITEMS)} (default: all; none with a flag below)")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="contact sheet of the real pairs")
    parser.add_argument("--table", action="store_true", help="quality against steps, guidance, noises")
    return parser.parse_args()


def chosen_items(args: argparse.Namespace) -> list[str]:
    if args.only is None:
        return [] if args.sheet or args.table else list(ITEMS)
    names = args.only.split(",")
    for name in names:
        if name not in ITEMS:
            raise ValueError(f"--only {name}: not one of {', '.join(ITEMS)}")
    return names


def start(args: argparse.Namespace) -> Bench:
    """Loads the checkpoint and says what is measured where."""
    if args.steps is not None and not 1 <= args.steps <= MOST_STEPS:
        raise ValueError(f"--steps {args.steps} is not in 1 to {MOST_STEPS}, which this benchmark is about")
    root = sources.data_root(args.data)
    model = DiTFuse.load(args.checkpoint)
    settings = model.settings(steps=args.steps, max_side=SIDE, noises=args.noises, fidelity=args.fidelity)
    steps = min(settings.steps, MOST_STEPS)
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {jax.device_count()} x {device.platform} ({device.device_kind})")
    scales = f"guidance {settings.guidance:g}, image guidance {settings.image_guidance:g}"
    how = f"{SIDE} px, {steps} steps, {scales}, noises {settings.noises}, fidelity {settings.fidelity:g}"
    print(f"checkpoint {model.checkpoint_id}, {how}")
    return Bench(model, root, steps, settings.noises, args.limit, settings.fidelity)


def main() -> None:
    args = parse()
    try:
        items, bench = chosen_items(args), start(args)
    except ValueError as error:
        raise SystemExit(f"demo_quality.py: {error}") from error
    work = {name: ITEMS[name] for name in items}
    work |= {"table": measure_steps} if args.table else {}
    work |= {"sheet": lambda bench: draw_sheet(bench, args.sheet)} if args.sheet else {}
    for name, measure in work.items():
        begun = time.perf_counter()
        measure(bench)
        print(f"\n({name}: {time.perf_counter() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
