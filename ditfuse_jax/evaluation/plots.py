# SPDX-License-Identifier: Apache-2.0
"""Pictures of the numbers: how each metric spreads over the images, method beside method."""

import math
from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax.evaluation.scoring import Row
from ditfuse_jax.evaluation.summary import better
from ditfuse_jax.evaluation.tables import title, unit

ACROSS = 4  # panels in a row
PANEL = (3.2, 2.6)  # inches


def draw(rows: Sequence[Row], file: Path) -> None:
    """A panel a metric, a box a method, written as the suffix says. Needs the extra `eval`."""
    from matplotlib.figure import Figure  # no window and no state, as pyplot would have

    metrics, methods = list(rows[0].values), list(dict.fromkeys(row.method for row in rows))
    down, across = -(-len(metrics) // ACROSS), min(ACROSS, len(metrics))
    height = PANEL[1] + 0.12 * len(methods)
    figure = Figure(figsize=(PANEL[0] * across, height * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel, metric in zip(panels, metrics, strict=False):
        values = [
            [row.values[metric] for row in rows if row.method == method and math.isfinite(row.values[metric])]
            for method in methods
        ]
        panel.boxplot(values, orientation="horizontal", showmeans=True)
        panel.set_yticks(range(1, len(methods) + 1), methods)
        panel.invert_yaxis()
        panel.set_title(_head(metric), fontsize=10)
    for panel in panels[len(metrics) :]:
        panel.remove()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)


def _head(metric: str) -> str:
    more = {"up": "higher is better", "down": "lower is better", "": ""}[better(metric)]
    return ", ".join(part for part in (title(metric), unit(metric), more) if part)
