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
from jax.ad_checkpoint import checkpoint_name

from ditfuse_jax.config import TransformerConfig
from ditfuse_jax.lora import block_linear
from ditfuse_jax.precision import product

MAX_SCORES = 2**27  # attention scores in memory at once
# On CPU scores that stay near a core make attention faster: 2.5 times forward, 1.5 times with backward.
MAX_SCORES_CPU = 2**20
# On CPU copying what the backward pass needs in and out of a scan's stack took a sixth of a small step.
MAX_UNROLLED_CPU = 8  # layers; more would take long to compile
MIN_QUERIES = 64  # in a chunk


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


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, *, max_scores=MAX_SCORES
) -> jax.Array:
    """Masked attention of q [B, T, N, K] over k, v [B, S, M, K] with N a multiple of M; float32 [B, T, N, K].

    mask bool [B, T, S]. Heads go before tokens first: on CPU that is 2.4 times faster than the [B, T, N, K]
    layout. Scores are never kept: the backward pass makes them again (as in FlashAttention, Dao et al. 2022),
    and no more than `max_scores` exist at once, block by block of heads and, if need be, of queries.
    """
    batch, length, heads, width = q.shape
    groups = heads // k.shape[2]
    q = q.reshape(batch, length, -1, groups, width).transpose(0, 2, 3, 1, 4)  # [B, M, N / M, T, K]
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)  # [B, M, S, K]
    y = _attention(q, k, v, mask, max_scores)
    return y.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attention(q, k, v, mask, max_scores):
    """q [B, M, G, T, K], k and v [B, M, S, K], mask [B, T, S] -> float32 [B, M, G, T, K]."""
    return _attention_forward(q, k, v, mask, max_scores)[0]


def _attention_forward(q, k, v, mask, max_scores):
    block = _block(q, k, max_scores)
    y, total = _attend(q, k, v, mask) if block is None else _by_heads(_attend_chunks, (q, k, v), mask, block)
    y, total = checkpoint_name(y, "attention"), checkpoint_name(total, "attention")
    return y, (q, k, v, mask, y, total)


def _attention_backward(max_scores, kept, dy):
    q, k, v, mask, y, total = kept
    pull = jnp.sum(y * dy, axis=-1)  # [B, M, G, T], what the softmax subtracts
    block = _block(q, k, max_scores)
    arrays = (q, k, v, total, pull, dy)
    grads = _pull_back(*arrays, mask) if block is None else _by_heads(_pull_back_chunks, arrays, mask, block)
    return *(grad.astype(x.dtype) for grad, x in zip(grads, (q, k, v), strict=True)), None


_attention.defvjp(_attention_forward, _attention_backward)


def _scores(q, k, mask):
    """float32 [B, M, G, T, S]; masked ones hold the lowest number."""
    scores = product("bmgtk,bmsk->bmgts", q, k, q.dtype.name) * q.shape[-1] ** -0.5
    return jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)


def _attend(q, k, v, mask):
    """float32 [B, M, G, T, K], and the logarithm [B, M, G, T] of what each softmax divides by."""
    scores = _scores(q, k, mask)
    peak = scores.max(axis=-1, keepdims=True)
    weights = jnp.exp(scores - peak)
    total = weights.sum(axis=-1, keepdims=True)
    y = product("bmgts,bmsk->bmgtk", weights, v, v.dtype.name) / total
    return y, (peak + jnp.log(total))[..., 0]


def _pull_back(q, k, v, total, pull, dy, mask):
    """Gradients of q, k, v, float32, from that of y; total and pull [B, M, G, T]."""
    dtype = q.dtype.name
    weights = jnp.where(mask[:, None, None], jnp.exp(_scores(q, k, mask) - total[..., None]), 0.0)
    dv = product("bmgts,bmgtk->bmsk", weights, dy, dtype)
    dweights = product("bmgtk,bmsk->bmgts", dy, v, dtype)
    dscores = weights * (dweights - pull[..., None]) * q.shape[-1] ** -0.5
    return (
        product("bmgts,bmsk->bmgtk", dscores, k, dtype),
        product("bmgts,bmgtk->bmsk", dscores, q, dtype),
        dv,
    )


