# SPDX-License-Identifier: Apache-2.0
"""Instruction library: number and variety of phrasings, train and held-out apart, slots, classes, errors."""

import difflib
import itertools
import re
import string

import numpy as np
import pytest

from ditfuse_jax.data import instructions as library
from ditfuse_jax.data.instructions import CLASS_SYNONYMS, SUBTASKS, canonical, draw, fill, instructions

GROUPS = [
    (task, subtask, count)
    for task, subtasks in SUBTASKS.items()
    for subtask in subtasks
    for count in library.COUNTS[task]
]
SEG_CLASSES = (
    "other",
    "sky",
    "building",
    "road",
    "pavement",
    "tree",
    "car",
    "person",
    "bicycle",
    "pole",
    "sign",
    "fence",
    "grass",
    "water",
    "mountain",
    "animal",
)


def bare(text):
    """Without case and punctuation, so that `Fuse both!` equals `fuse both`."""
    return " ".join(re.sub(r"[^a-z0-9{} ]", " ", text.lower()).split())


def words(text):
    return len(bare(text).split())


def sentences(text):
    return len(re.findall(r"[.?!](?=\s|$)", text))


@pytest.mark.parametrize(("task", "subtask", "count"), GROUPS)
def test_each_kind_has_enough_distinct_phrasings(task, subtask, count):
    train, heldout = (instructions(task, subtask, split, count) for split in library.SPLITS)
    assert len(train) >= 40
    assert len(heldout) >= 8
    assert len({bare(text) for text in train + heldout}) == len(train) + len(heldout)


@pytest.mark.parametrize(("task", "subtask", "count"), GROUPS)
def test_each_kind_reaches_from_two_words_to_three_sentences(task, subtask, count):
    train = instructions(task, subtask, "train", count)
    shortest = 4 if task == "compound" else 2  # a compound names two steps and an object
    assert min(map(words, train)) <= shortest
    assert {sentences(text) for text in train} >= {1, 2, 3}
    assert max(map(sentences, train)) == 3
    middle = [text for text in train if 5 <= words(text) <= 14]
    assert len(middle) >= len(train) // 4


@pytest.mark.parametrize(("task", "subtask", "count"), [g for g in GROUPS if g[0] != "compound"])
def test_phrasings_are_not_near_duplicates(task, subtask, count):
    """No two texts of a kind are 85 % alike by letters (compounds share clauses on purpose)."""
    texts = [bare(text) for split in library.SPLITS for text in instructions(task, subtask, split, count)]
    close = [
        pair
        for pair in itertools.combinations(texts, 2)
        if difflib.SequenceMatcher(None, *pair, autojunk=False).real_quick_ratio() > 0.85
        and difflib.SequenceMatcher(None, *pair, autojunk=False).ratio() > 0.85
    ]
    assert close == []


def test_no_phrasing_serves_two_kinds():
    """The same words for two subtasks would teach the model two answers."""
    owner = {}
    for task, subtask, count in GROUPS:
        for split in library.SPLITS:
            for text in instructions(task, subtask, split, count):
                assert owner.setdefault(bare(text), (task, subtask)) == (task, subtask), text


def test_train_and_heldout_share_no_text_in_the_whole_library():
    train, heldout = (
        {bare(text) for group in GROUPS for text in instructions(*group[:2], split, group[2])}
        for split in library.SPLITS
    )
    assert train & heldout == set()


def test_paper_tables_are_on_the_right_side():
    train = {bare(text) for group in GROUPS for text in instructions(*group[:2], "train", group[2])}
    assert library.TABLE_VII[0] in instructions("control", "light+", "train", 0)
    for text in library.TABLE_VII[1:]:
        assert text in instructions("control", "light+", "heldout", 0)
        assert bare(text) not in train
    for text in library.TABLE_VIII:
        assert bare(text.split("requirements:")[-1]) not in train
        assert "<|image_1|>" in text


@pytest.mark.parametrize(("task", "subtask", "count"), GROUPS)
def test_every_template_has_the_slots_of_its_kind_and_fills(task, subtask, count):
    names = ("lamp posts", "sky", "car")[: count if count < 2 else 3]
    for split in library.SPLITS:
        for text in instructions(task, subtask, split, count):
            slots = [field for _, field, _, _ in string.Formatter().parse(text) if field]
            assert (len(slots) == 1) == (count > 0), text
            assert set(slots) <= (
                {"object", "name"} if (task, count) in {("control", 1), ("seg", 1)} else {"objects", "names"}
            )
            filled = fill(text, names)
            assert "{" not in filled
            assert not filled[0].islower()
            assert "  " not in filled
            assert filled == filled.strip()
            assert filled[-1] in ".?"
            assert all(name in filled.lower() for name in names)


