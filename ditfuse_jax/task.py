# SPDX-License-Identifier: Apache-2.0
"""The tasks that have a name: which tags each one carries, and what it says when the user adds nothing."""

from typing import NamedTuple

from ditfuse_jax.config import closest
from ditfuse_jax.prompt import render

EXTRACT = "Extract and fuse high-quality features from both images."


class Task(NamedTuple):
    tag: str  # a key of prompt.TASK_TAGS
    subtask: str | None  # a key of prompt.SUBTASK_TAGS
    instruction: str
    object_instruction: str | None = None  # the same for one thing in the scene, {} being its name


PURPOSES = {  # for the help of the command line: what each task is for
    "ivif": "a visible and an infrared picture of one scene",
    "mff": "pictures focused at different distances: sharp everywhere",
    "mef": "pictures exposed differently: shadows and highlights",
    "fuse": "two pictures of which each shows something better; the default",
    "light++, light+": "fuse and brighten, strongly or slightly; with --object one thing",
    "light-, light--": "fuse and darken, slightly or strongly; with --object one thing",
    "contrast+, contrast-": "fuse and raise or lower the contrast; with --object of one thing",
    "seg": "fuse and mark the things named by --segment in blue",
}

TASKS = {
    "ivif": Task(
        "fusion",
        "multi-modalities",
        "Generate a fused image that preserves both the thermal information of the infrared image and the "
        "texture details of the visible image.",
    ),
    "mff": Task(
        "fusion",
        "multi-focus",
        "Generate an all-in-focus image that takes every region from the image in which it is sharp.",
    ),
    "mef": Task(
        "fusion",
        "multi-exposure",
        "Generate a well-exposed image that keeps the details of the shadows and of the highlights.",
    ),
    "fuse": Task("fusion", None, EXTRACT),
    "light++": Task(
        "control", "light++", f"{EXTRACT} Brighten the image strongly.", "Brighten the {} strongly."
    ),
    "light+": Task(
        "control", "light+", f"{EXTRACT} Brighten the image slightly.", "Brighten the {} slightly."
    ),
    "light-": Task("control", "light-", f"{EXTRACT} Darken the image slightly.", "Darken the {} slightly."),
    "light--": Task("control", "light--", f"{EXTRACT} Darken the image strongly.", "Darken the {} strongly."),
    "contrast+": Task(
        "control", "contrast+", f"{EXTRACT} Increase the contrast.", "Increase the contrast of the {}."
    ),
    "contrast-": Task(
        "control", "contrast-", f"{EXTRACT} Decrease the contrast.", "Decrease the contrast of the {}."
    ),
    "seg": Task("seg", None, "Segment the {} in the image."),
}
DEFAULT_TASK = "fuse"


def request(
    instruction: str | None = None,
    *,
    task: str | None = None,
    segment: tuple[str, ...] = (),
    thing: str | None = None,
    tag: bool | None = None,
) -> str:
    """The whole prompt, tags and template included, for what a user asked for.

    Args:
      instruction: the user's words; they replace the task's. With image placeholders: used as they are.
      task: a key of TASKS; segment implies "seg". Without instruction and task: "fuse".
      segment: what to mark. thing: the one object that a light or contrast task is about.
      tag: whether to begin with the task's tags; by default exactly if a task is named or implied.
    Raises ValueError where these contradict each other.
    """
    task = task or ("seg" if segment else None)
    _check(task, segment, thing, instruction)
    chosen = TASKS[task or DEFAULT_TASK]
    named = instruction is None or task is not None
    words = _words(chosen, segment, thing) if instruction is None else instruction
    if named if tag is None else tag:
        return render(words, task=chosen.tag, subtask=chosen.subtask)
    return render(words)


def only_chooses(prompt: str) -> bool:
    """Whether a prompt is a ready-made one for fusion, so that sources that agree are the result."""
    fusions = [name for name, task in TASKS.items() if task.tag == "fusion"]
    return prompt in {request(task=name, tag=tag) for name in fusions for tag in (True, False)}


def _words(task: Task, segment: tuple[str, ...], thing: str | None) -> str:
    if thing is not None:
        return f"{EXTRACT} {task.object_instruction.format(thing)}"
    return task.instruction.format(_enumerate(segment))


def _enumerate(names: tuple[str, ...]) -> str:
    """`car`, `car and the building`, `car, the tree and the building`."""
    return ", the ".join(names[:-1]) + (" and the " if len(names) > 1 else "") + "".join(names[-1:])


def _check(task: str | None, segment: tuple[str, ...], thing: str | None, instruction: str | None) -> None:
    if task is not None and task not in TASKS:
        raise ValueError(f"task {task!r} is not one of {', '.join(TASKS)}{closest(task, TASKS)}")
    if instruction is not None and not instruction.strip():
        raise ValueError("the prompt is empty; say what to do with the images, or name a task")
    if segment and task != "seg":
        raise ValueError(f"--segment goes with task seg, not {task}; leave one of the two away")
    if task == "seg" and not segment and instruction is None:
        raise ValueError("task seg needs to know what to mark; add --segment car,building or a prompt")
    if segment and instruction is not None:
        raise ValueError(
            "--segment is for the ready-made wording; name what to mark in the prompt, with --task seg"
        )
    if thing is None:
        return
    if instruction is not None or segment:
        raise ValueError(
            "--object is for the ready-made light and contrast wordings; name it in the prompt instead"
        )
    if task is None or TASKS[task].object_instruction is None:
        raise ValueError(
            f"--object goes with a light or contrast task, not {task}; add --task light+, for example"
        )
    if "," in thing or not thing.strip():
        raise ValueError(
            f"--object {thing!r}: light and contrast are changed for one object; name exactly one"
        )