class _Block(NamedTuple):
    """What is computed at once where not all scores are."""

    heads: int  # KV heads of a row
    queries: int


def _block(q, k, max_scores: int) -> _Block | None:
    """As many KV heads as `max_scores` allows and divide M, at least one; None when everything fits."""
    batch, kv_heads, groups, length, _ = q.shape
    per_head = groups * length * k.shape[2]
    if batch * kv_heads * per_head <= max_scores:
        return None
    divisors = [size for size in range(1, kv_heads + 1) if kv_heads % size == 0]
    heads = max([1, *(size for size in divisors if size * per_head <= max_scores)])
    return _Block(heads, max(MIN_QUERIES, max_scores // (heads * groups * k.shape[2])))


def _by_heads(function, arrays, mask, block: _Block):
    """function(arrays, mask, queries) over a few KV heads of a row at a time; arrays each [B, M, ...]."""
    batch, kv_heads = arrays[0].shape[:2]
    parts = [x.reshape(-1, 1, block.heads, *x.shape[2:]) for x in arrays]  # [B * M / heads, 1, heads, ...]
    row = jnp.arange(parts[0].shape[0]) // (kv_heads // block.heads)
    done = jax.lax.map(lambda part: function(part[0], mask[part[1]][None], block.queries), (parts, row))
    return jax.tree.map(lambda x: x.reshape(batch, kv_heads, *x.shape[3:]), done)


def _attend_chunks(arrays, mask, queries: int):
    """`_attend` over runs of queries, one after the other."""
    q, k, v = arrays
    if q.shape[3] <= queries:
        return _attend(q, k, v, mask)
    chunks = (_cut(q, queries, axis=3), _cut(mask, queries, axis=1))
    done = jax.lax.map(lambda part: _attend(part[0], k, v, part[1]), chunks)
    return tuple(_join_cut(x, q.shape[3]) for x in done)


def _pull_back_chunks(arrays, mask, queries: int):
    """`_pull_back` over runs of queries; the gradients of keys and values add up."""
    q, k, v, total, pull, dy = arrays
    if q.shape[3] <= queries:
        return _pull_back(*arrays, mask)

    def add(sums, part):
        q, total, pull, dy, mask = part
        dq, dk, dv = _pull_back(q, k, v, total, pull, dy, mask)
        return (sums[0] + dk, sums[1] + dv), dq

    chunks = [_cut(x, queries, axis=3) for x in (q, total, pull, dy)]
    zeros = jnp.zeros(k.shape, jnp.float32)
    (dk, dv), dq = jax.lax.scan(add, (zeros, zeros), (*chunks, _cut(mask, queries, axis=1)))
    return _join_cut(dq, q.shape[3]), dk, dv


def _cut(x, size: int, *, axis: int):
    """Runs of `size` along an axis, the last padded with zeros, as a new leading axis."""
    count = -(-x.shape[axis] // size)
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, count * size - x.shape[axis])
    x = jnp.pad(x, pad)
    return jnp.moveaxis(x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :]), axis, 0)


def _join_cut(x, length: int):
    """Undoes `_cut` of axis 3: [chunks, B, M, G, size, ...] -> [B, M, G, length, ...]."""
    x = jnp.moveaxis(x, 0, 3)
    return x.reshape(*x.shape[:3], -1, *x.shape[5:])[:, :, :, :length]


