# SPDX-License-Identifier: Apache-2.0
"""Reference cases as the model's own inputs: weights through the real rule table, arrays as prompts and
patches.
"""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load_file

from conftest import golden
from convert.configs import official_config
from convert.engine import Rule, layer, linear, plan
from convert.omnigen import RULES
from ditfuse_jax.config import TransformerConfig
from ditfuse_jax.models import outline
from ditfuse_jax.models.omnigen import Patches, Transformer, patchify, unpatchify
from ditfuse_jax.prompt import Prompt

PEFT_NAMES = {
    "attn.qkv": "self_attn.qkv_proj",
    "attn.out": "self_attn.o_proj",
    "mlp.gate_up": "mlp.gate_up_proj",
    "mlp.down": "mlp.down_proj",
}


def config_of(checkpoint: str, **changes) -> TransformerConfig:
    path = golden(checkpoint) / "config.json"
    return dataclasses.replace(official_config(json.loads(path.read_text()), path, "float32"), **changes)


def abstract(cfg: TransformerConfig):
    """Graph and flat {path: ShapeDtypeStruct} of a model, without memory."""
    graph, state = nnx.split(outline.transformer(cfg))
    return graph, {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}


def translate(source: dict, rules, shapes: dict) -> dict:
    """Source tensors as arrays of the model's names and shapes, in memory (the real conversion streams)."""
    result = {}
    for path, layers in plan(source, rules, shapes).items():
        joined = [np.concatenate(layer(source, parts), axis=-1) for parts in layers]
        result[path] = joined[0] if joined[0].shape == shapes[path] else np.stack(joined)
    return result


def params_of(checkpoint: str) -> dict:
    source = load_file(golden(checkpoint) / "model.safetensors")
    _, shapes = abstract(config_of(checkpoint))
    return translate(source, RULES, {path: leaf.shape for path, leaf in shapes.items()})


def build(cfg: TransformerConfig, params: dict) -> Transformer:
    graph, shapes = abstract(cfg)
    assert shapes.keys() == params.keys()
    flat = {tuple(path.split(".")): leaf.replace(jnp.asarray(params[path])) for path, leaf in shapes.items()}
    return nnx.merge(graph, nnx.from_flat_state(flat))


def model_of(checkpoint: str, **changes) -> Transformer:
    return build(config_of(checkpoint, **changes), params_of(checkpoint))


def adapter_of(name: str, num_layers: int) -> dict:
    """The arrays of a PEFT adapter under our names."""
    source = load_file(golden(f"dit_tiny/{name}") / "adapter_model.safetensors")
    rules, shapes = [], {}
    for ours, theirs in PEFT_NAMES.items():
        for side, part in (("A", "lora_a"), ("B", "lora_b")):
            key = f"base_model.model.llm.layers.{{}}.{theirs}.lora_{side}.weight"
            if key.format(0) in source:
                path = f"layers.{ours}.{part}"
                rules.append(Rule(key.replace(".", r"\.").format(r"(\d+)"), path, linear))
                shapes[path] = (num_layers, *source[key.format(0)].shape[::-1])
    return translate(source, tuple(rules), shapes)


def nhwc(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1)


def prompt_of(z, prefix: str = "") -> Prompt:
    """The prompt of a case, from its ids, positions and image spans alone."""
    ids = z[prefix + "input_ids"].astype(np.int32)
    rows, length = ids.shape
    positions = z[prefix + "position_ids"][:, :length].astype(np.int32)
    padding = np.array([np.flatnonzero(row == 0)[-1] for row in positions], np.int32)
    visible = np.tile(np.arange(1, length + 1, dtype=np.int32), (rows, 1))
    slots = [[] for _ in range(rows)]
    for row, start, stop in z[prefix + "image_spans"]:
        slots[row].append((start, stop))
        visible[row, start:stop] = stop
    visible = np.where(np.arange(length) < padding[:, None], padding[:, None] + 1, visible)
    count = max(1, *map(len, slots)) if rows > 1 else max(1, len(slots[0]))
    filled = [row + [(0, 0)] * (count - len(row)) for row in slots]
    return Prompt(ids, positions, visible.astype(np.int32), padding, np.array(filled, np.int32))


def sources_of(z, prefix: str = "") -> Patches:
    """The source patches of each row, one image after the other, right padded."""
    rows = [[] for _ in range(len(z[prefix + "input_ids"]))]
    for index, (row, _, _) in enumerate(z[prefix + "image_spans"]):
        rows[row].append(patchify(jnp.asarray(nhwc(z[f"{prefix}img{index}"]))))
    return padded_patches(rows)


def padded_patches(rows: list[list[Patches]]) -> Patches:
    length = max(1, *(sum(p.values.shape[1] for p in row) for row in [*rows, []]))
    values, places = [], []
    for row in rows:
        value = np.concatenate([np.zeros((0, 16), np.float32), *(p.values[0] for p in row)])
        place = np.concatenate([np.zeros((0, 2), np.int32), *(p.place[0] for p in row)])
        values.append(np.pad(value, ((0, length - len(value)), (0, 0))))
        places.append(np.pad(place, ((0, length - len(place)), (0, 0))))
    return Patches(jnp.asarray(np.stack(values)), jnp.asarray(np.stack(places)))


def targets_of(images: list[np.ndarray]) -> tuple[Patches, np.ndarray]:
    """Targets [1, C, h, w] of several sizes as one padded batch, and the number of real patches of each."""
    rows = [[patchify(jnp.asarray(nhwc(image)))] for image in images]
    return padded_patches(rows), np.array([row[0].values.shape[1] for row in rows], np.int32)


def padded_length(prompt: Prompt, target: Patches) -> np.ndarray:
    """The length by which the official code picks the RoPE table of a collated batch: the padded one, for
    every row.
    """
    rows, length = prompt.token_ids.shape
    return np.full(rows, length + 1 + target.values.shape[1], np.int32)


def velocity(model: Transformer, z, prefix: str, x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The full pass on a case with targets x [B, C, h, w] of one size; NCHW as in the reference."""
    prompt, (target, num_target) = prompt_of(z, prefix), targets_of(list(x[:, None]))
    values = model(
        prompt,
        sources_of(z, prefix),
        target,
        jnp.asarray(t),
        num_target=num_target,
        rope_length=padded_length(prompt, target),
    )
    return np.moveaxis(np.asarray(unpatchify(values, *x.shape[2:])), -1, 1)
