# SPDX-License-Identifier: Apache-2.0
"""What `iou` and `judge` do with their flags."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from ditfuse_jax import __version__
from ditfuse_jax import image as images
from ditfuse_jax.data.segmentation import IGNORE, class_mask
from ditfuse_jax.evaluation import folders, judge, segmentation, tables, verdicts
from ditfuse_jax.evaluation.commands import printed, tell
from ditfuse_jax.evaluation.segmentation import Answers, Classes


def iou(args: argparse.Namespace) -> int:
    """The table as iou.md."""
    classes, beside = segmentation.classes_of(args.classes), printed(args.published)
    found, problems = {}, []
    for name, answer in answers_of(args).items():
        found[name], lines = segmentation.score(args.labels, classes, answer)
        problems += lines
    table = f"- code: ditfuse-jax {__version__}; counts over the set, label {IGNORE} left out\n\n"
    table += segmentation.markdown(found) + beside
    tables.write(args.out / "iou.md", table)
    print(table)
    tell(problems, args.out)
    return 1 if problems else 0


def answers_of(args: argparse.Namespace) -> dict[str, Answers]:
    """By the method's name. Raises ValueError without any."""
    masks, overlays = folders.methods(args.masks), folders.methods(args.overlays)
    found = {name: Answers(folder, False) for name, folder in masks.items()}
    found |= {name: Answers(folder, True, args.plain) for name, folder in overlays.items()}
    if not found:
        raise ValueError("nothing to score; give --masks or --overlays folders")
    return found


def ask(args: argparse.Namespace) -> int:
    """The table as judge.md; exact from labels, or by a model."""
    if (args.labels is None) == (args.model is None):
        raise ValueError(
            "who judges? give --labels for exact answers or --model for a model's, one of the two"
        )
    text, problems = "", []
    for name, answers in answers_of(args).items():
        judged, lines = _exactly(args, answers) if args.labels else _by_model(args, answers)
        problems += lines
        if judged is None:
            return 0
        who = "exact, from labels" if args.labels else f"{args.model}; another model gives other numbers"
        found = {label: verdicts.ratios(of) for label, of in judged.items() if of}
        text += f"{name}\n\n{verdicts.markdown(found, who)}\n"
    tables.write(args.out / "judge.md", text)
    print(text)
    tell(problems, args.out)
    return 1 if problems else 0


def _exactly(args: argparse.Namespace, answers: Answers) -> tuple[dict, list[str]]:
    """Verdicts by label, of the pictures whose labels hold it."""
    classes, (truth, problems) = segmentation.classes_of(args.classes), folders.by_stem(args.labels)
    judged: dict[str, list[verdicts.Verdict]] = {}
    for label, file in _answered(args.ask, answers):
        if file.stem not in truth:
            problems.append(f"{file}: no labels of this name")
            continue
        labels = images.read_labels(truth[file.stem])
        wanted = class_mask(labels, classes.by_label, (_class(label, classes),))
        found = segmentation.mask(file, answers)
        if found.shape != wanted.shape:
            problems.append(f"{file}: another size than its labels; bring it to theirs")
        elif wanted.any():
            judged.setdefault(label, []).append(verdicts.from_labels(found & (labels != IGNORE), wanted))
    return judged, problems


def _class(label: str, classes: Classes) -> str:
    return classes.shown.get(label, label)


def _by_model(args: argparse.Namespace, answers: Answers) -> tuple[dict | None, list[str]]:
    """Verdicts by label; None where the requests were only counted."""
    from openai import OpenAI  # extra `judge`

    if not answers.overlays or args.fused is None:
        raise ValueError("a model judges pictures; give --overlays and --fused folders")
    plain, problems = folders.by_stem(args.fused)
    questions = []
    for label, file in _answered(args.ask, answers):
        if file.stem not in plain:
            problems.append(f"{args.fused}: no plain fusion for {file.stem}")
            continue
        pictures = images.read(plain[file.stem]), images.read(file)
        questions.append(judge.Question(file.stem, label, *pictures))
    one = judge.Judge(OpenAI(base_url=args.base_url), args.model, args.out / "answers.jsonl")
    estimate = one.estimate(questions)
    print(_cost(estimate, args))
    if estimate.requests and not args.yes:
        print("nothing was sent; add --yes to send them")
        return None, problems
    with tqdm(total=len(questions), unit="answer", dynamic_ncols=True, disable=None) as bar:
        found, lost = one.ask(questions, at_once=args.at_once, on_done=lambda: bar.update() and None)
    judged: dict[str, list[verdicts.Verdict]] = {}
    for (_, label), verdict in sorted(found.items()):
        judged.setdefault(label, []).append(verdict)
    return judged, problems + lost


def _answered(labels: list[str], answers: Answers) -> Iterator[tuple[str, Path]]:
    """Every answer file of the labels that have a folder. Raises ValueError where none has one."""
    there = [label for label in labels if (answers.folder / label).is_dir()]
    if not there:
        raise ValueError(f"{answers.folder} has no folder of a label; make one of {', '.join(labels)}")
    for label in there:
        files, _ = folders.by_stem(answers.folder / label)
        for stem in sorted(files):
            yield label, files[stem]


def _cost(estimate: judge.Estimate, args: argparse.Namespace) -> str:
    text = (
        f"{estimate.requests} requests ({estimate.cached} answers are cached), about "
        f"{estimate.tokens_in} tokens in and at most {estimate.tokens_out} out"
    )
    if args.price_in is None or args.price_out is None:
        return f"{text}; add --price-in and --price-out for the cost"
    return f"{text}: about {estimate.cost(args.price_in, args.price_out):.2f} at the given prices"
