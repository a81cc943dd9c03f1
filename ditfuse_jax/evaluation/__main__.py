# SPDX-License-Identifier: Apache-2.0
"""Score fused images: python -m ditfuse_jax.evaluation score|compare ... (see docs/evaluation.md)."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from ditfuse_jax.data.sources import data_root
from ditfuse_jax.evaluation import catalogue, folders, published, report, scoring, segmentation, tables
from ditfuse_jax.evaluation import trust as trusting
from ditfuse_jax.evaluation.baselines import BASELINES
from ditfuse_jax.evaluation.folders import Files


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ditfuse_jax.evaluation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser("score", help="one method's folder")
    add_sources(score)
    score.add_argument("--fused", required=True, metavar="DIR", help="results, named like their sources")
    compare = commands.add_parser("compare", help="several methods and fusion without a network, ranked")
    add_sources(compare)
    add_methods(compare)
    trust = commands.add_parser("trust", help="how well each metric's order of methods agrees with the truth")
    add_sources(trust, required=False)
    add_methods(trust)
    trust.add_argument("--simulate", choices=("focus", "exposure"), help="pairs made from held-out photos")
    trust.add_argument("--data", help="data root for --simulate; default $DITFUSE_DATA, then ../shared/data")
    trust.add_argument("--limit", type=int, default=0, metavar="N", help="of simulated pairs; default: all")
    iou = commands.add_parser("iou", help="IoU per class of masks or blue overlays")
    iou.add_argument("--labels", type=Path, required=True, metavar="DIR", help="class indices, 8-bit PNG")
    iou.add_argument("--classes", default="fmb", help="fmb, or a file of lines `INDEX NAME`; default: fmb")
    iou.add_argument(
        "--masks", nargs="*", default=[], metavar="[NAME=]DIR", help="DIR/CLASS/STEM, 255 where marked"
    )
    iou.add_argument(
        "--overlays", nargs="*", default=[], metavar="[NAME=]DIR", help="DIR/CLASS/STEM, marked in blue"
    )
    iou.add_argument("--plain", type=Path, metavar="DIR", help="plain fusions under the overlays")
    add_published(iou)
    iou.add_argument("--out", type=Path, required=True, metavar="DIR", help="where iou.md goes")
    compare.add_argument("--sheets", type=int, default=4, metavar="N", help="scenes on the sheet; 0: none")
    return parser.parse_args(words)


def add_methods(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fused", nargs="*", default=[], metavar="[NAME=]DIR", help="a folder per method")
    parser.add_argument(
        "--baselines", default="all", metavar="all|none|LIST", help=f"of {', '.join(BASELINES)}"
    )


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
    parser.add_argument("--metrics", default="paper", metavar="paper|all|LIST", help="default: paper")
    parser.add_argument("--protocol", choices=catalogue.PROTOCOLS, default="standard")
    add_published(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where tables and plots go")
    parser.add_argument(
        "--jobs", type=int, default=scoring.default_jobs(), help="processes; default: the cores"
    )
    parser.add_argument(
        "--resize", action="store_true", help="bring results of another size to that of their sources"
    )


def add_published(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--published", metavar="DATASET", help="also print what the paper says of this dataset"
    )


def score(args: argparse.Namespace) -> int:
    fused = folders.methods([args.fused])
    return evaluate(args, folders.pair(args.sources, fused, args.truth))


def compare(args: argparse.Namespace) -> int:
    listing = list_methods(args)
    done = evaluate(args, listing)
    if args.sheets > 0:
        stems = sorted({files.stem for files in listing.files})
        report.draw_sheet(listing.files, report.spread(stems, args.sheets), args.out)
    return done


def trust(args: argparse.Namespace) -> int:
    """The table as trust.md, the rows as per_image.csv."""
    if args.simulate:
        if args.sources or args.truth:
            raise ValueError("--simulate makes its own pairs; leave --sources and --truth away")
        made = args.out / "simulated"
        trusting.simulate(args.simulate, data_root(args.data), made, limit=args.limit)
        args.sources, args.truth = [made / "image1", made / "image2"], made / "truth"
        args.task = {"focus": "mff", "exposure": "mef"}[args.simulate]
    if not (args.sources and args.truth and args.task):
        raise ValueError("trust needs a truth; give --sources, --truth and --task, or --simulate")
    listing = list_methods(args)
    choice = catalogue.choose("all", task=args.task, truth=True)
    settings = scoring.Settings(args.task, args.protocol, choice.metrics, args.resize)
    rows, lost = compute(listing.files, settings, args, {})
    rows = report.common(rows)
    table = trusting.markdown(trusting.trust(rows), rows)
    tables.write(args.out / "per_image.csv", tables.rows_csv(rows))
    tables.write(args.out / "trust.md", table)
    print(table)
    tell([*listing.problems, *lost], args.out)
    return 1 if lost or listing.problems else 0


def iou(args: argparse.Namespace) -> int:
    """The table as iou.md."""
    classes, beside = segmentation.classes_of(args.classes), printed(args.published)
    answers = {
        name: segmentation.Answers(folder, False) for name, folder in folders.methods(args.masks).items()
    } | {
        name: segmentation.Answers(folder, True, args.plain)
        for name, folder in folders.methods(args.overlays).items()
    }
    if not answers:
        raise ValueError("nothing to score; give --masks or --overlays folders")
    found, problems = {}, []
    for name, answer in answers.items():
        found[name], lines = segmentation.score(args.labels, classes, answer)
        problems += lines
    table = segmentation.markdown(found) + beside
    tables.write(args.out / "iou.md", table)
    print(table)
    tell(problems, args.out)
    return 1 if problems else 0


def list_methods(args: argparse.Namespace) -> folders.Listing:
    fused = folders.methods(args.fused)
    chosen = baselines(args.baselines)
    if twice := sorted(set(fused) & set(chosen)):
        raise ValueError(f"a folder is called {twice[0]!r} like fusion without a network; write NAME=DIR")
    if not fused and not chosen:
        raise ValueError("nothing to compare; give --fused folders or leave --baselines none away")
    return folders.pair(args.sources, fused, args.truth, chosen)


def baselines(text: str) -> list[str]:
    """Names of BASELINES. Raises ValueError for another."""
    if text in ("all", "none"):
        return list(BASELINES) if text == "all" else []
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in BASELINES:
            raise ValueError(f"--baselines {name}: not one of all, none, {', '.join(BASELINES)}")
    return names


def evaluate(args: argparse.Namespace, listing: folders.Listing) -> int:
    """Computes and writes everything, prints the table and what is odd. 1 where results have no row."""
    beside = printed(args.published)
    choice = catalogue.choose(args.metrics, task=args.task, truth=args.truth is not None)
    settings = scoring.Settings(args.task, args.protocol, choice.metrics, args.resize)
    rows, lost = compute(listing.files, settings, args, {})
    if not rows:
        raise ValueError("no result could be scored:\n  " + "\n  ".join(lost))
    problems = [*listing.problems, *lost, *(line for row in rows for line in row.problems)]
    methods = report.write(rows, settings, args.out, beside)
    print(tables.markdown(methods, report.facts(rows, settings)) + beside)
    print(f"written     {args.out}")
    tell(problems, args.out)
    return 1 if lost or listing.problems else 0


def printed(dataset: str | None) -> str:
    """The paper's tables of a dataset, or nothing."""
    found = published.of_dataset(dataset) if dataset else ()
    return "".join("\n" + published.markdown(table) for table in found)


