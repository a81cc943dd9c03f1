# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from ditfuse_jax.evaluation import verdicts
from ditfuse_jax.evaluation.verdicts import Verdict


def box(top, bottom, left, right):
    mask = np.zeros((60, 80), bool)
    mask[top:bottom, left:right] = True
    return mask


TRUTH = box(10, 50, 20, 60)  # 1600 pixels


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (TRUTH, (True, True, True)),
        (box(10, 50, 20, 70), (False, True, False)),  # a fifth of it wrong: not under 20 %
        (box(10, 50, 20, 69), (True, True, False)),  # 18.4 % wrong
        (box(10, 42, 20, 60), (True, False, False)),  # 80 % found: not over 80 %
        (box(10, 43, 20, 60), (True, True, False)),  # 82.5 % found, one side of the outline is not true
        (box(0, 5, 0, 5), (False, False, False)),
        (np.zeros((60, 80), bool), (True, False, False)),  # nothing wrong, nothing found
    ],
)
def test_the_three_questions(found, verdict):
    answered = verdicts.from_labels(found, TRUTH)
    assert answered[:2] == verdict[:2]
    if found is TRUTH or not (found & TRUTH).any():
        assert answered == verdict


def test_outline_is_right_within_a_tolerance():
    """Of a box that lacks a strip below: the lower side, 40 of 142 pixels, is off."""
    right = box(10, 40, 20, 60)
    sides = 2 * 40 + 2 * 28
    off = 40 - 2 * 2  # near its corners the true left and right sides are within a pixel
    assert verdicts.outline_accuracy(right, TRUTH) == pytest.approx(1 - off / sides, abs=0.02)
    assert verdicts.outline_accuracy(TRUTH, TRUTH) == 1


def test_the_edge_of_the_picture_is_no_outline():
    sky = box(0, 20, 0, 80)
    assert verdicts.outline(sky).sum() == 80


def test_absent_things_are_not_asked():
    with pytest.raises(ValueError, match="the thing is not in the picture"):
        verdicts.from_labels(TRUTH, np.zeros_like(TRUTH))


def test_ratios_are_shares():
    found = verdicts.ratios([Verdict(True, True, False), Verdict(True, False, False)])
    assert found == (1.0, 0.5, 0.0, 2)
    table = verdicts.markdown({"car": found}, "exact")
    assert "| car | 1.00 | 0.50 | 0.00 | 2 |" in table
    assert "- code: ditfuse-jax " in table
    with pytest.raises(ValueError, match="no verdict"):
        verdicts.ratios([])
