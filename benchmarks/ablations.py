# SPDX-License-Identifier: Apache-2.0
"""The ablations of the paper (Table VI, Fig. 15 and 16) at the scale of the demo: eight runs, then tables.

    python benchmarks/ablations.py train --out runs/ablations [--steps 150] [--side 128] [--draws 1]
    python benchmarks/ablations.py measure --out runs/ablations [--limit 8] [--page docs/ablations.md]

All runs have one start (--init, by default the demo; `--init ""`: random weights of one seed on the frozen
autoencoder of --init-vae), equal steps, batches, epochs and data but for what they ablate. `train` may be
stopped (Ctrl-C, SIGTERM, kill) and started again: it goes on from the last save, and what is finished stays.
`measure` takes what is there, refuses runs that are not equal, and says what start and length they had.

The mixture is that of configs/demo.py with tags on every prompt. An epoch is a number of samples, the same in
all runs; sources are drawn by weight, so a run on fewer of them sees each of its files more often, as the
first table of `measure` counts. Results are decoded, not rebuilt from the sources, which would hide faults.
"""

import argparse
import contextlib
import io
from pathlib import Path

import ablation_tables
import jax
from ablation_runs import NAMES, Scale, check_equal, settings, trained

from convert.from_train import from_train
from ditfuse_jax.cli.fuse import keep_compiled_programs
from ditfuse_jax.config import DEMO
from ditfuse_jax.data import sources
from ditfuse_jax.evaluation import tables
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.training.start import Place, run

SAMPLING = {"steps": 1, "guidance": 1.0, "image_guidance": 1.0, "noises": 1, "fidelity": 0.0}  # as the demo
MEASURED = "<!-- measured: what follows is written by benchmarks/ablations.py measure --page -->"


def train(args: argparse.Namespace) -> None:
    """Every run that is not finished, one after the other, and its checkpoint folder."""
    scale = Scale(args.steps, args.side, args.draws, args.init, args.init_vae)
    for name in chosen(args.only):
        workdir, target = args.out / "runs" / name, args.out / name
        if (target / "config.json").is_file():
            print(f"{name}: finished")
            continue
        config = settings(name, scale)
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
    """The runs, three tables, and whether the paper's order comes out; with --page in its last part."""
    names = [name for name in NAMES if (args.out / name).is_dir()]
    if not names:
        raise SystemExit(f"{args.out} holds no finished run; start with `train --out {args.out}`")
    head = before_tables(args.page) if args.page else ""
    configs, root = {name: trained(args.out / "runs" / name) for name in names}, sources.data_root(args.data)
    check_equal(configs)
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        models = {name: DiTFuse.load(args.out / name) for name in names}
        ablation_tables.runs(configs, models, root)
        measured = ablation_tables.Measured(
            models, root, args.limit, configs[names[0]].mixture.buckets[0].height
        )
        print(f"\n{measured.told()}")
        for tell in (ablation_tables.degradations, ablation_tables.tags, ablation_tables.compositions):
            tell(measured)
    print(told.getvalue())
    if args.page:
        tables.write(args.page, f"{head}{MEASURED}\n{told.getvalue()}")


def before_tables(page: Path) -> str:
    """What a hand wrote. SystemExit where the page does not say where tables go."""
    head, mark, _ = page.read_text("utf-8").partition(MEASURED)
    if not mark:
        raise SystemExit(f"{page} has no line {MEASURED}; put it where the tables go")
    return head


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("train", "measure"))
    parser.add_argument("--out", type=Path, required=True, help="a folder per run")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="all", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--steps", type=int, default=150, help="of each run; default: 150")
    parser.add_argument("--side", type=int, default=128, help="largest, in pixels; default: 128")
    parser.add_argument("--draws", type=int, default=1, help="noises of a row; default: 1")
    parser.add_argument("--init", default=str(DEMO), help="all start from it; '': random; default: the demo")
    parser.add_argument("--init-vae", default=str(DEMO), help="of the autoencoder of a random start")
    parser.add_argument("--limit", type=int, default=8, help="scenes of each measure; 0: all")
    parser.add_argument("--page", type=Path, metavar="FILE", help="its last part becomes what is measured")
    args = parser.parse_args(words)
    {"train": train, "measure": measure}[args.command](args)


if __name__ == "__main__":
    keep_compiled_programs()  # one for the eight runs
    main()
