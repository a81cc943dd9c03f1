# SPDX-License-Identifier: Apache-2.0
"""All tables of docs/results.md: one validation set a table, with the command that makes it above.

    python benchmarks/results.py --out results [--data DIR] [--only mff/lytro,ivif/tno] [--limit 8]

Each table holds the checkpoint with the sources' pixels (`ditfuse`) and as decoded (`ditfuse, decoded`),
fusion without a network, and the programs of peers.py that are installed. What is
made stays, so a run that was stopped goes on; OUT/results.md grows by a set at a time.
"""

import argparse
import sys
from pathlib import Path

import peers

from ditfuse_jax.data import sources
from ditfuse_jax.evaluation.__main__ import main as evaluation

NAMES = "val.txt"
SETS = {  # below the data root -> task
    **dict.fromkeys(("ivif/llvip", "ivif/msrs", "ivif/roadscene", "ivif/tno"), "ivif"),
    **dict.fromkeys(("mff/lytro", "mff/mfifb_other"), "mff"),
    "mef/mefb": "mef",
}
DECODED = "ditfuse, decoded"


def make(name: str, root: Path, args: argparse.Namespace) -> str:
    """Fuses and scores one set; returns its part of results.md. ValueError where nothing was scored."""
    task, folder, out = SETS[name], root / name, args.out / name
    others = peers.peers_of(task)
    pairs = peers.pairs_of(folder, NAMES, args.limit)
    problems = [line for peer in others for line in peers.fuse(peer, task, pairs, out / "peers")]
    fused = [f"{peer}={out / 'peers' / peer}" for peer in others if (out / "peers" / peer).is_dir()]
    common = ["--dataset", str(folder), "--names", NAMES, "--task", task, "--metrics", args.metrics]
    common += ["--limit", str(args.limit), "--sheets", "0"]
    common += ["--checkpoint", str(args.checkpoint)] if args.checkpoint else []
    raw, whole = out / "decoded", out / "table"
    score(["run", *common, "--fidelity", "0", "--baselines", "none", "--out", str(raw)], problems)
    fused.append(f"{DECODED}={raw / 'fused'}")
    score(["run", *common, "--fidelity", "1", "--fused", *fused, "--out", str(whole)], problems)
    text = (whole / "summary.md").read_text("utf-8")
    command = f"    python benchmarks/results.py --out results --only {name}"
    command += f" --limit {args.limit}" if args.limit else ""
    told = "".join(f"- not here: {line}\n" for line in problems)
    return f"## {name}\n\n{command}\n\n{text}{told}\n"


def score(words: list[str], problems: list[str]) -> None:
    """One command of the evaluation; what has no row is told, and where nothing has one it ends here."""
    code = evaluation(words)
    if code == 2:
        raise ValueError(f"evaluation {' '.join(words)} ended with an error, above")
    if code == 1:
        problems.append(f"some results, see {Path(words[-1]) / 'problems.txt'}")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="default: the one that ships")
    parser.add_argument("--only", default="all", help=f"of {', '.join(SETS)}")
    parser.add_argument("--metrics", default="paper", help="of `evaluation score`")
    parser.add_argument("--limit", type=int, default=0, help="pairs of each set; 0: all")
    args = parser.parse_args(words)
    chosen = list(SETS) if args.only == "all" else args.only.split(",")
    if wrong := [name for name in chosen if name not in SETS]:
        parser.error(f"--only {wrong[0]}: not one of all, {', '.join(SETS)}")
    root, parts = sources.data_root(args.data), []
    for name in chosen:
        parts.append(make(name, root, args))
        (args.out / "results.md").write_text("".join(parts), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
