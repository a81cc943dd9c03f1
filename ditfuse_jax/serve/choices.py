# SPDX-License-Identifier: Apache-2.0
"""What a photographer can choose on the page, and the words of the library that it stands for."""

from typing import NamedTuple

from ditfuse_jax import places


class Kind(NamedTuple):
    task: str  # a key of task.TASKS
    example: str  # the folder of examples/


KINDS = {
    "Different focus: sharp everywhere": Kind("mff", "mff"),
    "Different exposure: light and shadow": Kind("mef", "mef"),
    "Visible and infrared": Kind("ivif", "ivif"),
    "Something else": Kind("fuse", ""),
}
AS_IT_IS = "As it is"
LIGHT = {
    "Much darker": "light--",
    "Darker": "light-",
    AS_IT_IS: None,
    "Brighter": "light+",
    "Much brighter": "light++",
}
CONTRAST = {"Softer": "contrast-", AS_IT_IS: None, "Stronger": "contrast+"}
FORMATS = {"PNG": "png", "TIFF": "tiff", "JPEG": "jpeg"}


class Choices(NamedTuple):
    """The controls as the page hands them over."""

    kind: str
    light: str
    contrast: str
    thing: str  # what light or contrast is about
    mark: str  # what to mark
    own: str  # free words


def fields_of(chosen: Choices) -> dict[str, str | None]:
    """The words of a request, see `order.words`; ValueError where they do not go together."""
    light, contrast = LIGHT[chosen.light], CONTRAST[chosen.contrast]
    thing, mark, own = ((text or "").strip() or None for text in (chosen.thing, chosen.mark, chosen.own))
    if light and contrast:
        raise ValueError("Change light or contrast, one at a time; set the other back to 'As it is'.")
    if mark and (light or contrast or own):
        raise ValueError("Marking goes alone; leave light, contrast and your own words away.")
    if own and thing:
        raise ValueError("Name the object in your own words, and leave 'Only this object' empty.")
    if thing and not (light or contrast):
        raise ValueError("'Only this object' goes with light or contrast; choose what to change about it.")
    task = "seg" if mark else light or contrast or KINDS[chosen.kind].task
    return {"task": task, "object": thing, "segment": mark, "prompt": own}


def examples() -> dict[str, tuple[str, list[str]]]:
    """Kind -> its name for a button and its two files, as far as this installation has them."""
    found = {}
    for kind, (_, folder) in KINDS.items():
        files = sorted(map(str, (places.folder("examples") / folder).glob("image?.*"))) if folder else []
        if len(files) > 1:
            found[kind] = (kind.split(":")[0], files)
    return found
