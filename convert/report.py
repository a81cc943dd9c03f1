# SPDX-License-Identifier: Apache-2.0
"""What a folder is and holds, in lines for the terminal."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from ditfuse_jax.checkpoints.adapter import CONFIG_FILE as ADAPTER_CONFIG
from ditfuse_jax.checkpoints.adapter import PEFT_CONFIG, read_adapter
from ditfuse_jax.checkpoints.folder import (
    CONFIG_FILE,
    FORMAT,
    VAE_FORMAT,
    read_folder,
    read_vae_folder,
)
from ditfuse_jax.checkpoints.safetensors import Spec, read_header
from ditfuse_jax.config import to_dict
from ditfuse_jax.text import read_json


def report(folder: Path) -> list[str]:
    """Kind, config, tensors, dtypes, size and provenance; raises ValueError for a folder of no known kind."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; name a checkpoint or adapter folder")
    kind, config, provenance = describe(folder)
    lines = [f"{folder}: {kind}", *settings("config", config)]
    for path in sorted(folder.rglob("*.safetensors")):
        specs = {name: entry.spec for name, entry in read_header(path).items()}
        lines += ["", f"{path.relative_to(folder)}: {totals(specs)}"]
        lines += [
            f"  {name:<44} {spec.dtype.name:<9} {list(spec.shape)}" for name, spec in sorted(specs.items())
        ]
    return lines + ([""] + settings("provenance", provenance) if provenance else [])


def describe(folder: Path) -> tuple[str, dict, dict]:
    """(kind, config, provenance) of a folder."""
    if (folder / ADAPTER_CONFIG).is_file() or (folder / PEFT_CONFIG).is_file():
        adapter = read_adapter(folder)
        own = (folder / ADAPTER_CONFIG).is_file()
        return (
            "LoRA adapter, converted" if own else "LoRA adapter of PEFT",
            to_dict(adapter.lora),
            adapter.provenance,
        )
    if (folder / "transformer").is_dir():
        return "OmniGen in the diffusers layout", read_json(folder / "transformer" / CONFIG_FILE), {}
    values = read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}
    if values.get("format") == FORMAT:
        config, provenance = read_folder(folder)
        return "checkpoint of ditfuse-jax", to_dict(config), provenance
    if values.get("format") == VAE_FORMAT:
        config, provenance = read_vae_folder(folder)
        return "autoencoder of ditfuse-jax", to_dict(config), provenance
    if values.get("model_type") == "phi3":
        return "OmniGen in the official layout", values, {}
    if values.get("_class_name") == "AutoencoderKL":
        return "autoencoder of diffusers", values, {}
    raise ValueError(
        f"{folder} is none of the folders that this tool reads or writes; it has no {CONFIG_FILE} of one"
    )


def settings(title: str, values: Mapping) -> list[str]:
    return [f"{title}:", *(f"  {key}: {json.dumps(value)}" for key, value in values.items())]


def totals(specs: Mapping[str, Spec]) -> str:
    """Number of tensors and parameters, dtypes and bytes of a file."""
    parameters = sum(math.prod(spec.shape) for spec in specs.values())
    size = sum(spec.nbytes for spec in specs.values())
    dtypes = ", ".join(sorted({spec.dtype.name for spec in specs.values()}))
    return f"{len(specs)} tensors, {parameters:,} parameters, {dtypes}, {size / 1e6:,.1f} MB"
