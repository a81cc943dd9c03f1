# SPDX-License-Identifier: Apache-2.0
"""The stack of Phi-3 blocks: RMSNorm, fused qkv with grouped KV heads, LongRoPE, SwiGLU."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from ditfuse_jax.config import TransformerConfig
from ditfuse_jax.models.lora import block_linear
from ditfuse_jax.ops.attention import attention
from ditfuse_jax.ops.tuning import Tuning

# TransformerConfig.remat -> what the forward pass keeps of a layer, by name; the backward pass recomputes the
# rest: all that is elementwise, all but attention, all.
KEPT = {"none": ("linear", "qkv", "attention"), "attention": ("attention",), "block": ()}


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
    """Angles of positions int32 [B, T].

    Rows whose rope_length, int32 [B], exceeds the original length use the long table.
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
    """x / rms(x) * scale over the last axis, float32."""

    def __init__(self, width: int, eps: float, *, param_dtype):
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((width,), param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        scale = self.scale[...].astype(jnp.float32)
        return x * jax.lax.rsqrt(variance + self.eps) * jnp.broadcast_to(scale, x.shape)


class Attention(nnx.Module):
    """Self-attention of new tokens over a cached prefix, if there is one, and themselves."""

    def __init__(self, cfg: TransformerConfig, *, tuning: Tuning, **linear):
        self.heads = (cfg.num_heads, cfg.num_heads + cfg.num_kv_heads)  # where q, k and v end in qkv
        self.head_dim, self.dtype, self.tuning = cfg.head_dim, cfg.dtype, tuning
        out = (cfg.num_heads + 2 * cfg.num_kv_heads) * cfg.head_dim
        self.qkv = block_linear(cfg, "attn.qkv", cfg.width, out, **linear)
        self.out = block_linear(cfg, "attn.out", cfg.width, cfg.width, init=_residual_init(cfg), **linear)

    def __call__(
        self, x: jax.Array, rope: Rope, mask: jax.Array, prefix: KV | None, *, split: int = 0, run: int = 0
    ) -> tuple[jax.Array, KV]:
        """Args: x [B, T, D]; mask bool [B, T, S + T]; prefix each [B, S, M, K]; split, run as in `attention`.
        Returns [B, T, D] and the new KV.
        """
        qkv = self.qkv(x).reshape(*x.shape[:2], -1, self.head_dim)  # [B, T, N + 2 M, K]
        q, k, v = jnp.split(qkv, self.heads, axis=2)
        q, k, v = (part.astype(self.dtype) for part in (rotate(q, rope), rotate(k, rope), v))
        q, k, v = checkpoint_name((q, k, v), "qkv")
        new = KV(k, v)
        if prefix is not None:
            k, v = (jnp.concatenate(pair, axis=1) for pair in zip(prefix, new, strict=True))
        y = attention(q, k, v, mask, split=split, run=run, tuning=self.tuning)
        return self.out(y.reshape(x.shape)), new


class MLP(nnx.Module):
    """SwiGLU with gate and up in one product; [B, T, D] -> [B, T, D]."""

    def __init__(self, cfg: TransformerConfig, **linear):
        self.gate_up = block_linear(cfg, "mlp.gate_up", cfg.width, 2 * cfg.mlp_width, **linear)
        self.down = block_linear(
            cfg, "mlp.down", cfg.mlp_width, cfg.width, init=_residual_init(cfg), **linear
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        gate, up = jnp.split(self.gate_up(x), 2, axis=-1)
        return self.down(up * jax.nn.silu(gate))


class Block(nnx.Module):
    """Attention and MLP, each behind its norm and beside a residual."""

    def __init__(self, cfg: TransformerConfig, *, tuning: Tuning, param_dtype, rngs: nnx.Rngs):
        linear = {"param_dtype": param_dtype, "rngs": rngs}
        self.attn_norm = RMSNorm(cfg.width, cfg.norm_eps, param_dtype=param_dtype)
        self.attn = Attention(cfg, tuning=tuning, **linear)
        self.mlp_norm = RMSNorm(cfg.width, cfg.norm_eps, param_dtype=param_dtype)
        self.mlp = MLP(cfg, **linear)

    def __call__(
        self, x: jax.Array, rope: Rope, mask: jax.Array, prefix: KV | None, *, split: int = 0, run: int = 0
    ) -> tuple[jax.Array, KV]:
        """Arguments and shapes as in `Attention`."""
        y, new = self.attn(self.attn_norm(x), rope, mask, prefix, split=split, run=run)
        x = x + y
        x = x + self.mlp(self.mlp_norm(x))
        return x, new


def _residual_init(cfg: TransformerConfig):
    """Smaller weights where a branch joins the residual stream, so that depth does not grow its variance."""
    return nnx.initializers.variance_scaling(0.5 / cfg.num_layers, "fan_in", "truncated_normal")


def stacked_blocks(cfg: TransformerConfig, *, tuning: Tuning, param_dtype, rngs: nnx.Rngs) -> Block:
    """One Block whose variables have a leading layer axis [L, ...]."""

    @nnx.split_rngs(splits=cfg.num_layers)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def build(rngs):
        return Block(cfg, tuning=tuning, param_dtype=param_dtype, rngs=rngs)

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
    run: int = 0,
) -> tuple[jax.Array, KV | None]:
    """Runs x float32 [B, T, D] through all layers.

    Args:
      prefix: cache of an earlier pass, each [L, B, S, M, K], or None.
      keep_kv: return the new KV of every layer, each [L, B, T, M, K]; otherwise None.
      split, run: as in `attention`.
    Returns: float32 [B, T, D] and the KV.
    """
    graph, params = nnx.split(blocks)

    def layer(x, inputs):
        params, prefix = inputs
        x, new = nnx.merge(graph, params)(x, rope, mask, prefix, split=split, run=run)
        return x, new if keep_kv else None

    policy = jax.checkpoint_policies.save_only_these_names(*KEPT[cfg.remat])
    layer = jax.checkpoint(layer, policy=policy, prevent_cse=False)  # a scan needs no guard against it
    return jax.lax.scan(layer, x, (params, prefix))
