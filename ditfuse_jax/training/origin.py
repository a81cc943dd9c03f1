# SPDX-License-Identifier: Apache-2.0
"""What a run began with, as fingerprints in its checkpoints: frozen weights, tokenizer and data."""

import math
from pathlib import Path
from zlib import crc32

import jax

from ditfuse_jax.data.mixture import Mixture
from ditfuse_jax.data.sources import Listing
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.step import sizes
from ditfuse_jax.training.trainable import Frozen

SAME = 1e-3  # relative; means of one array on two meshes differ in the order of their sums
SAMPLED = 16  # files of a source whose contents are read
CHANGES = {  # part of a source's fingerprint -> what its change means
    "items": "the number of items is another",
    "names": "files or instructions have other names or another order",
    "bytes": "files have other sizes",
    "sample": "files have other contents",
}


def fingerprints(frozen: Frozen, tokenizer, mixture: Mixture) -> dict:
    """JSON values that `check_origin` compares when a run is resumed."""
    means = {name: float(size) for name, size in jax.device_get(sizes(frozen)).items()}
    listings = zip(mixture.config.sources, mixture.listings, strict=True)
    return {
        "frozen": means,
        "tokenizer": crc32(tokenizer.backend_tokenizer.to_str().encode()),
        "data": {source.name: of_listing(listing) for source, listing in listings},
    }


def of_listing(listing: Listing) -> dict[str, int]:
    """Count, names, sizes and the contents of a few files of a source; folders above them may move."""
    files = [file for item in listing.items for file in (*item.images, item.target, item.labels) if file]
    names = [f"{file.parent.name}/{file.name}" for file in files]
    words = [item.instruction or "" for item in listing.items]
    step = -(-len(files) // SAMPLED)
    return {
        "items": len(listing.items),
        "names": crc32("\n".join([*names, *words]).encode()),
        "bytes": crc32(repr([_size(file) for file in files]).encode()),
        "sample": crc32(repr([_content(file) for file in files[::step]]).encode()),
    }


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else -1


def _content(file: Path) -> int:
    return crc32(file.read_bytes()) if file.is_file() else -1


def check_origin(saved: dict, found: dict, config: TrainConfig, *, accept_changed_data: bool) -> None:
    """ValueError when frozen weights, tokenizer or data are not those that the run began with.

    Args:
      saved, found: of `fingerprints`; what an older run did not note is not compared.
      accept_changed_data: go on with other data.
    """
    check_frozen(saved.get("frozen", {}), found["frozen"], config)
    if saved.get("tokenizer", found["tokenizer"]) != found["tokenizer"]:
        raise ValueError(
            f"the tokenizer {config.tokenizer or '(of init, or the demo)'} is not the one that this run "
            "began with; name that one, or choose another --workdir"
        )
    changes = data_changes(saved.get("data", {}), found["data"])
    if changes and not accept_changed_data:
        raise ValueError(
            "the data are not those that this run began with; put them back, choose another --workdir, or go "
            "on with --accept-changed-data:" + "".join(f"\n  {line}" for line in changes)
        )


def check_frozen(saved: dict, found: dict, config: TrainConfig) -> None:
    """ValueError when the frozen weights are not those that the run began with."""
    other = [name for name in saved if not math.isclose(saved[name], found.get(name, 0.0), rel_tol=SAME)]
    if other:
        raise ValueError(
            f"the frozen weights of init {config.init or '(none)'}, init_vae {config.init_vae or '(none)'} "
            f"are not those that this run began with: {other[0]} and {len(other) - 1} more differ; name the "
            "folders it began with, or choose another --workdir"
        )


def data_changes(saved: dict, found: dict) -> list[str]:
    """One line for each source that is not what it was."""
    lines = []
    for name, before in saved.items():
        now = found.get(name, {})
        part = next((part for part in CHANGES if before[part] != now.get(part)), None)
        if part == "items":
            lines.append(f"source {name}: {before['items']} items then, {now.get('items', 0)} now")
        elif part:
            lines.append(f"source {name}: {CHANGES[part]}")
    return lines
