# SPDX-License-Identifier: Apache-2.0
"""The photographers' words as the library's."""

import pytest

from ditfuse_jax.serve import choices, order
from ditfuse_jax.serve.choices import AS_IT_IS, KINDS, Choices

PLAIN = Choices(next(iter(KINDS)), AS_IT_IS, AS_IT_IS, "", "", "")


@pytest.mark.parametrize(
    ("changes", "begins", "ends"),
    [
        ({}, "[FUSION]. <MULTI-FOCUS>", "in which it is sharp."),
        ({"kind": "Visible and infrared"}, "[FUSION]. <MULTI-MODALITIES>", "of the visible image."),
        ({"light": "Much brighter"}, "[CONTROL]. <LIGHT++>", "Brighten the image strongly."),
        (
            {"contrast": "Softer", "thing": "car "},
            "[CONTROL]. <CONTRAST->",
            "Decrease the contrast of the car.",
        ),
        ({"mark": "car, person"}, "[SEG]", "Segment the car and the person in the image."),
        ({"own": "Keep the sky dark"}, "[FUSION]. <MULTI-FOCUS>", "Keep the sky dark"),
        ({"own": None, "mark": None, "thing": None}, "[FUSION]", "sharp."),
    ],
)
def test_choices_are_a_prompt(changes, begins, ends):
    prompt = order.words(choices.fields_of(PLAIN._replace(**changes)))
    assert prompt.startswith(begins)
    assert prompt.endswith(ends)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"light": "Darker", "contrast": "Softer"}, "Change light or contrast, one at a time"),
        ({"mark": "car", "light": "Darker"}, "Marking goes alone"),
        ({"own": "x", "light": "Darker", "thing": "car"}, "Name the object in your own words"),
        ({"thing": "car"}, "'Only this object' goes with light or contrast"),
    ],
)
def test_choices_that_contradict_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        choices.fields_of(PLAIN._replace(**changes))


def test_every_kind_with_an_example_has_two_files():
    found = choices.examples()
    assert [kind for kind, each in KINDS.items() if each.example] == list(found)
    assert all(len(files) == 2 for _, files in found.values())
