# SPDX-License-Identifier: Apache-2.0
"""One run of `score` or `compare`: rows in, files and facts out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ditfuse_jax import image as images
from ditfuse_jax.evaluation import catalogue, plots, sheets, tables
from ditfuse_jax.evaluation.folders import Files
from ditfuse_jax.evaluation.metrics.colour import RULE
from ditfuse_jax.evaluation.scoring import Row, Settings, picture
from ditfuse_jax.evaluation.summary import summarise

TANG_NOTE = "as the toolbox of L. Tang, not verified against MATLAB; never compare it with `standard`"


def facts(rows: Sequence[Row], settings: Settings, *, iqa: str = "") -> dict[str, str]:
    """What every table states. iqa: of the no-reference scorers, if there are any."""
    sizes = Counter({row.stem: row.size for row in rows}.values())
    shown = ", ".join(f"{w} x {h} ({count})" for (w, h), count in sizes.most_common(4))
    more = f" and {len(sizes) - 4} others" if len(sizes) > 4 else ""
    return {
        "task": settings.task,
        "protocol": "standard" if settings.protocol == "standard" else f"tang: {TANG_NOTE}",
        "colour": f"{RULE}; CIEDE2000, colourfulness and PSNR to truth on sRGB",
        "sizes": shown + more,
        "code": catalogue.code_version(),
    } | ({"no-reference": iqa} if iqa else {})


def write(rows: Sequence[Row], settings: Settings, out: Path, *, beside: str = "", iqa: str = "") -> str:
    """per_image.csv, summary.json, summary.md, summary.tex and metrics.png below `out`; returns the Markdown.

    beside: Markdown that follows the table, as published numbers. iqa: see `facts`.
    """
    kept = common(rows)
    methods, stated = summarise(kept), facts(kept, settings, iqa=iqa)
    text = tables.markdown(methods, stated) + beside
    tables.write(out / "per_image.csv", tables.rows_csv(rows))
    tables.write(out / "summary.json", tables.summary_json(methods, stated))
    tables.write(out / "summary.md", text)
    tables.write(out / "summary.tex", tables.latex(methods, stated))
    plots.draw(kept, out / "metrics.png")
    return text


def common(rows: Sequence[Row]) -> list[Row]:
    """Rows of the stems that every method has: means over different images do not compare.

    Raises ValueError where there is no such stem.
    """
    methods = {row.method for row in rows}
    counts = Counter(row.stem for row in rows)
    kept = [row for row in rows if counts[row.stem] == len(methods)]
    if not kept:
        raise ValueError(
            "no image has a usable result of every method; see problems.txt, or score them apart"
        )
    return kept


def draw_sheet(listing: Sequence[Files], stems: Sequence[str], out: Path) -> None:
    """sheet.png: the stems with the results of all methods and their residuals."""
    scenes = []
    for stem in stems:
        files = [one for one in listing if one.stem == stem]
        first, second = images.read(files[0].first), images.read(files[0].second)
        results = {one.method: picture(one, first, second) for one in files}
        same = {name: result for name, result in results.items() if result.shape == first.shape}
        scenes.append(sheets.SheetScene(stem, first, second, same))
    out.mkdir(parents=True, exist_ok=True)
    sheets.draw(scenes).save(out / "sheet.png")


def spread(stems: Sequence[str], count: int) -> list[str]:
    """`count` of them, evenly over the list."""
    chosen = np.linspace(0, len(stems) - 1, min(count, len(stems))).round().astype(int)
    return [stems[number] for number in chosen]
