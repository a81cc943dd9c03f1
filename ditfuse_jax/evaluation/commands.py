# SPDX-License-Identifier: Apache-2.0
"""What `score`, `compare` and `trust` do with their flags."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from ditfuse_jax.data.sources import data_root
from ditfuse_jax.evaluation import catalogue, folders, iqa, published, report, scoring, tables
from ditfuse_jax.evaluation import trust as trusting
from ditfuse_jax.evaluation.baselines import BASELINES
from ditfuse_jax.evaluation.folders import Files
from ditfuse_jax.inference.settings import Shard


def score(args: argparse.Namespace) -> int:
    fused = folders.methods([args.fused])
    return evaluate(args, part(folders.pair(args.sources, fused, args.truth), args.shard))


def compare(args: argparse.Namespace) -> int:
    return evaluate_and_draw(args, part(list_methods(args, args.sources, args.truth), args.shard))


def evaluate_and_draw(args: argparse.Namespace, listing: folders.Listing) -> int:
    done = evaluate(args, listing)
    if args.sheets > 0 and not args.shard:
        stems = sorted({files.stem for files in listing.files})
        report.draw_sheet(listing.files, report.spread(stems, args.sheets), args.out)
    return done


def trust(args: argparse.Namespace) -> int:
    """The table as trust.md, the rows as per_image.csv."""
    sources, truth, task = args.sources, args.truth, args.task
    if args.simulate:
        if sources or truth:
            raise ValueError("--simulate makes its own pairs; leave --sources and --truth away")
        made = args.out / "simulated"
        trusting.simulate(args.simulate, data_root(args.data), made, limit=args.limit)
        sources, truth = [made / "image1", made / "image2"], made / "truth"
        task = {"focus": "mff", "exposure": "mef"}[args.simulate]
    if not (sources and truth and task):
        raise ValueError("trust needs a truth; give --sources, --truth and --task, or --simulate")
    listing = list_methods(args, sources, truth)
    choice = catalogue.choose("all", task=task, truth=True)
    settings = scoring.Settings(task, args.protocol, choice.metrics, args.resize)
    rows, lost = compute(listing.files, settings, args, {})
    rows = report.common(rows)
    table = trusting.markdown(trusting.trust(rows), rows, report.facts(rows, settings))
    tables.write(args.out / "per_image.csv", tables.rows_csv(rows))
    tables.write(args.out / "trust.md", table)
    print(table)
    tell([*listing.problems, *lost], args.out)
    return 1 if lost or listing.problems else 0


def list_methods(args: argparse.Namespace, sources: Sequence[Path], truth: Path | None) -> folders.Listing:
    fused = folders.methods(args.fused)
    chosen = baselines(args.baselines)
    if twice := sorted(set(fused) & set(chosen)):
        raise ValueError(f"a folder is called {twice[0]!r} like fusion without a network; write NAME=DIR")
    if not fused and not chosen:
        raise ValueError("nothing to compare; give --fused folders or leave --baselines none away")
    return folders.pair(sources, fused, truth, chosen)


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
    truth = any(files.truth for files in listing.files)
    choice = catalogue.choose(args.metrics, task=args.task, truth=truth)
    settings = scoring.Settings(args.task, args.protocol, choice.metrics, args.resize)
    extra = iqa.available(choice.iqa, iqa.load_pyiqa)
    if extra.missing:
        print(extra.missing, file=sys.stderr)
    if not choice.metrics and not extra.scorers:
        raise ValueError("none of the chosen metrics can be computed here; name another")
    if args.shard:
        return keep_rows(listing, settings, args, extra.scorers)
    rows, lost = compute(listing.files, settings, args, extra.scorers)
    if not rows:
        raise ValueError("no result could be scored:\n  " + "\n  ".join(lost))
    problems = [*listing.problems, *lost, *(line for row in rows for line in row.problems)]
    print(report.write(rows, settings, args.out, beside=beside, iqa=extra.source))
    print(f"written     {args.out}")
    tell(problems, args.out)
    return 1 if lost or listing.problems else 0


def part(listing: folders.Listing, shard: Shard | None) -> folders.Listing:
    """The scenes of one part, with the results of all methods; problems are told by the first one."""
    if shard is None:
        return listing
    stems = set(shard.of(sorted({files.stem for files in listing.files})))
    problems = listing.problems if shard.index == 1 else ()
    return folders.Listing(tuple(one for one in listing.files if one.stem in stems), problems)


def keep_rows(listing: folders.Listing, settings, args: argparse.Namespace, scorers: Mapping) -> int:
    """Computes and keeps the rows of one part of the scenes; the tables of all parts another call makes."""
    store = f"rows-{args.shard.index}-of-{args.shard.count}.jsonl"
    rows, lost = compute(listing.files, settings, args, scorers, store=store)
    print(f"part        {args.shard}: {len(rows)} rows in {args.out / store}; the tables: without --shard")
    problems = [*listing.problems, *lost]
    for line in problems:
        print(f"  {line}", file=sys.stderr)
    return 1 if problems else 0


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
    files: Sequence[Files],
    settings: scoring.Settings,
    args: argparse.Namespace,
    scorers: Mapping,
    *,
    store: str = scoring.STORE,
) -> tuple[list[scoring.Row], list[str]]:
    """The rows under a progress bar; those of all stores in args.out are known, new ones go to `store`."""
    if args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs}: give 1 or more")
    with tqdm(total=len(files), unit="image", dynamic_ncols=True, disable=None) as bar:
        return scoring.rows(
            files,
            settings,
            store=args.out / store,
            jobs=args.jobs,
            scorers=scorers,
            on_done=lambda: bar.update() and None,
        )
