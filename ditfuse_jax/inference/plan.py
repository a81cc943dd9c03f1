# SPDX-License-Identifier: Apache-2.0
"""What a fusion will cost, known before it starts: sizes, tokens, parameters and memory."""

from typing import NamedTuple

from ditfuse_jax.config import CheckpointConfig, TransformerConfig, VAEConfig
from ditfuse_jax.image import Geometry
from ditfuse_jax.inference.sampler import Layout
from ditfuse_jax.models.padded_vae import bucket
from ditfuse_jax.models.vae import QUERY_CHUNK

ITEM_SIZE = {"float32": 4, "bfloat16": 2}
RUNTIME_BYTES = 440_000_000  # Python, JAX, the tokenizer, compiling and its programs (measured, tiny model)


class Plan(NamedTuple):
    geometry: Geometry
    trained: bool  # the padded size is one of the few that the checkpoint was trained at
    steps: int
    noises: int
    tokens: dict[
        str, tuple[int, int]
    ]  # branch -> (prefix tokens, new tokens in each step), padding not counted
    num_params: int  # of both networks
    memory: int  # bytes at the peak, roughly


def plan(
    config: CheckpointConfig,
    rows: Layout,
    names: tuple[str, ...],
    *,
    geometry: Geometry,
    calls: tuple[int, int],
    sizes: tuple[int, int],
    max_scores: int,
) -> Plan:
    """Args:
    rows: of one image, a row per branch in `names`.
    calls: steps, noises. sizes: (number, bytes) of all parameters.
    max_scores: attention scores in memory at once, see `Tuning`.
    """
    prefix = rows.prompt.token_ids.shape[1] - rows.prompt.num_padding
    tokens = {name: (int(prefix[i]), 1 + int(rows.num_target[i])) for i, name in enumerate(names)}
    shape = (*rows.prompt.token_ids.shape, 1 + rows.place.shape[1])
    tokens_need = token_bytes(config.model, *shape) + score_bytes(config.model, *shape, max_scores)
    working = max(tokens_need, pixel_bytes(config.vae, *geometry.padded))
    trained = bool(config.shapes.exact)
    return Plan(geometry, trained, *calls, tokens, sizes[0], RUNTIME_BYTES + sizes[1] + working)


def token_bytes(cfg: TransformerConfig, num_rows: int, num_prefix: int, num_new: int) -> int:
    """Prefix cache and the activations of one layer, of the prefix pass or of a step."""
    cache = (
        2 * cfg.num_layers * num_rows * num_prefix * cfg.num_kv_heads * cfg.head_dim * ITEM_SIZE[cfg.dtype]
    )
    longest = max(num_prefix, num_new)
    return cache + 4 * num_rows * longest * (4 * cfg.width + 3 * cfg.mlp_width)


def score_bytes(cfg: TransformerConfig, num_rows: int, num_prefix: int, num_new: int, max_scores: int) -> int:
    """Attention scores and weights at once."""
    longest = max(num_prefix, num_new)
    return 2 * 4 * min(max_scores, num_rows * cfg.num_heads * longest * (num_prefix + num_new))


def pixel_bytes(cfg: VAEConfig, height: int, width: int) -> int:
    """Full-resolution maps of the VAE while both sources are encoded; float32, about four alive at once."""
    cells = bucket(height // cfg.factor) * bucket(width // cfg.factor)
    maps = 4 * 2 * cells * cfg.factor**2 * cfg.block_out_channels[0] * 4
    middle = 2 * 4 * min(cells, QUERY_CHUNK) * cells
    return maps + 2 * middle


def describe(plan: Plan) -> str:
    """The lines that infer.py prints before it runs."""
    native, fused, padded = (f"{width} x {height}" for height, width in plan.geometry)
    size = native if fused == native else f"{native}, fused at {fused}"
    size += "" if padded == fused else f", padded to {padded}"
    size += ", a shape this checkpoint was trained at" if plan.trained else ""
    size += "" if fused == native else ", and brought back"
    steps = f"{plan.steps}" + (f" from each of {plan.noises} noises, averaged" if plan.noises > 1 else "")
    tokens = ", ".join(f"{name} {prefix} + {new}" for name, (prefix, new) in plan.tokens.items())
    return (
        f"size        {size}\n"
        f"tokens      {tokens} per step\n"
        f"parameters  {plan.num_params / 1e6:,.1f} M\n"
        f"memory      about {plan.memory / 1e9:.1f} GB\n"
        f"steps       {steps}"
    )
