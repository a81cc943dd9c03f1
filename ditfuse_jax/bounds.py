# SPDX-License-Identifier: Apache-2.0
"""The one check of numbers in settings, wherever they come from: type, lowest and highest value."""

import dataclasses
import numbers
import typing

from ditfuse_jax.text import quoted

SEED = (0, 2**64 - 1)  # of the noise of a fusion
MOST_ITEMS = 100_000  # of a list of settings


def check(config, **bounds: tuple[float, float]) -> None:
    """ValueError for the first named field whose number, or one of whose numbers, is not in low to high.

    config: a dataclass; fields annotated int, or tuple of int, hold whole numbers.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(config)}
    for name, (low, high) in bounds.items():
        value, kind = getattr(config, name), kinds[name]
        for each in value if isinstance(value, tuple) else (value,):
            check_number(name, each, low, high, whole=kind is int or int in typing.get_args(kind))


def check_number(name: str, value, low: float, high: float, *, whole: bool) -> None:
    """ValueError unless `value` is a number from low to high, both included."""
    kind = numbers.Integral if whole else numbers.Real
    if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
        noun = "a whole number" if whole else "a number"
        raise ValueError(f"{name} {quoted(value)} is not {noun} from {_digits(low)} to {_digits(high)}")


def _digits(limit: float) -> str:
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"


def check_seed(seed: int) -> None:
    """ValueError for what is not a whole number of 64 bits."""
    check_number("seed", seed, *SEED, whole=True)
