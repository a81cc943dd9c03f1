# SPDX-License-Identifier: Apache-2.0
"""The instruction library: what people ask for, per task and subtask, in many wordings.

The texts were written for this project and live in `phrases/*.toml`, one phrasing per line; to add one,
add a line. Train and held-out phrasings never mix; tags and template are added by `prompt.render`, not here.
Light without a degree ("brighten") means one step, `light+`; the double steps always say so.
"""

import functools
import itertools
import math
import tomllib
from importlib import resources

import numpy as np

from ditfuse_jax.config import closest
from ditfuse_jax.prompt import MISTYPED

SPLITS = ("train", "heldout")
CONTROLS = ("light++", "light+", "light-", "light--", "contrast+", "contrast-")
SUBTASKS = {  # task -> its subtasks; None: a task without a subtag
    "fusion": (None, "multi-modalities", "multi-focus", "multi-exposure"),
    "control": CONTROLS,
    "seg": (None,),
    "compound": (None, *CONTROLS),  # fuse and segment, with a change of light or contrast in between
}
COUNTS = {
    "fusion": (0,),
    "control": (0, 1),
    "seg": (1, 2),
    "compound": (1,),
}  # named objects; the last: or more
CHINESE = (0x4E00, 0x9FA6)  # code points of `nonsense`
ASCII = (0x21, 0x7F)
COMPOUNDS = {"train": 240, "heldout": 60}  # compositions taken of all that the clauses allow

# Paper Table VII (light+, tags removed, template kept): prompt 1 was trained on, prompts 2 to 4 were not.
TABLE_VII = (
    "Extract and fuse high-quality features from both images. "
    "Slightly brighten the critical elements to make them stand out subtly.",
    "Extract and fuse high-quality features from both images. Increase brightness of the input images.",
    "Fuse the images. Increase brightness of the input images.",
    "Fuse the images and increase the brightness.",
)
# Paper Table VIII: whole prompts, placeholders included; never rendered, never trained on.
TABLE_VIII = (
    "This is the first image <img><|image_1|></img>, and this is the second image <img><|image_2|></img>. "
    "Please generate the image based on the following requirements: asda324&*&*!@&^&^",
    "This is the first image <img><|image_1|></img>, and this is the second image <img><|image_2|></img>. "
    "Please generate the image based on the following requirements: fuse the images asda324&*&*!@&^&^",
    "Fuse the <img><|image_1|></img> and <img><|image_2|></img>.",
    "Fuse the <img><|image_1|></img> and <img><|image_2|></img> and seg the cars.",
    "Fuse the <img><|image_1|></img> and <img><|image_2|></img> and seg the cars and the buildings.",
)


@functools.cache
def _table(name: str) -> dict:
    return tomllib.loads(
        resources.files("ditfuse_jax.data").joinpath(f"phrases/{name}.toml").read_text("utf-8")
    )


# class name -> the words that prompts call it by
CLASS_SYNONYMS: dict[str, tuple[str, ...]] = {
    name: tuple(row["names"]) for name, row in _table("classes").items()
}


@functools.cache
def instructions(
    task: str, subtask: str | None, split: str, num_objects: int | None = None
) -> tuple[str, ...]:
    """All phrasings of one kind, in a fixed order, with the slots of `fill` still open.

    Args:
        task: a key of SUBTASKS; M3 is "fusion" without subtask.
        subtask: one of SUBTASKS[task].
        split: "train" or "heldout".
        num_objects: how many objects the text names (control 0 or 1, seg and compound 1 or more); None: any.
    Raises:
        ValueError: an unknown task, subtask, split, or a number of objects that the task has no texts for.
    """
    _check(task, subtask, split, num_objects)
    if task == "compound":
        return _compounds(subtask, split)
    counts = COUNTS[task] if num_objects is None else (min(num_objects, COUNTS[task][-1]),)
    return tuple(text for count in counts for text in _simple(task, subtask, split, count))


def draw(
    rng: np.random.Generator, task: str, subtask: str | None, split: str, objects: tuple[str, ...] = ()
) -> str:
    """One phrasing at random; each class in `objects` is called by a random one of its synonyms."""
    texts = instructions(task, subtask, split, len(objects))
    template = texts[rng.integers(len(texts))]
    words = [CLASS_SYNONYMS[canonical(name)] for name in objects]
    return fill(template, tuple(choices[rng.integers(len(choices))] for choices in words))


