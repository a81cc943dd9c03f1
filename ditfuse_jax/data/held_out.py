# SPDX-License-Identifier: Apache-2.0
"""Which files are for training and which for validation where a folder has no lists: by their names alone."""

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from ditfuse_jax.data.config import TRAINING, VALIDATION

SHARE = 0.1  # held out; one at least, where there are two files or more
LISTS = (TRAINING, VALIDATION)


def applies(folder: Path, names: str) -> bool:
    """Whether `names` is asked of a folder that has neither of LISTS."""
    return names in LISTS and not any((folder / each).is_file() for each in LISTS)


def part(stems: Sequence[str], names: str) -> list[str]:
    """The stems that a list `names` (one of LISTS) would hold, in the order given.

    Held out are those whose names have the least CRC-32: the same on every machine and in every order, and a
    file that is added moves one other at most.
    """
    count = min(max(1, round(SHARE * len(stems))), len(stems) - 1)
    held_out = set(sorted(stems, key=lambda stem: (crc32(stem.encode()), stem))[:count])
    return [stem for stem in stems if (stem in held_out) == (names == VALIDATION)]
