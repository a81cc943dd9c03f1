# SPDX-License-Identifier: Apache-2.0
"""The demo tokenizer: same ids every time, any text without loss, short prompts, ids as the code expects."""

import json
import unicodedata

import numpy as np
import pytest

from ditfuse_jax.data.instructions import SPLITS, SUBTASKS, TABLE_VII, TABLE_VIII, draw
from ditfuse_jax.prompt import (
    BOS_ID,
    IMAGE_ONLY_PROMPT,
    NEGATIVE_PROMPT,
    PADDING_ID,
    PLACEHOLDER_ID,
    encode,
    load_tokenizer,
    render,
)
from scripts import load

demo = load("configs/demo_recipe/tokenizer.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    demo.save(demo.train_tokenizer(), path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


def length(text, tokenizer):
    """Tokens of the prompt without patches."""
    return encode(text, (0, 0), tokenizer).token_ids.shape[1]


def test_same_library_gives_the_same_files(folder, tmp_path):
    demo.save(demo.train_tokenizer(), tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_ids_follow_the_conventions_of_the_code(tokenizer):
    assert len(tokenizer) == demo.VOCAB_SIZE
    assert tokenizer.convert_tokens_to_ids(["<unk>", "<s>", "</s>"]) == [PLACEHOLDER_ID, BOS_ID, PADDING_ID]
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert max(tokenizer.get_vocab().values()) == demo.VOCAB_SIZE - 1


@pytest.mark.parametrize(
    "text",
    [
        "fuse the images asda324&*&*!@&^&^",
        "tabs\tand\nnew lines  and   runs of spaces",
        "zażółć gęślą jaźń, größe, ça va",
        "融合这两幅图像 and تصویر",
        "emoji 🔥🚗 \u200d and \U0001f9d1\u200d\U0001f680",
        "literal {braces} \\ \x00 \x7f \ufffd",
        "[control] fuse. <img> <light+> </img>",
        *TABLE_VII,
        *TABLE_VIII,
        NEGATIVE_PROMPT,
    ],
)
def test_any_text_survives_but_for_upper_case(text, tokenizer):
    ids = tokenizer(text).input_ids
    assert PLACEHOLDER_ID not in ids
    back = tokenizer.decode(ids).removeprefix(" ")
    # a byte-level tokenizer puts a space in front of a text that has none, also after a mark
    assert back.lower().replace(" ", "") == unicodedata.normalize("NFC", text).lower().replace(" ", "")


def test_every_code_point_has_ids(tokenizer):
    points = np.random.default_rng(0).integers(1, 0x110000, 3000)
    text = "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)
    assert PLACEHOLDER_ID not in tokenizer(text).input_ids


def test_case_of_words_does_not_matter_but_tags_and_marks_are_exact(tokenizer):
    assert tokenizer("Fuse Both.").input_ids == tokenizer("fuse both.").input_ids
    assert len(tokenizer("[FUSION]. ").input_ids) == 1
    assert len(tokenizer("<|end|>\n<|assistant|>\n<|diffusion|>").input_ids) == 3
    assert len(tokenizer("[fusion]. ").input_ids) > 1


def test_first_word_of_an_instruction_is_the_word_inside_a_sentence(tokenizer):
    first = tokenizer(demo.template_pieces()[3] + "brighten it").input_ids
    inside = tokenizer("please brighten it").input_ids
    assert first[-2:] == inside[-2:]


def test_template_costs_few_tokens(tokenizer):
    tagged = encode(render("fuse", task="control", subtask="light++"), (2, 3), tokenizer)
    names = tokenizer.convert_ids_to_tokens(tagged.token_ids[0])
    assert names == [
        "<|user|>",
        "Generate an image according to the following instructions\n",
        "[CONTROL]. ",
        "<LIGHT++>. ",
        "This is the first image ",
        "<img>",
        *["<unk>"] * 2,
        "</img>",
        ", and this is the second image ",
        "<img>",
        *["<unk>"] * 3,
        "</img>",
        ". Please generate the image based on the following requirements: ",
        "Ġfuse",
        "<|end|>",
        "<|assistant|>",
        "<|diffusion|>",
    ]
    assert length(IMAGE_ONLY_PROMPT, tokenizer) <= 12


def test_prompts_are_short(tokenizer):
    """Template and wrapper are 15 tokens; the rest is the instruction, held-out wordings a little longer."""
    rng = np.random.default_rng(0)
    objects = {"fusion": (), "control": ("car",), "seg": ("sky", "road"), "compound": ("person",)}
    mean = {}
    for split in SPLITS:
        lengths = []
        for task, subtasks in SUBTASKS.items():
            tag = "control" if task == "compound" else task
            for subtask in subtasks:
                texts = [draw(rng, task, subtask, split, objects[task]) for _ in range(30)]
                lengths += [length(render(text, task=tag, subtask=subtask), tokenizer) for text in texts]
        mean[split] = np.mean(lengths)
        assert max(lengths) <= 90
    assert mean["train"] <= 35
    assert mean["heldout"] <= 42


def test_heldout_words_never_shaped_the_vocabulary():
    """The corpus is the train library alone."""
    corpus = " ".join(demo.corpus()).lower()
    assert "increase brightness of the input images" not in corpus
    assert "fuse both." in corpus


def test_command_writes_a_loadable_folder(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tokenizer", str(tmp_path / "new")])
    demo.main()
    assert f"{demo.VOCAB_SIZE} ids" in capsys.readouterr().out
    assert load_tokenizer(tmp_path / "new").get_vocab() == load_tokenizer(folder).get_vocab()
    assert json.loads((tmp_path / "new/tokenizer_config.json").read_text())["add_bos_token"] is False


def test_template_is_ordinary_text_when_decoded(tokenizer):
    """Marks can be skipped; the sentences of the template cannot."""
    text = tokenizer.decode(
        tokenizer("<img>[SEG]. This is the first image </img>").input_ids, skip_special_tokens=True
    )
    assert text == "[SEG]. This is the first image "
