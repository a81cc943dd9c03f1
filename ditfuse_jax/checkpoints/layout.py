# SPDX-License-Identifier: Apache-2.0
"""The files of the folders that this library writes, and the marks by which it knows them again."""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

FORMAT, VAE_FORMAT, VERSION = "ditfuse-jax", "ditfuse-jax-vae", 1
MODEL_FILE, VAE_FILE, CONFIG_FILE = "model.safetensors", "vae.safetensors", "config.json"
ADAPTER_FORMAT, ADAPTER_VERSION = "ditfuse-jax-adapter", 1
ADAPTER_CONFIG, ADAPTER_FILE = "adapter.json", "adapter.safetensors"
PEFT_CONFIG, PEFT_TENSORS = "adapter_config.json", "adapter_model.safetensors"
DIFFUSERS_STEM = "diffusion_pytorch_model"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "chat_template.jinja",
)
# The header of tensors in a published layout, whose config.json is not ours to mark.
EXPORTED = {"format": "pt", "writer": FORMAT}


class Kind(NamedTuple):
    """One kind of folder; its mark is `mark` in the file `marked`."""

    marked: str
    mark: str
    files: frozenset[str]  # all that it may hold; a folder ends in /


OWN = (
    Kind(CONFIG_FILE, FORMAT, frozenset({CONFIG_FILE, MODEL_FILE, VAE_FILE, *TOKENIZER_FILES})),
    Kind(CONFIG_FILE, VAE_FORMAT, frozenset({CONFIG_FILE, VAE_FILE})),
    Kind(ADAPTER_CONFIG, ADAPTER_FORMAT, frozenset({ADAPTER_CONFIG, ADAPTER_FILE})),
)
PUBLISHED = (
    Kind(
        MODEL_FILE,
        FORMAT,
        frozenset(
            {CONFIG_FILE, MODEL_FILE, *TOKENIZER_FILES}
            | {"vae/", f"vae/{CONFIG_FILE}", f"vae/{DIFFUSERS_STEM}.safetensors"}
        ),
    ),
    Kind(PEFT_TENSORS, FORMAT, frozenset({PEFT_CONFIG, PEFT_TENSORS})),
)


def kind_of(folder: Path) -> Kind | None:
    """The kind of a folder that this library wrote; None for every other folder.

    Our own kinds are known by the `format` of their JSON file, published layouts by the header of their
    tensors. A `config.json` alone says nothing: half of all folders of weights have one.
    """
    for kind in OWN:
        if _json_format(folder / kind.marked) == kind.mark:
            return kind
    for kind in PUBLISHED:
        if _writer(folder / kind.marked) == kind.mark:
            return kind
    return None


def foreign_entries(folder: Path, kind: Kind) -> list[str]:
    """What a folder holds beside the files of its kind; links and unexpected folders count."""
    entries = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            entries.append(f"{name} (a link)")
        else:
            entries.append(f"{name}/" if path.is_dir() else name)
    return sorted(set(entries) - kind.files)


def _json_format(path: Path) -> str | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values.get("format") if isinstance(values, dict) else None


def _writer(path: Path) -> str | None:
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("writer")
    except (OSError, SafetensorError):
        return None