def nonsense(rng: np.random.Generator) -> str:
    """Random signs, or a few of a script without words here: nothing is asked but to fuse."""
    if rng.random() < 0.5:
        return "".join(map(chr, rng.integers(*CHINESE, size=rng.integers(1, 9))))
    signs = "".join(map(chr, rng.integers(*ASCII, size=rng.integers(0, 25)))).replace("<|", "<")
    return MISTYPED.sub("", signs)


def fill(template: str, names: tuple[str, ...] = ()) -> str:
    """Puts names into the slots: {object}, {objects} "the car and the sky"; {name}, {names} "car and sky"."""
    with_article = join([f"the {name}" for name in names])
    text = template.format(
        object=with_article, objects=with_article, name=join(list(names)), names=join(list(names))
    )
    return _capitalize(text)


def join(words: list[str]) -> str:
    """`car`, `car and road`, `car, road and sky`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def canonical(name: str, classes: tuple[str, ...] | None = None) -> str:
    """The class that a word means: `canonical("the pedestrians") == "person"`.

    With `classes`, a class that is not among them is replaced by the broader one that holds it (bus -> car).
    Raises ValueError, naming the closest known word, when no class is meant.
    """
    word = " ".join(name.lower().replace("_", " ").split()).removeprefix("the ")
    found = _classes_by_word().get(word)
    if found is None:
        near = closest(word, _classes_by_word())
        raise ValueError(f"unknown class {name!r}{near}; the classes are {', '.join(CLASS_SYNONYMS)}")
    if classes is None or found in classes:
        return found
    broader = _table("classes")[found].get("broader")
    if broader not in classes:
        raise ValueError(f"class {found!r} ({name!r}) is not among the labelled classes {', '.join(classes)}")
    return broader


def _check(task: str, subtask: str | None, split: str, num_objects: int | None) -> None:
    if task not in SUBTASKS:
        raise ValueError(f"unknown task {task!r}{closest(str(task), SUBTASKS)}; use {', '.join(SUBTASKS)}")
    if subtask not in SUBTASKS[task]:
        known = ", ".join(str(name) for name in SUBTASKS[task])
        raise ValueError(f"task {task!r} has no subtask {subtask!r}; use {known}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; use {' or '.join(SPLITS)}")
    low, high = COUNTS[task][0], math.inf if task in ("seg", "compound") else COUNTS[task][-1]
    if num_objects is not None and not low <= num_objects <= high:
        raise ValueError(f"{task} instructions name {low} to {high} objects, not {num_objects}")


@functools.cache
def _classes_by_word() -> dict[str, str]:
    rows = _table("classes").items()
    words = {word: name for name, row in rows for word in (*row["also"], *row["names"])}
    return words | {name: name for name in CLASS_SYNONYMS}


def _lines(group: dict, split: str) -> tuple[str, ...]:
    return tuple(group[split].split("\n")[:-1])


def _simple(task: str, subtask: str | None, split: str, count: int) -> tuple[str, ...]:
    table = _table(task)
    if task == "fusion":
        return _lines(table[subtask or "generic"], split)
    if task == "seg":
        return _lines(table["one" if count == 1 else "several"], split)
    return _lines(table[subtask]["object" if count else "whole"], split)


@functools.cache
def _compounds(subtask: str | None, split: str) -> tuple[str, ...]:
    """A spread of all compositions frame x fuse x control x seg: steps of the golden ratio."""
    table = _table("compound")
    frames = _lines(table["frames"]["with_control" if subtask else "without_control"], split)
    controls = _lines(table[subtask], split) if subtask else ("",)
    parts = (frames, _lines(table["fuse"], split), controls, _lines(table["seg"], split))
    texts = [_compose(*choice) for choice in itertools.product(*parts)]
    step = round(len(texts) * 0.618)
    while math.gcd(step, len(texts)) > 1:
        step += 1
    return tuple(texts[i * step % len(texts)] for i in range(COMPOUNDS[split]))


def _compose(frame: str, fuse: str, control: str, seg: str) -> str:
    filled = frame.replace("{fuse}", fuse).replace("{control}", control).replace("{seg}", seg)
    return _capitalize(filled)


def _capitalize(text: str) -> str:
    """Upper case at the start of each sentence; a slot at the start waits for `fill`."""
    sentences = text.split(". ")
    return ". ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)
