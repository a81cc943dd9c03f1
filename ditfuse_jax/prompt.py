# SPDX-License-Identifier: Apache-2.0
"""Instruction -> tagged template -> chat wrapper -> token rows with slots for the source patches.

The text that the official system builds (reference: OmniGen's processor) is kept byte for byte: every chunk
between image placeholders is tokenised alone, a leading BOS is dropped from all chunks but the first, and
each placeholder becomes a run of `PLACEHOLDER_ID` that the model overwrites with patches.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

PLACEHOLDER = re.compile(r"<\|image_(\d{1,4})\|>")
MISTYPED = re.compile(  # what is written by those who mean one
    r"(?:<|<?\|\s*)im(?:age|g)[\s_-]*\d+[\s|>]*"  # <|image_1>, <image_1>, |image 1|, <|Image_1|>, <img1>
    r"|<(?:\|\s*)?image[\s_|>-]*"  # <image>
    r"|\bimage[\s_-]*\d*\|?>",  # image_1|>
    re.IGNORECASE,
)
PLACEHOLDER_ID = 0  # <unk>; overwritten by source patches, so its value never matters
BOS_ID = 1
PADDING_ID = 2  # of inference; training pads with another id, which never matters either

CHAT = (
    "<|user|>\nGenerate an image according to the following instructions\n{}"
    "<|end|>\n<|assistant|>\n<|diffusion|>"
)
SOURCES = (
    "This is the first image <img><|image_1|></img>, and this is the second image <img><|image_2|></img>."
)
NUM_SOURCES = 2  # that SOURCES names
REQUIREMENTS = "Please generate the image based on the following requirements: "
NEGATIVE_PROMPT = (
    "low quality, jpeg artifacts, ugly, duplicate, morbid, mutilated, extra fingers, mutated hands, "
    "poorly drawn hands, poorly drawn face, mutation, deformed, blurry, dehydrated, bad anatomy, "
    "bad proportions, extra limbs, cloned face, disfigured, gross proportions, malformed limbs, "
    "missing arms, missing legs, extra arms, extra legs, fused fingers, too many fingers."
)
IMAGE_ONLY_PROMPT = "<img><|image_1|></img> <img><|image_2|></img>"
DROPPED_PROMPT = "<cfg>"  # what training sees when the whole condition is dropped

TASK_TAGS = {"fusion": "[FUSION]", "control": "[CONTROL]", "seg": "[SEG]"}
SUBTASK_TAGS = {
    name: f"<{name.upper()}>"
    for name in (
        "multi-modalities",
        "multi-focus",
        "multi-exposure",
        "light++",
        "light+",
        "light-",
        "light--",
        "contrast+",
        "contrast-",
    )
}


class Prompt(NamedTuple):
    """Prefix rows, left padded: what the model needs to know of instruction and sources, without pixels."""

    token_ids: np.ndarray  # int32 [B, S]; slots hold PLACEHOLDER_ID
    positions: np.ndarray  # int32 [B, S], 0 in the padding and at the first token
    visible_until: np.ndarray  # int32 [B, S]: token s sees keys num_padding <= key < visible_until[s]
    num_padding: np.ndarray  # int32 [B]
    slots: (
        np.ndarray
    )  # int32 [B, n, 2]: (start, stop) of source i's patches in the row; (0, 0) where it is absent


def load_tokenizer(folder):
    """The tokenizer of a checkpoint folder, exactly as its files say.

    `AutoTokenizer` is not used: transformers 5 rebuilds Phi-3 tokenizers and changes their ids.
    Raises ValueError when the folder holds no tokenizer.json.
    """
    fast = _tokenizer_class()
    file = Path(folder) / "tokenizer.json"
    if not file.is_file():
        raise ValueError(
            f"{file} is missing; copy tokenizer.json and tokenizer_config.json of the checkpoint there"
        )
    try:
        return fast.from_pretrained(str(folder))
    except Exception as error:  # the tokenizers library raises plain Exception for a damaged file
        raise ValueError(f"{file} cannot be read ({error}); copy the tokenizer's files again") from error


def _tokenizer_class():
    """transformers' class, without its advice that PyTorch is missing: nothing here needs it."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import PreTrainedTokenizerFast  # 0.5 s, so on use

    return PreTrainedTokenizerFast


def check_vocabulary(tokenizer, vocab_size: int) -> None:
    """ValueError when the tokenizer has ids that a model of `vocab_size` does not know."""
    if len(tokenizer) > vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} ids, model.vocab_size is {vocab_size}; "
            "use the tokenizer of the model, or a larger model.vocab_size"
        )


def render(instruction: str, *, task: str | None = None, subtask: str | None = None) -> str:
    """`[TASK]. <SUBTASK>. ` + the two image placeholders + the instruction (paper Fig. 6).

    Without a task there are no tags. An instruction that already holds image placeholders is returned as it
    is. Raises ValueError where one is mistyped or missing: the model would not see that source.
    """
    if PLACEHOLDER.search(instruction) or MISTYPED.search(instruction):
        check_placeholders(instruction, NUM_SOURCES)
        return instruction
    return f"{tags(task, subtask)}{SOURCES} {REQUIREMENTS}{instruction}"


