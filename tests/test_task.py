# SPDX-License-Identifier: Apache-2.0
import pytest

from ditfuse_jax.prompt import SOURCES, TASK_TAGS
from ditfuse_jax.task import TASKS, request


@pytest.mark.parametrize("name", [name for name in TASKS if name != "seg"])
def test_a_task_alone_gives_tags_template_and_words(name):
    tags = f"{TASK_TAGS[TASKS[name].tag]}. " + (
        f"<{TASKS[name].subtask.upper()}>. " if TASKS[name].subtask else ""
    )
    text = request(task=name)
    assert text.startswith(f"{tags}{SOURCES} ")
    assert text.endswith(TASKS[name].instruction)


def test_nothing_said_means_plain_fusion():
    assert request() == request(task="fuse")


def test_segmentation_names_its_objects():
    assert request(segment=("car",)).startswith("[SEG]. This is")
    assert request(segment=("car",)).endswith("Segment the car in the image.")
    assert request(task="seg", segment=("car", "tree", "road")).endswith(
        "Segment the car, the tree and the road in the image."
    )


def test_an_object_is_named_in_the_control_instruction():
    text = request(task="light+", thing="cone")
    assert text.startswith("[CONTROL]. <LIGHT+>. ")
    assert text.endswith("Brighten the cone slightly.")


def test_tags_follow_the_task_unless_said_otherwise():
    assert request("make it warm").startswith(SOURCES)
    assert request("make it warm", tag=True).startswith("[FUSION]. This")
    assert request("make it warm", task="mff").startswith("[FUSION]. <MULTI-FOCUS>. This")
    assert request(task="mff", tag=False).startswith(SOURCES)


def test_a_prompt_with_placeholders_is_left_alone():
    text = "Fuse the <img><|image_1|></img> and <img><|image_2|></img>."
    assert request(text) == request(text, task="ivif") == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "ivf"}, "did you mean ivif"),
        ({"task": "seg"}, "what to mark; add --segment"),
        ({"task": "ivif", "segment": ("car",)}, "--segment goes with task seg"),
        ({"thing": "cone"}, "--object goes with a light or contrast task"),
        ({"task": "mff", "thing": "cone"}, "--object goes with a light or contrast task"),
        ({"task": "light+", "thing": "cone,car"}, "name exactly one"),
        ({"instruction": "  "}, "prompt is empty"),
        ({"instruction": "x", "task": "light+", "thing": "car"}, "name it in the prompt"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        request(**arguments)
