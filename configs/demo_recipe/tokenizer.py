# SPDX-License-Identifier: Apache-2.0
"""Trains the small tokenizer of the demo checkpoint: `python configs/demo_recipe/tokenizer.py FOLDER`.

Byte-level BPE, so any text has ids. Chat marks, tags and the fixed sentences of the prompt template are one
id each, because every prompt token costs compute in training; instruction words stay words. Text is
lower-cased (tags are not): a small model need not learn that "Fuse" and "fuse" are one word. Held-out
phrasings are never seen here.
"""

import argparse
import json
import os
import re
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ditfuse_jax.data.instructions import CLASS_SYNONYMS, COUNTS, SUBTASKS, fill, instructions
from ditfuse_jax.prompt import CHAT, REQUIREMENTS, SOURCES, SUBTASK_TAGS, TASK_TAGS

VOCAB_SIZE = 1280
# ids 0, 1, 2 as in Phi-3
PHI3 = ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>")
OWN = ("<|diffusion|>", "<img>", "</img>", "<cfg>")
LINE_ENDERS = ("<|user|>", "<|assistant|>", "<|end|>")  # swallow the newline after them, as in Phi-3


def template_pieces() -> tuple[str, ...]:
    """The fixed texts of a prompt between its marks; each becomes one id."""
    first, second, end = re.split(r"<img><\|image_\d\|></img>", SOURCES)
    chat = CHAT.split("{}")[0].removeprefix("<|user|>\n")
    tags = [f"{tag}. " for tag in (*TASK_TAGS.values(), *SUBTASK_TAGS.values())]
    return (chat, first, second, f"{end} {REQUIREMENTS}", *tags)


def corpus():
    """Every train phrasing, once; class slots are filled from the synonyms in turn."""
    names = [word for words in CLASS_SYNONYMS.values() for word in words]
    texts = [
        text
        for task, subtasks in SUBTASKS.items()
        for subtask in subtasks
        for count in COUNTS[task]
        for text in instructions(task, subtask, "train", count)
    ]
    for i, text in enumerate(texts):
        yield fill(text, (names[i % len(names)], names[(i + 1) % len(names)]))


def train_tokenizer(vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """A tokenizer of `vocab_size` ids; the same library gives the same ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    # the space in front makes the first word of an instruction the same id as inside a sentence
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    special, pieces = (*PHI3, *OWN), template_pieces()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, *pieces],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    # the ids are there; this sets the flags (the trainer calls them all special, template text is ordinary)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, rstrip=t in LINE_ENDERS) for t in special])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in pieces])
    return tokenizer


def save(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json, whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marks = {
        "bos_token": "<s>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<unk>",
    }
    settings = {
        **marks,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 131072,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    write(folder / "tokenizer_config.json", json.dumps(settings, indent=2))
    write(folder / "special_tokens_map.json", json.dumps(marks, indent=2))


def write(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.part")
    part.write_text(text + "\n", "utf-8")
    os.replace(part, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", help="gets tokenizer.json, tokenizer_config.json, special_tokens_map.json")
    folder = parser.parse_args().folder
    tokenizer = train_tokenizer()
    save(tokenizer, folder)
    print(f"{tokenizer.get_vocab_size()} ids -> {folder}")


if __name__ == "__main__":
    main()
