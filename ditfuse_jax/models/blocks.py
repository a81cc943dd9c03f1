# SPDX-License-Identifier: Apache-2.0
"""The Phi-3 block stack: RMSNorm, fused qkv with grouped KV heads, LongRoPE, SwiGLU; stacked and scanned
over layers.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ditfuse_jax.config import TransformerConfig
from ditfuse_jax.models.lora import block_linear
from ditfuse_jax.ops.attention import MAX_SCORES, MAX_SCORES_CPU, attention
from ditfuse_jax.ops.products import one_cpu, scaled

# On CPU copying what the backward pass needs in and out of a scan's stack took a sixth of a small step.
MAX_UNROLLED_CPU = 12  # layers; more would take long to compile


class KV(NamedTuple):
    """Rotated keys and values; with a leading layer axis where they are a prefix cache."""

    k: jax.Array  # [B, S, M, K] with M KV heads
    v: jax.Array  # [B, S, M, K]


class Rope(NamedTuple):
    cos: jax.Array  # float32 [B, T, K / 2]
    sin: jax.Array  # float32 [B, T, K / 2]


def rope_table(cfg: TransformerConfig) -> tuple[np.ndarray, float]:
    """LongRoPE's inverse frequencies, float32 [2, K / 2] (short, long), and the factor on cos and sin.

    Source: transformers 4.45.2 Phi3LongRoPEScaledRotaryEmbedding. Without factors: plain RoPE, twice.
    """
    exponent = np.arange(0, cfg.head_dim, 2, dtype=np.float32) / np.float32(cfg.head_dim)
    base = np.float32(cfg.rope_theta) ** exponent
    if not cfg.short_factor:
        return np.stack([1 / base, 1 / base]).astype(np.float32), 1.0
    factors = np.array([cfg.short_factor, cfg.long_factor], np.float32)
    ratio = cfg.max_length / cfg.original_length
    scale = 1.0 if ratio <= 1 else math.sqrt(1 + math.log(ratio) / math.log(cfg.original_length))
    return (1 / (factors * base)).astype(np.float32), scale


def rope(cfg: TransformerConfig, positions: jax.Array, rope_length: jax.Array) -> Rope:
    """Angles of positions int32 [B, T]; rows whose rope_length int32 [B] exceeds the original length use the
    long table.
    """
    table, scale = rope_table(cfg)
    inverse = jnp.asarray(table)[(rope_length > cfg.original_length).astype(jnp.int32)]  # [B, K / 2]
    angle = positions.astype(jnp.float32)[:, :, None] * inverse[:, None, :]
    return Rope(jnp.cos(angle) * scale, jnp.sin(angle) * scale)


def rotate(x: jax.Array, rope: Rope) -> jax.Array:
    """Rotates the two halves of x float32 [B, T, N, K] against each other."""
    cos, sin = rope.cos[:, :, None, :], rope.sin[:, :, None, :]
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class RMSNorm(nnx.Module):
    def __init__(self, width: int, eps: float, *, param_dtype):
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((width,), param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return scaled(x * jax.lax.rsqrt(variance + self.eps), self.scale[...].astype(jnp.float32))


def _elementwise_again(function):
    """`function` whose backward pass makes again what is cheap, and keeps the results of products alone."""
    return jax.checkpoint(function, policy=jax.checkpoint_policies.dots_saveable)


class Attention(nnx.Module):
    """Self-attention of new tokens over a cached prefix, if there is one, and themselves."""

    def __init__(self, cfg: TransformerConfig, *, param_dtype, rngs: nnx.Rngs):
        self.num_heads, self.num_kv_heads, self.dtype = cfg.num_heads, cfg.num_kv_heads, cfg.dtype
        self.head_dim = cfg.head_dim
        out = (cfg.num_heads + 2 * cfg.num_kv_heads) * cfg.head_dim
        self.qkv = block_linear(cfg, "attn.qkv", cfg.width, out, param_dtype=param_dtype, rngs=rngs)
        self.out = block_linear(
            cfg,
            "attn.out",
            cfg.width,
            cfg.width,
            init=_residual_init(cfg),
            param_dtype=param_dtype,
            rngs=rngs,
        )

    def project(self, x: jax.Array, norm: RMSNorm, rope: Rope) -> tuple[jax.Array, KV]:
        """Rotated queries [B, T, N, K] and the keys and values of x [B, T, D], in the compute dtype."""
        qkv = _elementwise_again(lambda x: self.qkv(norm(x)))(x)
        qkv = qkv.reshape(*x.shape[:2], -1, self.head_dim)  # [B, T, N + 2 M, K]
        q, k, v = jnp.split(qkv, [self.num_heads, self.num_heads + self.num_kv_heads], axis=2)
        q, k, v = (part.astype(self.dtype) for part in (rotate(q, rope), rotate(k, rope), v))
        return q, KV(k, v)

    def __call__(
        self,
        x: jax.Array,
        norm: RMSNorm,
        rope: Rope,
        mask: jax.Array,
        prefix: KV | None,
        *,
        max_scores: int = MAX_SCORES,
        split: int = 0,
        first: int = 0,
    ) -> tuple[jax.Array, KV]:
        """Args: x [B, T, D]; mask bool [B, T, S + T]; prefix each [B, S, M, K]; split: as in `run_blocks`.
        Returns [B, T - first, D], of the tokens from `first` on, and the new KV of all.
        """
        q, new = self.project(x, norm, rope)
        k, v = (
            new
            if prefix is None
            else (jnp.concatenate(pair, axis=1) for pair in zip(prefix, new, strict=True))
        )
        early = max(0, split - first)
        y = attention(q[:, first:], k, v, mask[:, first:], split=early, max_scores=max_scores)
        return self.out(y.reshape(*y.shape[:2], -1)), new


class MLP(nnx.Module):
    """SwiGLU with gate and up in one product."""

    def __init__(self, cfg: TransformerConfig, *, param_dtype, rngs: nnx.Rngs):
        self.gate_up = block_linear(
            cfg, "mlp.gate_up", cfg.width, 2 * cfg.mlp_width, param_dtype=param_dtype, rngs=rngs
        )
        self.down = block_linear(
            cfg,
            "mlp.down",
            cfg.mlp_width,
            cfg.width,
            init=_residual_init(cfg),
            param_dtype=param_dtype,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, norm: RMSNorm) -> jax.Array:
        gate_up = _elementwise_again(lambda x: self.gate_up(norm(x)))(x)
        return _elementwise_again(self.shrink)(gate_up)

    def shrink(self, gate_up: jax.Array) -> jax.Array:
        """[B, T, 2 F] -> [B, T, D]."""
        gate, up = jnp.split(gate_up, 2, axis=-1)
        return self.down(up * jax.nn.silu(gate))


class Block(nnx.Module):
    def __init__(self, cfg: TransformerConfig, *, param_dtype, rngs: nnx.Rngs):
        self.attn_norm = RMSNorm(cfg.width, cfg.norm_eps, param_dtype=param_dtype)
        self.attn = Attention(cfg, param_dtype=param_dtype, rngs=rngs)
        self.mlp_norm = RMSNorm(cfg.width, cfg.norm_eps, param_dtype=param_dtype)
        self.mlp = MLP(cfg, param_dtype=param_dtype, rngs=rngs)

    def __call__(
        self, x: jax.Array, rope: Rope, mask: jax.Array, prefix: KV | None, *, first: int = 0, **options
    ) -> tuple[jax.Array, KV]:
        """`first` and `options` are those of `Attention`."""
        y, new = self.attn(x, self.attn_norm, rope, mask, prefix, first=first, **options)
        x = x[:, first:] + y
        return x + self.mlp(x, self.mlp_norm), new


def _residual_init(cfg: TransformerConfig):
    """Smaller weights where a branch joins the residual stream, so that depth does not grow its variance."""
    return nnx.initializers.variance_scaling(0.5 / cfg.num_layers, "fan_in", "truncated_normal")


def stacked_blocks(cfg: TransformerConfig, *, param_dtype, rngs: nnx.Rngs) -> Block:
    """One Block whose variables have a leading layer axis [L, ...]."""

    @nnx.split_rngs(splits=cfg.num_layers)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def build(rngs):
        return Block(cfg, param_dtype=param_dtype, rngs=rngs)

    return build(rngs)


def run_blocks(
    blocks: Block,
    cfg: TransformerConfig,
    x: jax.Array,
    rope: Rope,
    mask: jax.Array,
    *,
    prefix: KV | None,
    keep_kv: bool,
    split: int = 0,
    first: int = 0,
    unroll: bool = False,
) -> tuple[jax.Array, KV | None]:
    """Scans x float32 [B, T, D] through all layers.

    Args:
      prefix: cache of an earlier pass, each [L, B, S, M, K], or None.
      keep_kv: return the new KV of every layer, each [L, B, T, M, K]; otherwise None.
      split: the first `split` tokens see none of those behind them, so their scores are not computed.
      first: the first token whose result is wanted.
      unroll: on one CPU write out the layers of a shallow stack, which training gains from.
    Returns: float32 [B, T - first, D] and the KV.
    """
    graph, params = nnx.split(blocks)
    # Blocks go row after row, which would gather rows that lie on several devices.
    options = {"max_scores": MAX_SCORES_CPU if one_cpu() else MAX_SCORES, "split": split}

    def layer(x, inputs, first=0):
        params, prefix = inputs
        x, new = nnx.merge(graph, params)(x, rope, mask, prefix, first=first, **options)
        return x, new if keep_kv else None

    # Written out, XLA would find what remat repeats and keep it after all.
    if not (one_cpu() and unroll and cfg.remat == "none" and cfg.num_layers <= MAX_UNROLLED_CPU):
        x, kv = jax.lax.scan(rematerialised(layer, cfg.remat), x, (params, prefix))
        return x[:, first:], kv
    kvs = []
    for index, inputs in enumerate(_layers((params, prefix), cfg.num_layers)):
        last = functools.partial(layer, first=first) if index == cfg.num_layers - 1 else layer
        x, new = rematerialised(last, cfg.remat)(x, inputs)
        kvs.append(new)
    return x, jax.tree.map(lambda *new: jnp.stack(new), *kvs)


def _layers(stacked, count: int) -> list:
    """The tree of each layer out of one with a leading layer axis; its gradient is one concatenation."""
    leaves, treedef = jax.tree.flatten(stacked)
    cut = [[part[0] for part in jax.lax.split(leaf, [1] * count)] for leaf in leaves]
    return [jax.tree.unflatten(treedef, parts) for parts in zip(*cut, strict=True)]


def rematerialised(layer, remat: str):
    """`layer` with what its backward pass recomputes: nothing, all of it, or all but the attention
    outputs.
    """
    if remat == "none":
        return layer
    policy = None if remat == "block" else jax.checkpoint_policies.save_only_these_names("attention")
    return jax.checkpoint(layer, policy=policy, prevent_cse=False)
