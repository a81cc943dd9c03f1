# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from pictures import write, write_mask

from ditfuse_jax.data.segmentation import overlay
from ditfuse_jax.evaluation import segmentation
from ditfuse_jax.evaluation.__main__ import main
from ditfuse_jax.evaluation.segmentation import Answers, Overlap
from synthetic import noise

CLASSES = segmentation.Classes(
    ("other", "car", "person"), {name: name for name in ("other", "car", "person")}
)


def test_overlap_sums_over_pictures_and_leaves_out_what_nobody_labelled():
    found, truth = np.array([True, True, False, True]), np.array([True, False, True, True])
    valid = np.array([True, True, True, False])
    first = Overlap().add(found, truth, valid)
    assert first == (1, 3)
    assert first.add(found, np.zeros(4, bool), valid) == (1, 5)  # where the class is not, finding it costs
    assert np.isnan(Overlap().iou)


def labels(tmp_path):
    """Two scenes: a car and a person; neither."""
    first, second = np.zeros((32, 40), np.uint8), np.zeros((32, 40), np.uint8)
    first[:10, :20], first[20:, 30:] = 1, 2
    second[:4] = 255
    for stem, picture in (("a", first), ("b", second)):
        write(tmp_path / "labels" / f"{stem}.png", picture)
    return first, second


def answer(tmp_path, name, stem, mask):
    write_mask(tmp_path / "answers" / name / f"{stem}.png", mask)


def test_counts_are_over_the_set_and_ignored_pixels_do_not_count(tmp_path):
    first, _ = labels(tmp_path)
    answer(tmp_path, "car", "a", first == 1)
    false = np.zeros((32, 40), bool)
    false[2:6] = True  # half of it where nothing is labelled
    answer(tmp_path, "car", "b", false)
    for stem in "ab":
        answer(tmp_path, "person", stem, np.zeros((32, 40), bool))
    found, problems = segmentation.score(tmp_path / "labels", CLASSES, Answers(tmp_path / "answers", False))
    assert found == {"car": (200, 280), "person": (0, 120)}
    assert problems == []
    assert segmentation.mean_iou(found) == pytest.approx((200 / 280 + 0) / 2)


def test_overlays_are_decoded_against_the_plain_fusion(tmp_path):
    first, second = labels(tmp_path)
    for seed, (stem, truth) in enumerate((("a", first), ("b", second))):
        plain = noise(seed, 32, 40, 3)
        write(tmp_path / "plain" / f"{stem}.png", plain)
        write(tmp_path / "answers" / "car" / f"{stem}.png", overlay(plain, truth == 1))
    answers = Answers(tmp_path / "answers", True, tmp_path / "plain")
    found, problems = segmentation.score(tmp_path / "labels", CLASSES, answers)
    assert problems == []
    assert found["car"].iou > 0.9


def test_missing_and_misfit_answers_are_lines(tmp_path):
    first, _ = labels(tmp_path)
    write_mask(tmp_path / "answers" / "car" / "a.png", (first == 1)[:20])
    found, problems = segmentation.score(tmp_path / "labels", CLASSES, Answers(tmp_path / "answers", False))
    assert np.isnan(found["car"].iou)
    assert "no answer for b" in problems[0]
    assert "different sizes, 40 x 20 and 40 x 32" in problems[1]
    with pytest.raises(ValueError, match="has no folder of a class; make one of other, car, person"):
        segmentation.score(tmp_path / "labels", CLASSES, Answers(tmp_path, False))


def test_table_has_a_column_a_method():
    text = segmentation.markdown(
        {"ours": {"car": Overlap(1, 2)}, "other": {"car": Overlap(1, 4), "sky": Overlap()}}
    )
    assert "| class | ours | other |" in text
    assert "| car | 0.5000 | 0.2500 |" in text
    assert "| sky | - | - |" in text
    assert "| mean | 0.5000 | 0.2500 |" in text


def test_fmb_is_scored_in_the_rows_of_the_paper(tmp_path):
    classes = segmentation.classes_of("FMB")
    assert len(classes.shown) == 11
    assert set(classes.shown.values()) <= set(classes.by_label)
    picture = np.zeros((32, 40), np.uint8)
    picture[:10], picture[20:] = classes.by_label.index("pavement"), classes.by_label.index("sky")
    write(tmp_path / "labels/a.png", picture)
    for name, mask in (("sidewalk", picture == 2), ("Sky", picture == 7), ("building", picture == 3)):
        answer(tmp_path, name, "a", mask)
    found, _ = segmentation.score(tmp_path / "labels", classes, Answers(tmp_path / "answers", False))
    assert list(found) == ["Building", "Sidewalk", "Sky"]
    assert found["Sidewalk"].iou == found["Sky"].iou == 1


def test_command_writes_the_table(tmp_path, capsys):
    first, second = labels(tmp_path)
    for stem, truth in (("a", first), ("b", second)):
        answer(tmp_path, "car", stem, truth == 1)
    (tmp_path / "classes.txt").write_text("0 other\n1 car\n2 person\n")
    words = ["iou", "--labels", tmp_path / "labels", "--classes", tmp_path / "classes.txt"]
    words += ["--masks", f"mine={tmp_path / 'answers'}", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    assert "| car | 1.0000 |" in capsys.readouterr().out
    assert "| mean | 1.0000 |" in (tmp_path / "out/iou.md").read_text()
    assert main([str(word) for word in [*words[:5], "--out", tmp_path]]) == 2
    assert "nothing to score" in capsys.readouterr().err
