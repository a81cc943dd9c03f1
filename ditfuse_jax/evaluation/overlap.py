# SPDX-License-Identifier: Apache-2.0
"""Which of the pairs to be scored a checkpoint was trained on, as far as it says so."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from ditfuse_jax.config import DEMO
from ditfuse_jax.data import held_out, registry, sources
from ditfuse_jax.data.config import TRAINING
from ditfuse_jax.text import lines

SHOWN = 5  # names


def trained_on(checkpoint: Path | None, lora: Path | None) -> list[dict]:
    """Path, format and list of each source of the runs behind a checkpoint and an adapter, from what
    `convert from-train` wrote; empty where neither says.
    """
    files = [Path(checkpoint or DEMO) / "config.json", *([Path(lora) / "adapter.json"] if lora else [])]
    found = [json.loads(file.read_text("utf-8")) for file in files if file.is_file()]
    return [one for values in found for one in values.get("provenance", {}).get("trained_on", [])]


def names(listed: Iterable[dict], root: Path, dataset: str) -> set[str]:
    """Stems of the pairs of a set, by its name, in these sources, as far as `root` has them."""
    found = set()
    for one in listed:
        if one["format"] == "dataset":
            name, _, split = one["path"].partition("/")
            if name.lower() == dataset.lower() and (root / name).is_dir():
                found |= {pair.first.stem for pair in registry.get(name).pairs(root, split or "train")}
        elif one["format"] == "pairs":
            for folder in root.glob(one["path"]):
                if folder.name.lower() == dataset.lower():
                    found |= stems(folder, one["names"])
    return found


def stems(folder: Path, listed: str | None) -> set[str]:
    """Of a list of a folder, or of all its pairs; without any list those that training takes."""
    if listed is None or held_out.applies(folder, listed):
        return {item.images[0].stem for item in sources.pairs(folder, listed)}
    file = folder / listed
    return {stem for line in lines(file) for stem in line.split()} if file.is_file() else set()


def sentence(
    pairs: Sequence[str], dataset: str, folder: Path | None, listed: Sequence[dict], root: Path
) -> str:
    """A line about the pairs that were trained on.

    Args:
      pairs: stems. dataset: name of their set. folder: where they lie, None of a dataset by name.
      listed: see `trained_on`; without it the folder's own train.txt is asked. root: data root.
    """
    if listed:
        known = names(listed, root, dataset)
        return _counted([stem for stem in pairs if stem in known], pairs, "the checkpoint's lists")
    file = folder / TRAINING if folder else None
    if file is None or not file.is_file():
        return "training    the set has no train.txt, and the checkpoint does not say what it was trained on"
    trained = stems(folder, TRAINING)
    return _counted([stem for stem in pairs if stem in trained], pairs, str(file))


def _counted(both: Sequence[str], pairs: Sequence[str], where: str) -> str:
    shown = f": {', '.join(both[:SHOWN])}{' ...' if len(both) > SHOWN else ''}" if both else ""
    return f"training    {len(both)} of {len(pairs)} pairs are in {where}{shown}"
