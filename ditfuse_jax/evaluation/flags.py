# SPDX-License-Identifier: Apache-2.0
"""The flags of `python -m ditfuse_jax.evaluation` and `ditfuse evaluate`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax.evaluation import catalogue, scoring
from ditfuse_jax.evaluation.baselines import BASELINES
from ditfuse_jax.evaluation.figures import FIGURES
from ditfuse_jax.evaluation.probes import PROBES
from ditfuse_jax.evaluation.verdicts import LABELS
from ditfuse_jax.inference import settings

DESCRIPTION = "Score fused images: what each number means is in docs/evaluation.md."


def arguments(words: Sequence[str], prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    add_score(commands.add_parser("score", help="one method's folder"))
    add_compare(commands.add_parser("compare", help="several methods and fusion without a network, ranked"))
    add_trust(commands.add_parser("trust", help="how well each metric's order of methods agrees with truth"))
    add_run(commands.add_parser("run", help="fuse a dataset with a checkpoint, then compare"))
    add_prompts(commands.add_parser("prompts", help="the paper's test-time prompts, measured"))
    add_figures(commands.add_parser("figures", help="sheets in the form of the paper's figures"))
    add_runtime(commands.add_parser("runtime", help="parameters, seconds and memory of a checkpoint"))
    add_iou(commands.add_parser("iou", help="IoU per class of masks or blue overlays"))
    add_judge(commands.add_parser("judge", help="the paper's three questions about segmentations"))
    return parser.parse_args(words)


def add_score(parser: argparse.ArgumentParser) -> None:
    add_sources(parser)
    add_scoring(parser)
    add_shard(parser)
    parser.add_argument("--fused", required=True, metavar="DIR", help="results, named like their sources")


def add_compare(parser: argparse.ArgumentParser) -> None:
    add_sources(parser)
    add_scoring(parser)
    add_shard(parser)
    add_methods(parser)
    add_sheets(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    add_sources(parser, required=False)
    add_scoring(parser)
    add_methods(parser)
    parser.add_argument("--simulate", choices=("focus", "exposure"), help="pairs made from held-out photos")
    add_data(parser)
    parser.add_argument("--limit", type=count, default=0, metavar="N", help="simulated pairs; default: all")


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", required=True, metavar="NAME|DIR", help="of the paper and FMB, or a folder of pairs"
    )
    parser.add_argument("--split", help="of a named dataset; default: test, of RealMFF its only one, train")
    parser.add_argument("--names", metavar="FILE", help="of a folder: a list of stems in it, as val.txt")
    add_data(parser)
    parser.add_argument("--task", choices=catalogue.TASKS, required=True)
    parser.add_argument("--limit", type=count, default=0, metavar="N", help="pairs, evenly over the set")
    add_checkpoint(parser)
    settings.add_batch(parser)
    add_scoring(parser)
    add_shard(parser)
    add_methods(parser)
    add_sheets(parser)


def add_prompts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="all", metavar="all|LIST", help=f"of {', '.join(PROBES)}")
    add_data(parser)
    parser.add_argument(
        "--limit", type=count, default=8, metavar="N", help="scenes of each, 0: all; default: 8"
    )
    add_side(parser)
    add_checkpoint(parser)
    add_out(parser, "where prompts.md and prompts.csv go")


def add_figures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", nargs="+", choices=FIGURES, help="of the paper's figure")
    add_data(parser)
    parser.add_argument(
        "--limit", type=count, default=3, metavar="N", help="scenes, of figure 7 of each group; default: 3"
    )
    parser.add_argument(
        "--zooms", type=count, default=2, metavar="N", help="enlarged boxes, 0: none; default: 2"
    )
    parser.add_argument(
        "--groups", type=Path, metavar="FILE", help="of figure 7: TOML, stems by folder in each group"
    )
    add_methods(parser)
    parser.add_argument(
        "--masks", nargs="*", default=[], metavar="[NAME=]DIR", help="of figure 14: DIR/CLASS/STEM"
    )
    add_side(parser)
    add_checkpoint(parser)
    add_out(parser, "where fig7.png and so on go")


def add_side(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--side", type=settings.whole, default=256, help="of the square cut out; default: 256"
    )


def add_runtime(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--size", default="640x480", metavar="WxH", help="pixels; default: 640x480")
    parser.add_argument("--samples", type=int, default=5, help="timed after a first one; default: 5")
    parser.add_argument("--task", choices=catalogue.TASKS, default="ivif")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where runtime.md goes")


def add_iou(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--labels", type=Path, required=True, metavar="DIR", help="class indices, 8-bit PNG")
    add_classes(parser)
    add_answers(parser)
    add_published(parser)
    add_out(parser, "where iou.md goes")


def add_judge(parser: argparse.ArgumentParser) -> None:
    add_answers(parser)
    parser.add_argument(
        "--ask", nargs="*", default=list(LABELS), metavar="LABEL", help="default: the paper's"
    )
    parser.add_argument("--labels", type=Path, metavar="DIR", help="class indices: exact answers, no model")
    add_classes(parser)
    parser.add_argument("--fused", type=Path, metavar="DIR", help="plain fusions, which the model sees")
    parser.add_argument("--model", help="name at an OpenAI-compatible endpoint; the key is OPENAI_API_KEY")
    parser.add_argument("--base-url", help="of the endpoint; default: OpenAI's, or OPENAI_BASE_URL")
    parser.add_argument("--at-once", type=int, default=4, help="requests that run together; default: 4")
    parser.add_argument("--price-in", type=float, help="of a million tokens in, for the estimate")
    parser.add_argument("--price-out", type=float, help="of a million tokens out")
    parser.add_argument("--yes", action="store_true", help="send the requests that were counted")
    add_out(parser, "where judge.md and the cached answers go")


def add_scoring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metrics", default="paper", metavar="paper|all|LIST", help="default: paper")
    parser.add_argument("--protocol", choices=catalogue.PROTOCOLS, default="standard")
    add_published(parser)
    add_out(parser, "where tables and plots go")
    parser.add_argument("--jobs", type=int, default=scoring.default_jobs(), help="processes; default: cores")
    parser.add_argument(
        "--resize", action="store_true", help="bring results of another size to that of their sources"
    )


def add_shard(parser: argparse.ArgumentParser) -> None:
    text = "work on the I-th of N parts, keep its rows; then the same without --shard makes the tables"
    parser.add_argument("--shard", type=settings.shard, metavar="I/N", help=text)


def add_sources(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "--sources",
        nargs=2,
        type=Path,
        required=required,
        metavar=("A_DIR", "B_DIR"),
        help="visible, far or over-exposed; infrared, near or under-exposed",
    )
    parser.add_argument("--truth", type=Path, metavar="DIR", help="what the results should be")
    parser.add_argument("--task", choices=catalogue.TASKS, required=required)


def add_methods(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fused", nargs="*", default=[], metavar="[NAME=]DIR", help="a folder per method")
    known = ", ".join(BASELINES)
    parser.add_argument("--baselines", default="all", metavar="all|none|LIST", help=f"of {known}")


def add_sheets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sheets", type=int, default=4, metavar="N", help="scenes on the sheet; 0: none")


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="data root; default $DITFUSE_DATA, ../shared/data")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    text = "checkpoint folder or hf:owner/name; default: the one that ships"
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help=text)
    parser.add_argument("--lora", type=Path, metavar="DIR", help="adapter folder or hf:owner/name")
    parser.add_argument("--steps", type=settings.whole, help="default: the checkpoint's")
    parser.add_argument("--noises", type=settings.whole, help="default: the checkpoint's")
    parser.add_argument(
        "--fidelity",
        type=settings.number,
        help="0: as decoded, 1: the sources' pixels; default: the checkpoint's",
    )
    settings.add_dtype(parser)
    parser.add_argument("--seed", type=settings.seed, default=0)


def count(text: str) -> int:
    """The type of a flag that takes 0 or more."""
    number = settings.whole(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is less than nothing; give 0 or more")
    return number


def sampling(args: argparse.Namespace) -> dict:
    """Keywords of `DiTFuse.fuse` from the flags of `add_checkpoint`; None: the checkpoint's."""
    return {"steps": args.steps, "noises": args.noises, "fidelity": args.fidelity}


def add_answers(parser: argparse.ArgumentParser) -> None:
    dirs = {"nargs": "*", "default": [], "metavar": "[NAME=]DIR"}
    parser.add_argument("--masks", **dirs, help="DIR/CLASS/STEM, 255 where marked")
    parser.add_argument("--overlays", **dirs, help="DIR/CLASS/STEM, marked in blue")
    parser.add_argument("--plain", type=Path, metavar="DIR", help="plain fusions under the overlays")


def add_classes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", default="fmb", help="fmb, or a file of lines `INDEX NAME`; default: fmb")


def add_published(parser: argparse.ArgumentParser) -> None:
    text = "also print what the paper says of this dataset"
    parser.add_argument("--published", metavar="DATASET", help=text)


def add_out(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)
