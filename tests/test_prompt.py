# SPDX-License-Identifier: Apache-2.0
"""Prompts against the official processor: ids, spans and positions exact, masks exact on real rows."""

import json

import numpy as np
import pytest

from conftest import golden
from ditfuse_jax.models.mask import attention_mask, suffix_visible_until
from ditfuse_jax.prompt import (
    DROPPED_PROMPT,
    IMAGE_ONLY_PROMPT,
    NEGATIVE_PROMPT,
    check_placeholders,
    collate,
    encode,
    load_tokenizer,
    render,
)


@pytest.fixture(scope="module")
def processor():
    """The Phi-3 tokenizer and the official processor's output with it (not ours to ship, so only in
    ../shared).
    """
    folder = golden("processor")
    facts = json.loads((folder / "processor_phi3.json").read_text())
    return load_tokenizer(golden("tokenizer_phi3")), facts, np.load(folder / "processor_phi3.npz")


@pytest.fixture(scope="module")
def tiny_tokenizer():
    return load_tokenizer(golden("ckpt_tiny"))


def branches(facts, index, tokenizer):
    counts = tuple(h // 16 * (w // 16) for h, w in facts["sizes_hw"][index])
    texts = (facts["prompts"][index], NEGATIVE_PROMPT, IMAGE_ONLY_PROMPT)
    return [encode(text, counts, tokenizer) for text in texts], counts


def assert_equal_rows(prompt, z, name, targets):
    """Ids, spans, positions and the mask on real rows; targets = number of real target tokens of each row."""
    np.testing.assert_array_equal(prompt.positions, z[name + "position_ids"][:, : prompt.positions.shape[1]])
    spans = [(row, *slot) for row, slots in enumerate(prompt.slots) for slot in slots if slot[1]]
    np.testing.assert_array_equal(np.reshape(spans, (-1, 3)), z[name + "image_spans"])
    real = np.arange(prompt.token_ids.shape[1]) >= prompt.num_padding[:, None]
    np.testing.assert_array_equal(prompt.token_ids[real], z[name + "input_ids"][real])
    shape = z[name + "mask_shape"]
    official = np.unpackbits(z[name + "mask_packed"], axis=-1)[..., : shape[-1]].astype(bool)
    prefix = prompt.token_ids.shape[1]
    suffix = suffix_visible_until(np.asarray(targets), prefix, official.shape[1] - prefix - 1)
    mask = attention_mask(
        np.concatenate([prompt.visible_until, suffix], 1), prompt.num_padding, official.shape[1]
    )
    for row, padding in enumerate(prompt.num_padding):
        rows = slice(padding, prefix + 1 + targets[row])
        np.testing.assert_array_equal(mask[row, rows], official[row, rows])


@pytest.mark.parametrize("index", range(6))
def test_official_prompts(processor, index):
    tokenizer, facts, z = processor
    prompts, counts = branches(facts, index, tokenizer)
    for branch, prompt in enumerate(prompts):
        assert prompt.token_ids.shape[1] == facts["token_lengths"][index][branch]
        assert_equal_rows(prompt, z, f"p{index}_br{branch}_", [counts[0]])


def test_collated_branches(processor):
    tokenizer, facts, z = processor
    (first, counts), (second, _) = branches(facts, 0, tokenizer), branches(facts, 1, tokenizer)
    rows = collate([prompt for pair in zip(first, second, strict=True) for prompt in pair])
    assert_equal_rows(rows, z, "joint01_", [counts[0]] * 6)


def test_training_rows_with_a_dropped_condition(processor):
    tokenizer, facts, z = processor
    (kept, first), (other, second) = branches(facts, 2, tokenizer), branches(facts, 3, tokenizer)
    rows = collate([kept[0], other[0], encode(DROPPED_PROMPT, first, tokenizer)])
    assert_equal_rows(rows, z, "train_", [first[0], second[0], first[0]])


def test_bare_strings(processor):
    tokenizer, facts, _ = processor
    for text, ids in facts["encode"].items():
        assert tokenizer(text).input_ids == ids


def test_tags_and_template_are_byte_exact():
    requirements = "Extract and fuse high-quality features from both images."
    tail = (
        "This is the first image <img><|image_1|></img>, and this is the second image "
        "<img><|image_2|></img>. Please generate the image based on the following requirements: "
        f"{requirements}"
    )
    assert render(requirements) == tail
    assert render(requirements, task="fusion") == "[FUSION]. " + tail
    assert render(requirements, task="control", subtask="light+") == "[CONTROL]. <LIGHT+>. " + tail
    assert render("Fuse <|image_1|> and <|image_2|>", task="seg") == "Fuse <|image_1|> and <|image_2|>"


def test_slots_and_visibility_of_a_small_prompt(tiny_tokenizer):
    prompt = encode("a <|image_2|> b <|image_1|>", (2, 3), tiny_tokenizer)
    (first, second), visible = prompt.slots[0], prompt.visible_until[0]
    assert first[1] - first[0] == 2
    assert second[1] - second[0] == 3
    assert second[1] < first[0]  # the text names image 2 first
    for start, stop in prompt.slots[0]:
        assert (prompt.token_ids[0, start:stop] == 0).all()
        assert (visible[start:stop] == stop).all()
    outside = np.ones(len(visible), bool)
    outside[slice(*first)] = outside[slice(*second)] = False
    np.testing.assert_array_equal(visible[outside], np.flatnonzero(outside) + 1)


def test_left_padding_moves_slots_and_keeps_absent_sources_absent(tiny_tokenizer):
    prompts = [
        encode("x <|image_1|> <|image_2|>", (2, 2), tiny_tokenizer),
        encode("<cfg>", (2, 2), tiny_tokenizer),
    ]
    rows = collate(prompts, length=80)
    padding = rows.num_padding[0]
    np.testing.assert_array_equal(rows.slots[0], prompts[0].slots[0] + padding)
    np.testing.assert_array_equal(rows.slots[1], np.zeros((2, 2)))
    np.testing.assert_array_equal(rows.positions[0, padding:], np.arange(80 - padding))


def test_errors_name_the_way_out(tiny_tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"names images \[1, 3\], but there are 2 sources; use each"):
        encode("<|image_1|> <|image_3|>", (4, 4), tiny_tokenizer)
    with pytest.raises(ValueError, match=r"names images \[1\], but there are 2"):
        encode("<|image_1|>", (4, 4), tiny_tokenizer)
    with pytest.raises(ValueError, match="more than 5; shorten it"):
        collate([encode("long", (), tiny_tokenizer)], length=5)
    with pytest.raises(ValueError, match="task 'paint' is not one of fusion, control, seg"):
        render("x", task="paint")
    with pytest.raises(ValueError, match="subtask 'light' is not one of"):
        render("x", task="control", subtask="light")
    with pytest.raises(ValueError, match="needs a task"):
        render("x", subtask="light+")
    with pytest.raises(ValueError, match=r"tokenizer\.json is missing; copy"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "words",
    ["<|image_1>", "<image_1|>", "<|image 1|>", "<|Image_1|>", "|image_1|", "image_1|>", "<img1>", "<image>"],
)
def test_a_mistyped_placeholder_never_drops_the_sources(words):
    for text in (f"Fuse {words} and <|image_2|>", f"Fuse {words}"):
        with pytest.raises(ValueError, match=r"is no placeholder of an image; write <\|image_1\|>"):
            render(text)


@pytest.mark.parametrize("text", ["Fuse <|image_1|>", "<|image_1|> <|image_1|>", "<|image_1|> <|image_3|>"])
def test_placeholders_name_each_source_once(text):
    with pytest.raises(ValueError, match=r"but there are 2 sources; use each of <\|image_1\|> <\|image_2\|>"):
        render(text)


def test_words_about_images_are_no_placeholders():
    for text in (
        "keep image 1 as it is, image 2 < image 1",
        "an imaginary <b>view</b> | image",
        NEGATIVE_PROMPT,
    ):
        assert render(text).endswith(text)
    check_placeholders(IMAGE_ONLY_PROMPT, 2)
    check_placeholders("no sources at all", 0)
