# SPDX-License-Identifier: Apache-2.0
"""What is written: rows as CSV, the summary as JSON, Markdown and LaTeX."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ditfuse_jax.evaluation.catalogue import BY_NAME, LEAD
from ditfuse_jax.evaluation.scoring import Row
from ditfuse_jax.evaluation.summary import Method, better, mean_rank, ranks

NOTHING = "-"  # a cell without a value


def write(file: Path, text: str) -> None:
    """UTF-8, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)


def rows_csv(rows: Sequence[Row]) -> str:
    """A row a result, a column a metric by its short name; a value that is missing is empty."""
    metrics = list(rows[0].values)
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(
        ["method", "stem", "width", "height", *metrics, "shift_right", "shift_down", "shifted", "resized"]
    )
    for row in rows:
        values = ["" if math.isnan(row.values[name]) else f"{row.values[name]:.6g}" for name in metrics]
        shift = [f"{value:.2f}" for value in row.shift[:2]]
        out.writerow([row.method, row.stem, *row.size, *values, *shift, int(row.moved), int(row.resized)])
    return text.getvalue()


def summary_json(methods: Sequence[Method], facts: Mapping[str, str]) -> str:
    """facts: what a table states, as protocol, colour rule, sizes, code version. Missing values are null."""
    metrics = list(methods[0].cells)
    entry = {
        "facts": dict(facts),
        "metrics": {
            name: {"title": title(name), "better": better(name), "unit": unit(name)} for name in metrics
        },
        "methods": {
            method.name: {
                "images": method.images,
                "shifted": method.shifted,
                "resized": method.resized,
                "flagged": method.flagged,
                "values": {name: _plain(cell._asdict()) for name, cell in method.cells.items()},
            }
            for method in methods
        },
        "ranks": {name: ranks(methods, name) for name in metrics},
        "mean_rank": mean_rank(methods),
    }
    return json.dumps(entry, indent=2, ensure_ascii=False) + "\n"


def _plain(values: dict) -> dict:
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in values.items()}


def title(name: str) -> str:
    return BY_NAME[name].title if name in BY_NAME else name.upper()


def unit(name: str) -> str:
    return BY_NAME[name].unit if name in BY_NAME else ""


def markdown(methods: Sequence[Method], facts: Mapping[str, str]) -> str:
    """One row a method, the best of each column in bold, and the facts above."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    header = [*map(_markdown_head, methods[0].cells)]
    body = _cells(methods, bold=lambda text: f"**{text}**")
    ranked = mean_rank(methods) if len(methods) > 1 else {}
    if ranked:
        header.append("mean rank")
        best = min(ranked.values())
        for method, cells in zip(methods, body, strict=True):
            value = ranked.get(method.name)
            text = NOTHING if value is None else f"{value:.2f}"
            cells.append(f"**{text}**" if value == best else text)
    names = [f"{method.name}{' (!)' if method.flagged else ''}" for method in methods]
    table = [["method", "images", *header], ["---"] * (2 + len(header))]
    table += [[name, str(m.images), *cells] for name, m, cells in zip(names, methods, body, strict=True)]
    lines += ["", *("| " + " | ".join(row) + " |" for row in table), "", *notes(methods)]
    return "\n".join(lines) + "\n"


def notes(methods: Sequence[Method]) -> list[str]:
    """What a reader has to know about the table above."""
    found = []
    if len(methods) > 1 and mean_rank(methods):
        lead = ", ".join(title(name) for name in LEAD if name in methods[0].cells)
        found.append(f"Mean rank: over {lead} alone; how far these go with a truth is in docs/evaluation.md.")
    for method in methods:
        if method.shifted or method.resized:
            mark = "(!) " if method.flagged else ""
            found.append(
                f"{mark}{method.name}: {method.shifted} of {method.images} results are shifted against their "
                f"sources, {method.resized} have another size. "
                + (
                    "Reference metrics mean little."
                    if method.flagged
                    else "So few may be the pairs' own fault."
                )
            )
        missing = [f"{title(n)} {c.missing}" for n, c in method.cells.items() if c.missing]
        if missing:
            found.append(f"{method.name}: images without a finite value: {', '.join(missing)}.")
    return found


def latex(methods: Sequence[Method], facts: Mapping[str, str]) -> str:
    """A `tabular` for the package booktabs, best in bold; the facts as comments."""
    lines = [f"% {name}: {value}" for name, value in facts.items()]
    heads = [f"{_escaped(title(name))}{_latex_arrow(name)}" for name in methods[0].cells]
    lines += [f"\\begin{{tabular}}{{l{'r' * len(heads)}}}", "\\toprule"]
    lines += [" & ".join(["Method", *heads]) + " \\\\", "\\midrule"]
    body = _cells(methods, bold=lambda text: f"\\textbf{{{text}}}")
    for method, cells in zip(methods, body, strict=True):
        lines.append(" & ".join([_escaped(method.name), *cells]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _cells(methods: Sequence[Method], *, bold: Callable[[str], str]) -> list[list[str]]:
    """Means as text, a list a method; where several methods are compared the best is marked."""
    body = [[] for _ in methods]
    for name in methods[0].cells:
        best = {n for n, rank in ranks(methods, name).items() if rank == 1} if len(methods) > 1 else set()
        for method, cells in zip(methods, body, strict=True):
            text = number(method.cells[name].mean)
            cells.append(bold(text) if method.name in best else text)
    return body


def number(value: float) -> str:
    """Four digits that count: 66.63, 0.02130, 1234, 1.72e-06."""
    if not math.isfinite(value):
        return NOTHING
    if value == 0 or abs(value) >= 1000:
        return f"{value:.0f}"
    if abs(value) < 0.001:
        return f"{value:.2e}"
    return f"{value:.{3 - math.floor(math.log10(abs(value)))}f}"


def _markdown_head(name: str) -> str:
    arrow = {"up": " ↑", "down": " ↓", "": ""}[better(name)]
    return title(name) + (f" ({unit(name)})" if unit(name) else "") + arrow


def _latex_arrow(name: str) -> str:
    return {"up": "~$\\uparrow$", "down": "~$\\downarrow$", "": ""}[better(name)]


def _escaped(text: str) -> str:
    for sign in "\\&%$#_{}":
        text = text.replace(sign, f"\\{sign}" if sign != "\\" else "\\textbackslash ")
    return text