class RMSNorm(nnx.Module):
    def __init__(self, width: int, eps: float, *, param_dtype):
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((width,), param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        scale = jnp.broadcast_to(self.scale[...].astype(jnp.float32), x.shape)
        return x * jax.lax.rsqrt(variance + self.eps) * scale


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

    def project(self, x: jax.Array, rope: Rope) -> tuple[jax.Array, KV]:
        """Rotated queries [B, T, N, K] and the keys and values of x [B, T, D], in the compute dtype."""
        qkv = self.qkv(x).reshape(*x.shape[:2], -1, self.head_dim)  # [B, T, N + 2 M, K]
        q, k, v = jnp.split(qkv, [self.num_heads, self.num_heads + self.num_kv_heads], axis=2)
        q, k, v = (part.astype(self.dtype) for part in (rotate(q, rope), rotate(k, rope), v))
        return q, KV(k, v)

    def __call__(
        self,
        x: jax.Array,
        rope: Rope,
        mask: jax.Array,
        prefix: KV | None,
        *,
        max_scores: int = MAX_SCORES,
        split: int = 0,
    ) -> tuple[jax.Array, KV]:
        """Args: x [B, T, D]; mask bool [B, T, S + T]; prefix each [B, S, M, K]; split: as in `run_blocks`.
        Returns [B, T, D] and the new KV.
        """
        q, new = self.project(x, rope)
        k, v = (
            new
            if prefix is None
            else (jnp.concatenate(pair, axis=1) for pair in zip(prefix, new, strict=True))
        )
        y = attention(q[:, split:], k, v, mask[:, split:], max_scores=max_scores)
        if split:
            early = (part[:, :split] for part in (q, k, v, mask[:, :, :split]))
            y = jnp.concatenate([attention(*early, max_scores=max_scores), y], axis=1)
        return self.out(y.reshape(x.shape)), new


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

    def __call__(self, x: jax.Array) -> jax.Array:
        gate, up = jnp.split(self.gate_up(x), 2, axis=-1)
        return self.down(up * jax.nn.silu(gate))


class Block(nnx.Module):
    def __init__(self, cfg: TransformerConfig, *, param_dtype, rngs: nnx.Rngs):
        self.attn_norm = RMSNorm(cfg.width, cfg.norm_eps, param_dtype=param_dtype)
        self.attn = Attention(cfg, param_dtype=param_dtype, rngs=rngs)
        self.mlp_norm = RMSNorm(cfg.width, cfg.norm_eps, param_dtype=param_dtype)
        self.mlp = MLP(cfg, param_dtype=param_dtype, rngs=rngs)

    def __call__(
        self, x: jax.Array, rope: Rope, mask: jax.Array, prefix: KV | None, **options
    ) -> tuple[jax.Array, KV]:
        """`options` are those of `Attention`."""
        y, new = self.attn(self.attn_norm(x), rope, mask, prefix, **options)
        x = x + y
        return x + self.mlp(self.mlp_norm(x)), new


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
    unroll: bool = False,
) -> tuple[jax.Array, KV | None]:
    """Scans x float32 [B, T, D] through all layers.

    Args:
      prefix: cache of an earlier pass, each [L, B, S, M, K], or None.
      keep_kv: return the new KV of every layer, each [L, B, T, M, K]; otherwise None.
      split: the first `split` tokens see none of those behind them, so their scores are not computed.
      unroll: on one CPU write out the layers of a shallow stack, which training gains from.
    """
    graph, params = nnx.split(blocks)
    # Blocks go row after row, which would gather rows that lie on several devices.
    one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    max_scores = MAX_SCORES_CPU if one_cpu else MAX_SCORES

    def layer(x, inputs):
        params, prefix = inputs
        x, new = nnx.merge(graph, params)(x, rope, mask, prefix, max_scores=max_scores, split=split)
        return x, new if keep_kv else None

    unroll = one_cpu and unroll and cfg.num_layers <= MAX_UNROLLED_CPU
    return jax.lax.scan(rematerialised(layer, cfg.remat), x, (params, prefix), unroll=unroll or 1)


def rematerialised(layer, remat: str):
    """`layer` with what its backward pass recomputes: nothing, all of it, or all but the attention
    outputs.
    """
    if remat == "none":
        return layer
    policy = None if remat == "block" else jax.checkpoint_policies.save_only_these_names("attention")
    return jax.checkpoint(layer, policy=policy, prevent_cse=False)