def tell(problems: Sequence[str], out: Path) -> None:
    """All odd files in one report, the first of them on the terminal."""
    tables.write(out / "problems.txt", "".join(f"{line}\n" for line in problems))
    if problems:
        print(f"{len(problems)} odd files, all in {out / 'problems.txt'}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in problems[:20]), file=sys.stderr)


def compute(
    files: Sequence[Files], settings: scoring.Settings, args: argparse.Namespace, scorers: Mapping
) -> tuple[list[scoring.Row], list[str]]:
    """The rows under a progress bar."""
    if args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs}: give 1 or more")
    store = args.out / "rows.jsonl"
    with tqdm(total=len(files), unit="image", dynamic_ncols=True, disable=None) as bar:
        return scoring.rows(
            files,
            settings,
            store=store,
            jobs=args.jobs,
            scorers=scorers,
            on_done=lambda: bar.update() and None,
        )


COMMANDS = {"score": score, "compare": compare, "trust": trust, "iou": iou}


def main(words: Sequence[str]) -> int:
    args = arguments(words)
    try:
        return COMMANDS[args.command](args)
    except (ValueError, OSError) as error:
        print(f"evaluation {args.command}: {error}", file=sys.stderr)
    except ImportError as error:
        print(f"evaluation {args.command}: {error}; pip install 'ditfuse-jax[eval]'", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
