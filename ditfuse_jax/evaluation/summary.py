# SPDX-License-Identifier: Apache-2.0
"""Rows in one table: mean and spread of each metric per method, ranks, who is flagged."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ditfuse_jax.evaluation.catalogue import BY_NAME, LEAD
from ditfuse_jax.evaluation.scoring import Row

FLAGGED_SHARE = 0.5  # of a method's images that are shifted or resized


class Cell(NamedTuple):
    """Over a method's images; infinite and missing values are left out and counted."""

    mean: float
    deviation: float
    median: float
    count: int
    missing: int


class Method(NamedTuple):
    name: str
    images: int
    cells: dict[str, Cell]
    shifted: int
    resized: int

    @property
    def flagged(self) -> bool:
        return max(self.shifted, self.resized) > FLAGGED_SHARE * self.images


def summarise(rows: Sequence[Row]) -> list[Method]:
    """One entry per method, in the order of the rows."""
    names = list(dict.fromkeys(row.method for row in rows))
    return [_method(name, [row for row in rows if row.method == name]) for name in names]


def _method(name: str, rows: Sequence[Row]) -> Method:
    cells = {metric: _cell([row.values[metric] for row in rows]) for metric in rows[0].values}
    return Method(name, len(rows), cells, sum(r.moved for r in rows), sum(r.resized for r in rows))


def _cell(values: Sequence[float]) -> Cell:
    kept = np.array([value for value in values if math.isfinite(value)])
    if not kept.size:
        return Cell(math.nan, math.nan, math.nan, 0, len(values))
    return Cell(
        float(kept.mean()), float(kept.std()), float(np.median(kept)), len(kept), len(values) - len(kept)
    )


def better(name: str) -> str:
    """The direction of a metric, or of a no-reference scorer, whose scores all go up."""
    return BY_NAME[name].better if name in BY_NAME else "up"


def ranks(methods: Sequence[Method], metric: str) -> dict[str, int]:
    """1 for the best mean; equal means share a rank; without a value or a direction there is none."""
    means = {method.name: method.cells[metric].mean for method in methods}
    sign = {"up": 1, "down": -1, "": 0}[better(metric)]
    if not sign:
        return {}
    kept = {name: sign * mean for name, mean in means.items() if math.isfinite(mean)}
    return {name: 1 + sum(other > value for other in kept.values()) for name, value in kept.items()}


def mean_rank(methods: Sequence[Method]) -> dict[str, float]:
    """Mean rank over the metrics of LEAD that were computed; empty without them."""
    chosen = [metric for metric in LEAD if methods and metric in methods[0].cells]
    found = [ranks(methods, metric) for metric in chosen]
    names = [method.name for method in methods if found and all(method.name in one for one in found)]
    return {name: sum(one[name] for one in found) / len(found) for name in names}
