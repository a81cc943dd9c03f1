# SPDX-License-Identifier: Apache-2.0
"""Prompts of samples as rows of tokens, how long these are, and whether all prompts of a run fit."""

from collections.abc import Iterator

import numpy as np

from ditfuse_jax import prompt
from ditfuse_jax.config import PATCH, VAE_FACTOR
from ditfuse_jax.data import control, instructions
from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.data.instructions import CLASS_SYNONYMS
from ditfuse_jax.data.mixture import Mixture
from ditfuse_jax.data.samples import FUSION_SUBTASKS, MOST_CLASSES, Sample
from ditfuse_jax.prompt import NUM_SOURCES
from ditfuse_jax.text import quoted


def check_prompts(cfg: MixtureConfig, tokenizer) -> None:
    """ValueError when the longest prompt that the library can give these sources has too many tokens."""
    _check_length(*longest_prompt(cfg, tokenizer), cfg)


def check_given(mixture: Mixture, tokenizer) -> None:
    """ValueError, naming file and line, when an instruction of a JSONL file has too many tokens."""
    for text, words, where in given_prompts(mixture, tokenizer):
        _check_length(text, words, mixture.config, f"{where}: ")


def given_prompts(mixture: Mixture, tokenizer) -> Iterator[tuple[str, int, str]]:
    """Each instruction of the JSONL files once: the text, its text tokens, file and line."""
    for listing in mixture.listings:
        first = {item.instruction: item for item in reversed(listing.items) if item.instruction is not None}
        for item in first.values():
            row = prompt.encode(item.instruction, (1,) * len(item.images), tokenizer)
            yield item.instruction, _text_tokens(row), item.where


def longest_prompt(cfg: MixtureConfig, tokenizer) -> tuple[str, int]:
    """The longest prompt that the library can give these sources, and its text tokens; ("", 0) for JSONL."""
    words = {text: len(tokenizer(text).input_ids) for names in CLASS_SYNONYMS.values() for text in names}
    names = sorted((max(names, key=words.get) for names in CLASS_SYNONYMS.values()), key=words.get)[::-1]
    longest = ("", 0)
    for task, subtask, count in {kind for source in cfg.sources for kind in _kinds(source)}:
        tags = {} if task == "compound" else {"task": task, "subtask": subtask}
        for phrasing in instructions.instructions(task, subtask, cfg.phrasings, count):
            text = prompt.render(instructions.fill(phrasing, tuple(names[:count])), **tags)
            row = prompt.encode(text, (1,) * NUM_SOURCES, tokenizer)
            longest = max(longest, (text, _text_tokens(row)), key=lambda found: found[1])
    return longest


def _kinds(source: SourceConfig) -> list[tuple[str, str | None, int]]:
    """(task, subtask, number of named objects) of the instructions that a source can draw.

    Of instructions that differ in the number alone, the one with the most objects.
    """
    if source.fuse == "given":
        return []
    return {
        "none": [("fusion", FUSION_SUBTASKS[source.fuse], 0)],
        "control": [("control", subtask, count) for subtask in control.CONTROLS for count in (0, 1)],
        "seg": [("seg", None, count) for count in (1, MOST_CLASSES)],
        "compound": [("compound", subtask, MOST_CLASSES) for subtask in (None, *control.CONTROLS)],
    }[source.edit]


def _text_tokens(row: prompt.Prompt) -> int:
    return row.token_ids.shape[1] - int((row.slots[..., 1] - row.slots[..., 0]).sum())


def _check_length(text: str, words: int, cfg: MixtureConfig, where: str = "") -> None:
    if words > cfg.max_text_tokens:
        raise ValueError(
            f"{where}prompt {quoted(text)} has {words} text tokens, max_text_tokens is "
            f"{cfg.max_text_tokens}; raise it or shorten the prompt"
        )


def patch_count(bucket: Bucket) -> int:
    """Prefix tokens of one source."""
    side = VAE_FACTOR * PATCH
    return (bucket.height // side) * (bucket.width // side)


def tokens(sample: Sample, bucket: Bucket, cfg: MixtureConfig, tokenizer) -> prompt.Prompt:
    """One prompt row with NUM_SOURCES slots. Raises ValueError naming a prompt that does not fit."""
    patches = patch_count(bucket)
    try:
        row = prompt.encode(sample.text, (patches,) * sample.num_sources, tokenizer)
    except ValueError as error:
        raise ValueError(f"prompt {sample.text!r}: {error}") from error
    _check_length(sample.text, _text_tokens(row), cfg)
    slots = np.zeros((1, NUM_SOURCES, 2), np.int32)
    slots[:, : sample.num_sources] = row.slots
    return row._replace(slots=slots)


def prefix_length(bucket: Bucket, cfg: MixtureConfig) -> int:
    """Static length of every prefix row of a bucket."""
    longest = cfg.max_text_tokens + NUM_SOURCES * patch_count(bucket)
    return -(-longest // cfg.length_multiple) * cfg.length_multiple
