# SPDX-License-Identifier: Apache-2.0
"""The numbers that the DiTFuse paper prints, from published.toml: published, not measured here."""

import tomllib
from importlib import resources
from typing import NamedTuple

from ditfuse_jax.config import closest

WARNING = "Published, not measured here"


class Table(NamedTuple):
    name: str  # in the paper
    dataset: str
    task: str
    columns: tuple[str, ...]
    rows: dict[str, tuple]  # numbers; of Table IV pairs of numbers
    note: str


def tables() -> tuple[Table, ...]:
    text = resources.files("ditfuse_jax.evaluation").joinpath("published.toml").read_text("utf-8")
    return tuple(
        Table(
            one["name"],
            one["dataset"],
            one["task"],
            tuple(one["columns"]),
            {name: tuple(values) for name, values in one["rows"].items()},
            one["note"],
        )
        for one in tomllib.loads(text)["table"]
    )


def of_dataset(dataset: str) -> tuple[Table, ...]:
    """The tables of one dataset. Raises ValueError for one without."""
    found = tuple(one for one in tables() if one.dataset.lower() == dataset.lower())
    if not found:
        known = list(dict.fromkeys(one.dataset for one in tables()))
        near = closest(dataset, known)
        raise ValueError(f"the paper has no numbers on {dataset!r}{near}; it has on {', '.join(known)}")
    return found


def markdown(table: Table) -> str:
    """With the paper's own digits; no mark for the best, since the method is not best in all its tables."""
    lines = [f"{WARNING}: {table.name} of the DiTFuse paper, {table.dataset}. {table.note}.", ""]
    lines += ["| method | " + " | ".join(table.columns) + " |", "| --- " * (1 + len(table.columns)) + "|"]
    for name, values in table.rows.items():
        cells = [" / ".join(map(str, value)) if isinstance(value, list) else str(value) for value in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
