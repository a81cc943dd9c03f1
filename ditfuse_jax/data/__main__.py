# SPDX-License-Identifier: Apache-2.0
"""Look at a training stream before training on it: `python -m ditfuse_jax.data` or `ditfuse data`."""

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax import image, places, prompt
from ditfuse_jax.config import DEMO, closest
from ditfuse_jax.data import loader, prompts, samples, sheet, sources
from ditfuse_jax.data.config import Bucket, MixtureConfig
from ditfuse_jax.data.mixture import Mixture, resolve
from ditfuse_jax.text import message, one_line_each


class Asked(NamedTuple):
    """The stream of a run file, with what training it would also read."""

    mixture: MixtureConfig
    validates: bool = False  # training reads the held-out files too
    tokenizer: Path = DEMO


def read_config(name: str) -> Asked:
    """The mixture of a run file (its `config`, or `config.mixture`), named as `train.py --config` names it.

    Raises ValueError when there is no such file, for an error in it, or when it assigns no such thing.
    """
    file = places.run_file(Path(name))
    if not file.is_file():
        known = sorted(run.stem for run in places.folder("configs").glob("*.py"))
        raise ValueError(f"{name!r} is no file{closest(name, known)}; runs are {', '.join(known)}")
    config = places.assigned(file).get("config")
    mixture = getattr(config, "mixture", config)
    if not isinstance(mixture, MixtureConfig):
        raise ValueError(f"{name} assigns no `config` with a mixture of image sources")
    validates = bool(getattr(config, "validate_every", 0))
    return Asked(mixture, validates, getattr(config, "tokenizer_folder", DEMO))


def chosen(config: MixtureConfig, names: list[str]) -> MixtureConfig:
    """Only the named sources; all when none is named. Raises ValueError for an unknown name."""
    known = {source.name: source for source in config.sources}
    for name in names:
        if name not in known:
            near = closest(name, known)
            raise ValueError(f"source {name!r} is not in the config{near}; it has {', '.join(known)}")
    return dataclasses.replace(config, sources=tuple(known[name] for name in names or known))


def check(mixture: Mixture, tokenizer) -> int:
    """Prints counts, sizes and every bad file; returns how many files are bad.

    Raises ValueError for whatever else training would refuse.
    """
    prompts.check_prompts(mixture.config, loader.Tokenizer(tokenizer))
    prompts.check_given(mixture, loader.Tokenizer(tokenizer))
    print(f"{'source':16} {'task':10} {'items':>7} {'share':>7}  sizes (width x height)")
    seen: dict[tuple, tuple[str, list[str]]] = {}
    for config, listing, share in zip(mixture.config.sources, mixture.listings, mixture.shares, strict=True):
        key = (config.format, config.path, config.names)
        seen[key] = seen.get(key) or _inspect(listing)
        print(f"{config.name:16} {config.task:10} {len(listing.items):7} {share:7.1%}  {seen[key][0]}")
    kind = "shuffled concatenation" if mixture.config.order == "shuffled" else "weighted draw"
    print(f"{kind}, {mixture.samples_per_epoch:,} samples an epoch")
    print(_longest_prompt(mixture, loader.Tokenizer(tokenizer)))
    bad = [reason for _, reasons in seen.values() for reason in reasons]
    for reason in bad:
        print(f"bad: {reason}")
    print(f"{len(bad)} bad files" if bad else "no bad files")
    return len(bad)


def _inspect(listing: sources.Listing) -> tuple[str, list[str]]:
    """Range of sizes, and why files cannot be used. Every file is decoded."""
    sizes, bad = [], []
    for item in listing.items:
        try:
            scene = sources.load(item, listing.classes)
        except ValueError as error:
            bad.append(f"{item.where}: {error}" if item.where else str(error))
            continue
        sizes.append((scene.images[0] if scene.images else scene.target).shape[:2])
    if not sizes:
        return "none readable", bad
    low, high = np.min(sizes, 0), np.max(sizes, 0)
    return f"{low[1]}x{low[0]} to {high[1]}x{high[0]}", bad


def _longest_prompt(mixture: Mixture, tokenizer) -> str:
    given = ((text, words) for text, words, _ in prompts.given_prompts(mixture, tokenizer))
    found = (prompts.longest_prompt(mixture.config, tokenizer), *given)
    text, words = max(found, key=lambda one: one[1])
    return f"longest prompt: {words} text tokens (max_text_tokens {mixture.config.max_text_tokens}): {text!r}"


def show(mixture: Mixture, out: Path, per_source: int, side: int, *, overwrite: bool) -> None:
    """Writes a contact sheet with `per_source` samples of each source, in the order of the stream."""
    image.check_writable(out, overwrite=overwrite)
    drawn = zip(mixture.config.sources, mixture.shares, strict=True)
    wanted = dict.fromkeys((source.name for source, share in drawn if share), per_source)
    rows: list[tuple[str, samples.Sample]] = []
    position = 0
    while any(wanted.values()):
        name = mixture.config.sources[mixture.draw(position).source].name
        if wanted.get(name):
            wanted[name] -= 1
            made = samples.make(mixture, position, mixture.bucket(0))
            samples.warn(made.warnings)
            rows.append((f"{name}, sample {position}", made.sample))
        position += 1
    order = {source.name: i for i, source in enumerate(mixture.config.sources)}
    rows.sort(key=lambda row: order[row[0].partition(",")[0]])
    image.write(out, np.asarray(sheet.draw(rows, side)), metadata={}, overwrite=overwrite)
    print(f"wrote {out}: {len(rows)} samples")


