# SPDX-License-Identifier: Apache-2.0
"""Adapters: kept apart in our names, merged while a checkpoint streams by, and back to PEFT.

PEFT's names and rules are in `ditfuse_jax.checkpoints.adapter`, because the library loads its files too.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ditfuse_jax.checkpoints.adapter import Adapter, read_adapter, save_adapter, to_peft
from ditfuse_jax.checkpoints.layout import EXPORTED, PEFT_CONFIG, PEFT_TENSORS
from ditfuse_jax.checkpoints.safetensors import save_tensors
from ditfuse_jax.checkpoints.target import new_folder
from ditfuse_jax.config import to_dict

from .reader import licence, sha256


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
    options = {"sources": [source], "overwrite": overwrite}
    save_adapter(target, adapter.lora, adapter.tensors, provenance=provenance, **options)
    return adapter


def export_lora(source: Path, target: Path, *, overwrite: bool = False) -> Adapter:
    """Writes PEFT's two files from an adapter folder; returns the adapter."""
    adapter = read_adapter(source)
    settings, tensors = to_peft(adapter)
    with new_folder(target, sources=[source], overwrite=overwrite) as partial:
        save_tensors(partial / PEFT_TENSORS, tensors, EXPORTED)
        (partial / PEFT_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return adapter


def describe(source: Path, adapter: Adapter) -> dict:
    """Where an adapter comes from, for provenance."""
    files = sha256(sorted(source.glob("adapter*.safetensors")))
    return {"source": str(source), "sha256": files, "licence": licence(source), "lora": to_dict(adapter.lora)}
