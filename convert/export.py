# SPDX-License-Identifier: Apache-2.0
"""A checkpoint folder back in the official layout, as a stream."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ditfuse_jax.checkpoints.folder import MODEL_FILE, VAE_FILE, copy_tokenizer, read_folder
from ditfuse_jax.checkpoints.layout import DIFFUSERS_STEM, EXPORTED
from ditfuse_jax.checkpoints.safetensors import Spec, open_tensors
from ditfuse_jax.checkpoints.target import new_folder
from ditfuse_jax.config import POSITION_GRID, TransformerConfig, VAEConfig

from . import engine, omnigen
from .configs import autoencoder_config, phi3_config
from .jobs import write_with_progress
from .vae import vae_rules


def export(folder: Path, target: Path, *, overwrite: bool = False) -> None:
    """Writes a checkpoint folder in the official layout: config.json, tokenizer, model.safetensors, vae/.

    The position table is written back unless the source had none: the official strict load asks for it.
    """
    config, provenance = read_folder(folder)
    if config.model.int8:
        raise ValueError(
            f"{folder} holds int8 weights, which the official layout has no place for; export "
            f"{provenance.get('quantized_from', 'the folder that it was quantized from')} instead"
        )
    model = engine.invert(open_tensors(folder / MODEL_FILE), omnigen.RULES)
    official = provenance.get("layout") == "official"
    settings = provenance["source_config"] if official else phi3_config(config.model)
    with new_folder(target, sources=[folder], overwrite=overwrite) as partial:
        copy_tokenizer(folder, partial)
        export_model(model, config.model, provenance, partial / MODEL_FILE)
        export_vae(folder, config.vae, provenance, partial / "vae")
        _write_json(partial / "config.json", settings)


def export_model(
    model: Mapping[str, np.ndarray], config: TransformerConfig, provenance: Mapping, path: Path
) -> None:
    specs = {name: Spec(array.shape, array.dtype) for name, array in model.items()}
    table = provenance.get("position_table", {"dtype": model["llm.embed_tokens.weight"].dtype.name})
    if table and "pos_embed" not in model:
        shape = (1, POSITION_GRID**2, config.width)
        specs["pos_embed"] = Spec(shape, np.dtype(table["dtype"]))

    def pieces(name: str) -> Iterator[np.ndarray]:
        if name in model:
            return array_pieces(model[name])
        return omnigen.computed_table(config.width, specs[name].dtype)

    write_with_progress(path, specs, pieces, EXPORTED)


def array_pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    return (np.ascontiguousarray(piece) for _, piece in engine.rows([array]))


def export_vae(folder: Path, config: VAEConfig, provenance: Mapping, target: Path) -> None:
    """vae/ in the names of diffusers; with the old names of attention where the source had them."""
    spelled = frozenset(provenance.get("vae_spelling", ()))
    arrays = engine.invert(open_tensors(folder / VAE_FILE), vae_rules(config), spelled)
    target.mkdir()
    specs = {name: Spec(array.shape, array.dtype) for name, array in arrays.items()}
    path = target / f"{DIFFUSERS_STEM}.safetensors"
    write_with_progress(path, specs, lambda name: array_pieces(arrays[name]), EXPORTED)
    _write_json(target / "config.json", provenance.get("vae_source_config") or autoencoder_config(config))


def _write_json(path: Path, values: Mapping) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