def check_placeholders(text: str, count: int) -> None:
    """ValueError unless `text` names each of the images 1 .. count once, and nothing that looks like one."""
    named = [int(number) for number in PLACEHOLDER.findall(text)]
    if wrong := MISTYPED.search(PLACEHOLDER.sub("", text)):
        raise ValueError(
            f"{wrong[0].strip()!r} is no placeholder of an image; write <|image_1|>, bars and all"
        )
    if sorted(named) != list(range(1, count + 1)):
        raise ValueError(
            f"the prompt names images {named}, but there are {count} sources; "
            f"use each of {' '.join(f'<|image_{i}|>' for i in range(1, count + 1)) or 'no placeholder'} once"
        )


def tags(task: str | None, subtask: str | None = None) -> str:
    """The tag prefix of a prompt, with its trailing space; empty without a task."""
    if task is None:
        if subtask is not None:
            raise ValueError(f"subtask {subtask!r} needs a task: {', '.join(TASK_TAGS)}")
        return ""
    if task not in TASK_TAGS:
        raise ValueError(f"task {task!r} is not one of {', '.join(TASK_TAGS)}")
    if subtask is None:
        return f"{TASK_TAGS[task]}. "
    if subtask not in SUBTASK_TAGS:
        raise ValueError(f"subtask {subtask!r} is not one of {', '.join(SUBTASK_TAGS)}")
    return f"{TASK_TAGS[task]}. {SUBTASK_TAGS[subtask]}. "


def kind_of(prompt: str) -> str | None:
    """The subtask, else the task, whose tags a prompt begins with: `multi-focus`, `seg`; None without."""
    for task in TASK_TAGS:
        for subtask in (*SUBTASK_TAGS, None):
            if prompt.startswith(tags(task, subtask)):
                return subtask or task
    return None


def encode(text: str, patch_counts: tuple[int, ...], tokenizer) -> Prompt:
    """One unpadded row (B = 1) for `text` inside the chat wrapper.

    Args:
      text: may hold each placeholder <|image_1|> .. <|image_n|> once, in any order; a text with none has no
        sources.
      patch_counts: number of patches of source 1 .. n (h / 2 * w / 2 of its latents).
      tokenizer: of the checkpoint, see `load_tokenizer`.

    Raises ValueError when the placeholders are not exactly the n sources (or none at all).
    """
    pieces = PLACEHOLDER.split(CHAT.format(text))
    order = [int(number) for number in pieces[1::2]]
    if order:
        check_placeholders(text, len(patch_counts))
    ids: list[int] = []
    visible: list[int] = []
    slots = np.zeros((len(patch_counts), 2), np.int32)
    for chunk, number in zip(pieces[0::2], [*order, None], strict=True):
        new = tokenizer(chunk).input_ids
        new = new[1:] if ids and new[:1] == [BOS_ID] else new
        visible += range(len(ids) + 1, len(ids) + len(new) + 1)
        ids += new
        if number is not None:
            start, stop = len(ids), len(ids) + patch_counts[number - 1]
            slots[number - 1] = start, stop
            ids += [PLACEHOLDER_ID] * (stop - start)
            visible += [stop] * (stop - start)
    row = np.arange(len(ids), dtype=np.int32)
    return Prompt(
        np.array([ids], np.int32),
        row[None],
        np.array([visible], np.int32),
        np.zeros(1, np.int32),
        slots[None],
    )


def collate(prompts: list[Prompt], *, length: int | None = None) -> Prompt:
    """Stacks rows, left padded to `length` or to the longest.

    Raises ValueError when a row is longer than `length`.
    """
    longest = max(prompt.token_ids.shape[1] for prompt in prompts)
    length = length or longest
    if longest > length:
        raise ValueError(
            f"a prompt has {longest} tokens, more than {length}; shorten it or allow longer ones"
        )
    padded = [_pad_left(prompt, length - prompt.token_ids.shape[1]) for prompt in prompts]
    return Prompt(*(np.concatenate(field) for field in zip(*padded, strict=True)))


def _pad_left(prompt: Prompt, count: int) -> Prompt:
    """Adds `count` padding tokens; they see the first real token, which keeps their rows finite."""
    before = ((0, 0), (count, 0))
    shifted = np.where(prompt.slots[..., 1:] > 0, prompt.slots + count, 0)
    return Prompt(
        np.pad(prompt.token_ids, before, constant_values=PADDING_ID),
        np.pad(prompt.positions, before),
        np.pad(prompt.visible_until + count, before, constant_values=count + 1),
        prompt.num_padding + np.int32(count),
        shifted.astype(np.int32),
    )
