# SPDX-License-Identifier: Apache-2.0
"""Checksums of a run's checkpoints, so that a damaged one is noticed before it is trained on.

checksums/<step>.json    {file in checkpoints/<step>: CRC-32}, written when the step is complete
"""

import json
from pathlib import Path
from zlib import crc32

CHUNK = 2**22  # bytes read at once


def write(workdir: Path, step: int) -> None:
    """Takes the checksums of a complete step, and drops those of steps that are gone."""
    folder, sums = workdir / "checkpoints", workdir / "checksums"
    sums.mkdir(exist_ok=True)
    values = {
        str(file.relative_to(folder / str(step))): of_file(file)
        for file in sorted((folder / str(step)).rglob("*"))
        if file.is_file()
    }
    partial = sums / f".{step}.partial"
    partial.write_text(json.dumps(values), encoding="utf-8")
    partial.replace(sums / f"{step}.json")
    for old in sums.glob("*.json"):
        if not (folder / old.stem).is_dir():
            old.unlink()


def damage(workdir: Path, step: int) -> str | None:
    """What is wrong with a step's files; None when nothing is, or when no checksums were taken of it."""
    sums, folder = workdir / "checksums" / f"{step}.json", workdir / "checkpoints" / str(step)
    if not sums.is_file():
        return None
    try:
        wanted = json.loads(sums.read_text(encoding="utf-8"))
    except ValueError:
        return None  # the note is damaged, not the step
    for name, value in wanted.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if of_file(folder / name) != value:
            return f"{name} has changed since it was written"
    return None


def of_file(file: Path) -> int:
    """CRC-32 of a file's bytes."""
    value = 0
    with file.open("rb") as stream:
        while data := stream.read(CHUNK):
            value = crc32(data, value)
    return value