def bench(mixture: Mixture, tokenizer, count: int, batch_size: int, workers: int) -> None:
    """Prints milliseconds per sample by stage on one core, and samples per second through the loader."""
    cv2.setNumThreads(0)
    _time_stages(mixture, tokenizer, min(count, 32), batch_size)  # files into the page cache, code warm
    stages = _time_stages(mixture, tokenizer, count, batch_size)
    for name, seconds in stages.items():
        print(f"{name:8} {1e3 * seconds / count:7.2f} ms/sample")
    print(f"{'all':8} {1e3 * sum(stages.values()) / count:7.2f} ms/sample")
    print(f"{count / sum(stages.values()):.0f} samples/s on one core, files to tokens, {count} samples")
    if workers:
        rate = _time_loader(mixture, tokenizer, count, batch_size, workers)
        print(f"{rate:.0f} samples/s through the loader, {workers} workers, {rate / workers:.0f} per worker")


def _time_stages(mixture: Mixture, tokenizer, count: int, batch_size: int) -> dict[str, float]:
    """Seconds per stage over `count` samples."""
    spent = dict.fromkeys(("read", "cut", "build", "tokens", "collate"), 0.0)
    cfg, rows = mixture.config, []
    for position in range(count):
        bucket = mixture.bucket(position // batch_size)
        draw = mixture.draw(position)
        source, listing = cfg.sources[draw.source], mixture.listings[draw.source]
        marks = [time.perf_counter()]
        scene = samples.read(mixture, draw.source, listing.items[draw.item], bucket)
        marks.append(time.perf_counter())
        scene = samples.cut(draw.rng, scene, bucket, cfg)
        marks.append(time.perf_counter())
        sample = samples.build(draw.rng, scene, source, listing.classes, cfg)
        marks.append(time.perf_counter())
        row = prompts.tokens(sample, bucket, cfg, tokenizer)
        rows.append(loader.Row(row, sample, position, bucket, prompts.prefix_length(bucket, cfg), ()))
        marks.append(time.perf_counter())
        if (position + 1) % batch_size == 0 or position + 1 == count:
            loader.collate(rows)
            rows = []
        marks.append(time.perf_counter())
        for name, seconds in zip(spent, np.diff(marks), strict=True):
            spent[name] += float(seconds)
    return spent


def _time_loader(mixture: Mixture, tokenizer, count: int, batch_size: int, workers: int) -> float:
    """Samples per second once every worker has started and its buffer is used up."""
    warm, batches = (loader.BUFFER + 1) * workers, max(1, count // batch_size)
    with loader.make_loader(mixture, tokenizer, batch_size=batch_size, workers=workers) as stream:
        for _ in range(warm):
            next(stream)
        start = time.perf_counter()
        for _ in range(batches):
            next(stream)
        return batches * batch_size / (time.perf_counter() - start)


def parse(arguments: list[str], prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("command", choices=("check", "show", "bench"))
    parser.add_argument("config", help="a run file, or the name of one in configs/: demo, ditfuse_lora")
    parser.add_argument("--data", help="data root; default $DITFUSE_DATA, then ../shared/data")
    parser.add_argument("--source", action="append", default=[], help="only this source; may be repeated")
    parser.add_argument("--validation", action="store_true", help="the validation lists")
    parser.add_argument("--size", type=int, help="one square bucket of this side instead of the config's")
    parser.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json; default the shipped one")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="show: where the picture goes")
    parser.add_argument(
        "--overwrite", action="store_true", help="show: also a file that was not written here"
    )
    parser.add_argument("--rows", type=int, default=4, help="show: samples per source")
    parser.add_argument("--side", type=int, default=192, help="show: pixels per picture")
    parser.add_argument("--samples", type=int, default=512, help="bench: how many")
    parser.add_argument("--batch-size", type=int, default=16, help="bench")
    parser.add_argument("--workers", type=int, default=0, help="bench: also time the loader with this many")
    return parser.parse_args(arguments)


def main(arguments: list[str], prog: str = "python -m ditfuse_jax.data") -> int:
    args = parse(arguments, prog)
    asked = read_config(args.config)
    config = chosen(asked.mixture, args.source)
    if args.size:
        config = dataclasses.replace(config, buckets=(Bucket(height=args.size, width=args.size),))
    root = sources.data_root(args.data)
    mixture = resolve(config.validation() if args.validation else config, root)
    if args.command == "show":
        show(mixture, args.out, args.rows, args.side, overwrite=args.overwrite)
        return 0
    tokenizer = prompt.load_tokenizer(args.tokenizer or asked.tokenizer)
    if args.command == "check":
        bad = check(mixture, tokenizer)
        if asked.validates and not args.validation and not args.source:
            print("held-out files:")
            bad += check(resolve(config.validation(), root), tokenizer)
        return 1 if bad else 0
    bench(mixture, tokenizer, args.samples, args.batch_size, args.workers)
    return 0


def command(arguments: list[str], prog: str) -> int:
    """`main` with its errors as one message on stderr and exit code 2."""
    try:
        return main(arguments, prog)
    except (ValueError, OSError) as error:
        print(f"{prog}: {message(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    one_line_each()
    sys.exit(command(sys.argv[1:], "python -m ditfuse_jax.data"))
