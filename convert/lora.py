# SPDX-License-Identifier: Apache-2.0
"""Adapters: kept apart in our names, merged while a checkpoint streams by, and back to PEFT.

The names and rules of PEFT's files are in `ditfuse_jax.adapter`, because the library loads them too.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert.reader import licence, sha256
from ditfuse_jax.checkpoints.adapter import (
    PEFT_CONFIG,
    PEFT_TENSORS,
    Adapter,
    read_adapter,
    save_adapter,
    to_peft,
)
from ditfuse_jax.checkpoints.folder import new_folder
from ditfuse_jax.checkpoints.safetensors import save_tensors
from ditfuse_jax.config import to_dict


def check_fit(adapter: Adapter, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Raises ValueError that lists every target whose shapes are not those of the checkpoint's kernel."""
    problems = []
    for name in adapter.lora.targets:
        a, b = (adapter.tensors[f"layers.{name}.{half}"].shape for half in ("lora_a", "lora_b"))
        kernel = shapes[f"layers.{name}.kernel"]
        if (a[0], a[1], b[2]) != kernel:
            problems.append(f"layers.{name}: adapter of {a} x {b}, the checkpoint's kernel is {kernel}")
    if problems:
        raise ValueError(
            f"{folder} is an adapter for another model; use it with the checkpoint it was trained on:\n  "
            + "\n  ".join(problems)
        )


def merged(piece: np.ndarray, path: str, layer: int, block: slice, adapter: Adapter) -> np.ndarray:
    """Rows `block` of W + scale * A B (paper eq. 3) for one layer of the kernel `path`, in float32."""
    name = path.removesuffix(".kernel")
    a, b = (adapter.tensors[f"{name}.{half}"][layer].astype(np.float32) for half in ("lora_a", "lora_b"))
    return piece.astype(np.float32) + np.float32(adapter.lora.scale) * (a[block] @ b)


def merged_kernels(adapter: Adapter | None) -> set[str]:
    return {f"layers.{name}.kernel" for name in adapter.lora.targets} if adapter else set()


def convert_lora(source: Path, target: Path, *, stamp: Mapping, overwrite: bool = False) -> Adapter:
    """Writes an adapter folder of our own from PEFT's; returns the adapter."""
    adapter = read_adapter(source)
    provenance = {**stamp, **adapter.provenance, **describe(source, adapter)}
    save_adapter(target, adapter.lora, adapter.tensors, provenance=provenance, overwrite=overwrite)
    return adapter


def export_lora(source: Path, target: Path, *, overwrite: bool = False) -> Adapter:
    """Writes PEFT's two files from an adapter folder; returns the adapter."""
    adapter = read_adapter(source)
    settings, tensors = to_peft(adapter)
    with new_folder(target, overwrite=overwrite) as partial:
        save_tensors(partial / PEFT_TENSORS, tensors, {"format": "pt"})
        (partial / PEFT_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return adapter


def describe(source: Path, adapter: Adapter) -> dict:
    """Where an adapter comes from, for provenance."""
    files = sha256(sorted(source.glob("adapter*.safetensors")))
    return {"source": str(source), "sha256": files, "licence": licence(source), "lora": to_dict(adapter.lora)}
