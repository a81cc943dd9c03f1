# SPDX-License-Identifier: Apache-2.0
"""OmniGen's training format: a file with one JSON object per line, each an instruction and its pictures."""

from pathlib import Path
from typing import NamedTuple

from ditfuse_jax import prompt, text

MOST_IMAGES = 2  # that the stream takes
KEYS = ("instruction", "input_images", "output_image")


class Row(NamedTuple):
    instruction: str
    images: tuple[str, ...]  # paths as they are written there
    target: str
    where: str  # FILE:LINE


def read(file: Path) -> list[Row]:
    """The rows of a file; empty lines are left out.

    Raises ValueError naming file and line for what cannot be trained on as it is written: above all a row
    whose instruction does not name each of its images, for the model would then not see them.
    """
    if not file.is_file():
        raise ValueError(f"{file} is missing; it should hold one JSON object per line")
    numbered = enumerate(text.lines(file), start=1)
    return [_row(line, f"{file}:{number}") for number, line in numbered if line.strip()]


def _row(line: str, where: str) -> Row:
    values = text.json_object(line, where)
    if missing := [key for key in KEYS if key not in values]:
        raise ValueError(f"{where}: needs {', '.join(KEYS)}; {', '.join(missing)} is missing")
    instruction, output = (_words(values[key], f"{where}: {key}") for key in ("instruction", "output_image"))
    images = _images(values["input_images"], where)
    try:
        prompt.check_placeholders(instruction, len(images))
    except ValueError as error:
        raise ValueError(f"{where}: instruction {text.quoted(instruction)}: {error}") from None
    return Row(instruction, images, output, where)


def _images(value, where: str) -> tuple[str, ...]:
    """null, as in text-to-image rows, is no images."""
    names = [] if value is None else value
    if not isinstance(names, list):
        raise ValueError(f"{where}: input_images {text.quoted(value)} is not a list of paths")
    if len(names) > MOST_IMAGES:
        raise ValueError(f"{where}: {len(names)} input images; this stream takes up to two")
    return tuple(_words(name, f"{where}: input_images") for name in names)


def _words(value, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} is {text.quoted(value)}; write a string that is not empty")
    return value
