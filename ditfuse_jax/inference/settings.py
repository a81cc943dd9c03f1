# SPDX-License-Identifier: Apache-2.0
"""Sampling settings as a caller gives them: the fields of `SamplingConfig`, as flags, keywords and text."""

import argparse
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ditfuse_jax.bounds import check_seed
from ditfuse_jax.config import CheckpointConfig, SamplingConfig, closest, from_dict, to_dict
from ditfuse_jax.text import quoted

OPTIONS = tuple(field for field in dataclasses.fields(SamplingConfig) if "help" in field.metadata)
NAMES = tuple(field.name for field in OPTIONS)
MOST_AT_ONCE = 256  # pictures on the batch axis


def whole(text: str) -> int:
    """The type of a flag that takes a whole number, with an error that stays short."""
    return _number(text, int, "a whole number")


def number(text: str) -> float:
    return _number(text, float, "a number")


def seed(text: str) -> int:
    try:
        check_seed(value := whole(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return value


class Shard(NamedTuple):
    """A part of a list that several machines share: every `count`-th item, from number `index` (1 ..) on."""

    index: int
    count: int

    def of(self, items: Sequence) -> list:
        """The items of this part; the parts of equal lists are disjoint and together the list."""
        return list(items[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def shard(text: str) -> Shard:
    """The type of --shard: `2/4` is the second of four parts."""
    index, sign, count = text.partition("/")
    digits = index.isdecimal() and count.isdecimal() and len(text) < 20
    if not (sign and digits and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is no part of a whole; write I/N with I from 1 to N, such as 1/2 and 2/2"
        )
    return Shard(int(index), int(count))


def batch(text: str) -> int | None:
    """The type of --batch: how many, or None for auto."""
    if text == "auto":
        return None
    if not (text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MOST_AT_ONCE):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is neither auto nor from 1 to {MOST_AT_ONCE}")
    return int(text)


def _number(text: str, kind: type, noun: str):
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not {noun}") from None


KINDS = {int: whole, float: number, str: str}


def add_flags(parser) -> None:
    """One flag per option, `--max-side` for max_side; without a default, so that the checkpoint's holds.

    parser: an argparse parser, or a group of one.
    """
    kinds = typing.get_type_hints(SamplingConfig)
    for option in OPTIONS:
        flag = "--" + option.name.replace("_", "-")
        parser.add_argument(flag, type=KINDS[kinds[option.name]], **option.metadata)


def add_dtype(parser) -> None:
    """The flag --dtype, see `DiTFuse.load`."""
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        help="of the network's numbers; auto: the faster one here, by measurement; default: the checkpoint's",
    )


def add_batch(parser) -> None:
    """The flag --batch, see `together.batches`."""
    parser.add_argument(
        "--batch",
        type=batch,
        metavar="N|auto",
        help="pictures of a folder through the network together, at most; default: auto, 1 on a CPU, else up "
        "to 8 as memory allows",
    )


def given(flags: argparse.Namespace) -> dict:
    """The options that were named on the command line."""
    return {name: value for name in NAMES if (value := getattr(flags, name)) is not None}


def choose(config: CheckpointConfig, options: Mapping) -> SamplingConfig:
    """The caller's options over the checkpoint's; None stands for the checkpoint's.

    Raises ValueError for an unknown option, a wrong type, and a value that the checkpoint cannot do.
    """
    for name in options:
        if name not in NAMES:
            raise ValueError(f"unknown option {name!r}{closest(name, NAMES)}; one of {', '.join(NAMES)}")
    named = {name: value for name, value in options.items() if value is not None}
    chosen = from_dict(SamplingConfig, to_dict(config.sampling) | named, where="options")
    config.check_side(chosen.max_side)
    return chosen


def values(settings: SamplingConfig) -> dict:
    """Every option with its value: keywords for `DiTFuse.fuse`."""
    return {name: getattr(settings, name) for name in NAMES}


def as_text(settings: SamplingConfig) -> dict[str, str]:
    """The same as text, for the metadata of a result."""
    return {name: str(value) for name, value in values(settings).items()}