def test_names_are_joined_as_people_write_them():
    assert fill("Mark {objects}.", ("car",)) == "Mark the car."
    assert fill("Mark {objects}.", ("car", "road", "sky")) == "Mark the car, the road and the sky."
    assert fill("{names} in blue.", ("car", "road")) == "Car and road in blue."


def test_draw_is_repeatable_and_reaches_the_whole_library():
    def stream(seed, n):
        rng = np.random.default_rng(seed)
        return [draw(rng, "seg", None, "train", ("car", "sky")) for _ in range(n)]

    assert stream(1, 20) == stream(1, 20)
    assert stream(1, 20) != stream(2, 20)
    rng = np.random.default_rng(0)
    whole = {draw(rng, "control", "light--", "heldout") for _ in range(400)}
    assert whole == set(instructions("control", "light--", "heldout", 0))


def test_draw_calls_a_class_by_all_its_synonyms():
    rng = np.random.default_rng(0)
    text = " ".join(draw(rng, "seg", None, "train", ("person",)) for _ in range(300)).lower()
    assert all(name in text for name in CLASS_SYNONYMS["person"])


def test_compound_instructions_name_the_control_and_the_object():
    rng = np.random.default_rng(3)
    for _ in range(50):
        text = draw(rng, "compound", "contrast-", "train", ("mountain",)).lower()
        assert any(word in text for word in ("contrast", "soft", "tones", "blacks", "curve"))
        assert any(name in text for name in CLASS_SYNONYMS["mountain"])


def test_classes_of_the_label_sets_are_known():
    assert set(SEG_CLASSES) <= set(CLASS_SYNONYMS)
    for name, synonyms in CLASS_SYNONYMS.items():
        assert canonical(name) == name
        assert [canonical(word) for word in synonyms] == [name] * len(synonyms)
    assert [canonical(w) for w in ("Vegetation", "the  pedestrians", "lamp_post", "SUV")] == [
        "tree",
        "person",
        "pole",
        "car",
    ]


def test_no_word_means_two_classes():
    rows = library._table("classes").values()
    known = [word for row in rows for word in {*row["names"], *row["also"]}]
    assert len(known) == len(set(known))


def test_class_outside_the_labels_becomes_the_broader_one():
    assert canonical("bus") == "bus"
    assert canonical("lorry", tuple(SEG_CLASSES)) == "car"
    assert canonical("motorbike", tuple(SEG_CLASSES)) == "bicycle"
    with pytest.raises(
        ValueError, match=r"class 'water' \('river'\) is not among the labelled classes car, sky"
    ):
        canonical("river", ("car", "sky"))


def test_unknown_words_are_refused_with_the_closest():
    with pytest.raises(ValueError, match=r"unknown class 'pedestrain' \(did you mean pedestrian\?\)"):
        canonical("pedestrain")
    with pytest.raises(ValueError, match=r"unknown task 'fuson' \(did you mean fusion\?\)"):
        instructions("fuson", None, "train")
    with pytest.raises(ValueError, match=r"task 'control' has no subtask 'light'; use light\+\+, light\+"):
        instructions("control", "light", "train")
    with pytest.raises(ValueError, match="unknown split 'test'; use train or heldout"):
        instructions("seg", None, "test")
    with pytest.raises(ValueError, match="control instructions name 0 to 1 objects, not 2"):
        draw(np.random.default_rng(0), "control", "light+", "train", ("car", "sky"))
    with pytest.raises(ValueError, match="seg instructions name 1 to inf objects, not 0"):
        draw(np.random.default_rng(0), "seg", None, "train")


PROMISES = {  # subtask -> what its target does not do: the mean of both, or another light than either source
    "multi-modalities": r"colou?rs? (unchanged|as )|(keep|leave|preserve|retain|true)\b[^.]*\bcolou?r",
    "multi-exposure": r"(brightness|exposure|light) (unchanged|as (it is|they are))|do not (brighten|darken)",
}


@pytest.mark.parametrize("subtask", PROMISES)
@pytest.mark.parametrize("split", library.SPLITS)
def test_no_phrasing_promises_what_its_target_contradicts(subtask, split):
    """The paper's infrared-visible target is the mean, which changes the colours of the visible picture."""
    found = [
        text
        for text in instructions("fusion", subtask, split)
        if re.search(PROMISES[subtask], text, re.IGNORECASE)
    ]
    assert not found
    assert re.search(PROMISES["multi-modalities"], "Add the heat, but leave the colours as they are.")
