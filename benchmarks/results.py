# SPDX-License-Identifier: Apache-2.0
"""All of docs/results.md, tables and sheets, by one command.

    python benchmarks/results.py --out runs/results --limit 6 --page docs [--data DIR] [--checkpoint DIR]

Parts, of --parts: `tables` of the validation sets (the checkpoint with the sources' pixels, `ditfuse`, and as
decoded, fusion without a network, the programs of peers.py that are installed); `prompts`; `figures`, of
pictures that may be shown (free_pictures.py); `runtime`, for a machine where nothing else runs. What is made
stays, so a run that was stopped goes on; pictures of other weights are made again. Each part leaves its
Markdown in OUT; --page puts all that is there into DIR/results.md and DIR/results/*.jpg.
"""

import argparse
import sys
from pathlib import Path

import free_pictures
import peers
import results_page

from ditfuse_jax.data import sources
from ditfuse_jax.evaluation import tables
from ditfuse_jax.evaluation.__main__ import main as evaluation
from ditfuse_jax.evaluation.figures import FIGURES
from ditfuse_jax.inference.fuse import DiTFuse

NAMES = "val.txt"
SETS = {  # below the data root -> task
    **dict.fromkeys(("ivif/llvip", "ivif/msrs", "ivif/roadscene", "ivif/tno"), "ivif"),
    **dict.fromkeys(("mff/lytro", "mff/mfifb_other"), "mff"),
    "mef/mefb": "mef",
}


def make_table(name: str, root: Path, args: argparse.Namespace) -> None:
    """Fuses and scores one set; OUT/NAME/part.md. ValueError where nothing was scored."""
    task, folder, out = SETS[name], root / name, args.out / name
    others = peers.peers_of(task)
    pairs = peers.pairs_of(folder, NAMES, args.limit)
    problems = [line for peer in others for line in peers.fuse(peer, task, pairs, out / "peers")]
    fused = [f"{peer}={out / 'peers' / peer}" for peer in others if (out / "peers" / peer).is_dir()]
    common = ["--dataset", str(folder), "--names", NAMES, "--task", task, "--metrics", args.metrics]
    common += ["--limit", str(args.limit), "--sheets", "0", *checkpoint(args)]
    raw, whole = out / "decoded", out / "table"
    score(["run", *common, "--fidelity", "0", "--baselines", "none", "--out", str(raw)], problems)
    fused.append(f"{results_page.DECODED}={raw / 'fused'}")
    score(["run", *common, "--fidelity", "1", "--fused", *fused, "--out", str(whole)], problems)
    about = {"limit": args.limit, "checkpoint": args.checkpoint_id}
    tables.write(out / results_page.PART, results_page.table(name, whole, problems, **about))


def score(words: list[str], problems: list[str]) -> None:
    """One command of the evaluation; what has no row is told, and where nothing has one it ends here."""
    code = evaluation(words)
    if code == 2:
        raise ValueError(f"evaluation {' '.join(words)} ended with an error, above")
    if code == 1:
        problems.append("some results; problems.txt of the command names them")


def checkpoint(args: argparse.Namespace) -> list[str]:
    return ["--checkpoint", str(args.checkpoint)] if args.checkpoint else []


def make_tables(root: Path, args: argparse.Namespace) -> None:
    for name in args.only:
        make_table(name, root, args)


def make_prompts(root: Path, args: argparse.Namespace) -> None:
    out, limit = args.out / "prompts", str(results_page.PROMPT_SCENES)
    score(["prompts", "--data", str(root), "--limit", limit, *checkpoint(args), "--out", str(out)], [])
    told = (out / "prompts.md").read_text("utf-8")
    tables.write(out / results_page.PART, results_page.prompts(told))


def make_figures(root: Path, args: argparse.Namespace) -> None:
    """Sheets of pictures that are free, in a folder for each checkpoint; they carry no numbers."""
    free, out = args.out / "free", args.out / "figures" / args.checkpoint_id
    lacking = [number for number in FIGURES if not (out / f"fig{number}.png").is_file()]
    if lacking:
        free_pictures.make(root, free)
        words = [*lacking, "--data", str(free), "--groups", str(free / "groups.toml"), *checkpoint(args)]
        words += ["--limit", str(results_page.SCENES), "--baselines", results_page.BESIDE]
        score(["figures", *words, "--out", str(out)], [])
    for number in FIGURES:
        results_page.smaller(out / f"fig{number}.png", args.out / "figures" / f"fig{number}.jpg")
    tables.write(args.out / "figures" / results_page.PART, results_page.sheets(args.checkpoint_id))


def make_runtime(root: Path, args: argparse.Namespace) -> None:
    out = args.out / "runtime"
    score(["runtime", *checkpoint(args), "--out", str(out)], [])
    told = (out / "runtime.md").read_text("utf-8")
    tables.write(out / results_page.PART, results_page.RUNTIME + told)


PARTS = {"tables": make_tables, "prompts": make_prompts, "figures": make_figures, "runtime": make_runtime}
USUAL = "tables,prompts,figures"


def listed(text: str, known: dict, flag: str, parser: argparse.ArgumentParser) -> list[str]:
    chosen = list(known) if text == "all" else text.split(",")
    if wrong := [name for name in chosen if name not in known]:
        parser.error(f"{flag} {wrong[0]}: not one of all, {', '.join(known)}")
    return chosen


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="default: the one that ships")
    parser.add_argument("--parts", default=USUAL, help=f"of {', '.join(PARTS)}, none; default: {USUAL}")
    parser.add_argument("--only", default="all", help=f"sets of the tables: {', '.join(SETS)}")
    parser.add_argument("--metrics", default="paper", help="of `evaluation score`")
    parser.add_argument("--limit", type=int, default=0, help="pairs of each set; 0: all")
    parser.add_argument("--page", type=Path, metavar="DIR", help="gets results.md and results/*.jpg")
    args = parser.parse_args(words)
    args.only = listed(args.only, SETS, "--only", parser)
    parts = [] if args.parts == "none" else listed(args.parts, PARTS, "--parts", parser)
    root = sources.data_root(args.data)
    if parts:
        args.checkpoint_id = DiTFuse.load(args.checkpoint).checkpoint_id
    for part in parts:
        PARTS[part](root, args)
    if args.page:
        results_page.write(args.out, SETS, args.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
