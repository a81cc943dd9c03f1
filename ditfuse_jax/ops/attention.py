# SPDX-License-Identifier: Apache-2.0
"""The one place of masked attention: in blocks of scores that are never kept, or by a kernel."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ditfuse_jax.ops import kernels
from ditfuse_jax.ops.plain import plain_attention
from ditfuse_jax.ops.products import product
from ditfuse_jax.ops.tuning import PORTABLE, Tuning

MIN_QUERIES = 64  # in a chunk


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array,
    *,
    split: int = 0,
    run: int = 0,
    tuning: Tuning = PORTABLE,
) -> jax.Array:
    """`plain_attention` as `tuning` says: in blocks of scores, or by a kernel of the accelerator.

    In blocks there are never more than `tuning.max_scores` scores. They are computed for a block of heads
    and, if need be, of queries at a time, and again in the backward pass (as in FlashAttention, Dao et al.
    2022). The heads go before the tokens, which XLA:CPU multiplies faster.

    Args:
      split: the first `split` queries see none of the keys from `split` on; these scores are skipped.
      run: all queries from number `run` on see the same run of keys, as one length says; 0: not so.
    """
    if tuning.attention == "plain":
        return plain_attention(q, k, v, mask)
    if tuning.attention == "cudnn" and run and kernels.usable("cudnn", q.dtype.name, q.shape[3]):
        return kernels.one_run_attention(q, k, v, mask, run=run)
    if tuning.attention == "splash" and kernels.usable("splash", q.dtype.name, q.shape[3]):
        return kernels.splash_attention(q, k, v, mask)
    batch, length, heads, width = q.shape
    groups = heads // k.shape[2]
    with jax.named_scope("attention"):
        q = q.reshape(batch, length, -1, groups, width).transpose(0, 2, 3, 1, 4)  # [B, M, N / M, T, K]
        k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)  # [B, M, S, K]
        y = _attention(q, k, v, mask, split, tuning.max_scores)
        return y.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attention(q, k, v, mask, split, max_scores):
    """q [B, M, G, T, K], k and v [B, M, S, K], mask [B, T, S] -> float32 [B, M, G, T, K]."""
    return _attention_forward(q, k, v, mask, split, max_scores)[0]


def _attention_forward(q, k, v, mask, split, max_scores):
    y, lse = _by_heads(_attend_parts, (q, k, v), mask, split, max_scores)
    y, lse = checkpoint_name(y, "attention"), checkpoint_name(lse, "attention")
    return y, (q, k, v, mask, y, lse)


def _attention_backward(split, max_scores, kept, dy):
    q, k, v, mask, y, lse = kept
    delta = jnp.sum(y * dy, axis=-1)  # [B, M, G, T], FlashAttention's D
    grads = _by_heads(_attend_backward_parts, (q, k, v, lse, delta, dy), mask, split, max_scores)
    return *(grad.astype(x.dtype) for grad, x in zip(grads, (q, k, v), strict=True)), None


_attention.defvjp(_attention_forward, _attention_backward)


def _scores(q, k, mask):
    """float32 [B, M, G * T, S]; masked ones hold the lowest number."""
    scores = product("bmtk,bmsk->bmts", q, k, q.dtype.name) * q.shape[-1] ** -0.5
    return jnp.where(mask, scores, jnp.finfo(jnp.float32).min)


def _attend(q, k, v, mask):
    """Output float32 [B, M, G, T, K] and log-sum-exp of the scores, float32 [B, M, G, T]."""
    scores = _scores(_merged(q), k, _of_groups(mask, q))
    peak = scores.max(axis=-1, keepdims=True)
    weights = jnp.exp(scores - peak)
    denominator = weights.sum(axis=-1, keepdims=True)
    y = product("bmts,bmsk->bmtk", weights, v, v.dtype.name) / denominator
    return y.reshape(q.shape), (peak + jnp.log(denominator)).reshape(q.shape[:-1])


def _attend_backward(q, k, v, lse, delta, dy, mask):
    """Gradients of q, k, v, float32, from that of y; lse and delta [B, M, G, T]."""
    dtype, shape = q.dtype.name, q.shape
    mask = _of_groups(mask, q)
    q, dy, lse, delta = map(_merged, (q, dy, lse[..., None], delta[..., None]))
    weights = jnp.where(mask, jnp.exp(_scores(q, k, mask) - lse), 0.0)
    dv = product("bmts,bmtk->bmsk", weights, dy, dtype)
    dweights = product("bmtk,bmsk->bmts", dy, v, dtype)
    dscores = weights * (dweights - delta) * shape[-1] ** -0.5
    dq = product("bmts,bmsk->bmtk", dscores, k, dtype)
    return dq.reshape(shape), product("bmts,bmtk->bmsk", dscores, q, dtype), dv


def _merged(x):
    """[B, M, G, T, K] -> [B, M, G * T, K]: with one contracted axis XLA:CPU copies no scores transposed."""
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def _of_groups(mask, q):
    """mask [B, T, S] for the merged queries of q [B, M, G, T, K]: [B, 1, G * T, S]."""
    batch, length, keys = mask.shape
    return jnp.broadcast_to(mask[:, None], (batch, q.shape[2], length, keys)).reshape(batch, 1, -1, keys)


class _Part(NamedTuple):
    """Queries first to last, and how many keys they see at most."""

    queries: slice
    keys: int


def _parts(length: int, num_keys: int, split: int) -> list[_Part]:
    late = _Part(slice(split, length), num_keys)
    return [_Part(slice(0, split), split), late] if split else [late]


def _block(q, k, split: int, max_scores: int) -> int | None:
    """As many KV heads as `max_scores` allows and divide M, at least one; None when everything fits."""
    batch, kv_heads, groups, length, _ = q.shape
    parts = _parts(length, k.shape[2], split)
    per_head = groups * max((queries.stop - queries.start) * keys for queries, keys in parts)
    if batch * kv_heads * per_head <= max_scores:
        return None
    divisors = [size for size in range(1, kv_heads + 1) if kv_heads % size == 0]
    return max([1, *(size for size in divisors if size * per_head <= max_scores)])


def _by_heads(function, arrays, mask, split: int, max_scores: int):
    """function(arrays, mask, split, max_scores), a few KV heads of a row at a time; arrays [B, M, ...]."""
    heads = _block(*arrays[:2], split, max_scores)
    if heads is None:
        return function(arrays, mask, split, max_scores)
    batch, kv_heads = arrays[0].shape[:2]
    parts = [x.reshape(-1, 1, heads, *x.shape[2:]) for x in arrays]  # [B * M / heads, 1, heads, ...]
    row = jnp.arange(parts[0].shape[0]) // (kv_heads // heads)
    done = jax.lax.map(lambda part: function(part[0], mask[part[1]][None], split, max_scores), (parts, row))
    return jax.tree.map(lambda x: x.reshape(batch, kv_heads, *x.shape[3:]), done)


def _attend_parts(arrays, mask, split: int, max_scores: int):
    """`_attend` over the queries before and behind `split`."""
    q, k, v = arrays
    done = [
        _attend_chunks(
            q[:, :, :, queries], k[:, :, :keys], v[:, :, :keys], mask[:, queries, :keys], max_scores
        )
        for queries, keys in _parts(q.shape[3], k.shape[2], split)
    ]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=3), *done)


def _attend_backward_parts(arrays, mask, split: int, max_scores: int):
    """`_attend_backward` over the queries before and behind `split`."""
    k, v = arrays[1:3]
    dq, dk, dv = [], jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    for queries, keys in _parts(arrays[0].shape[3], k.shape[2], split):
        q, lse, delta, dy = (x[:, :, :, queries] for x in (arrays[0], *arrays[3:]))
        part = (q, k[:, :, :keys], v[:, :, :keys], lse, delta, dy)
        grads = _attend_backward_chunks(part, mask[:, queries, :keys], max_scores)
        dq.append(grads[0])
        dk, dv = (x.at[:, :, :keys].add(grad) for x, grad in zip((dk, dv), grads[1:], strict=True))
    return jnp.concatenate(dq, axis=3), dk, dv


def _chunk(q, k, max_scores: int) -> int:
    """How many queries are computed at once."""
    return max(MIN_QUERIES, max_scores // (q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]))


def _attend_chunks(q, k, v, mask, max_scores: int):
    """`_attend` over runs of queries, one after the other."""
    queries = _chunk(q, k, max_scores)
    if q.shape[3] <= queries:
        return _attend(q, k, v, mask)
    chunks = (_cut(q, queries, axis=3), _cut(mask, queries, axis=1))
    done = jax.lax.map(lambda part: _attend(part[0], k, v, part[1]), chunks)
    return tuple(_join_cut(x, q.shape[3]) for x in done)


def _attend_backward_chunks(arrays, mask, max_scores: int):
    """`_attend_backward` over runs of queries; the gradients of keys and values add up."""
    q, k, v, lse, delta, dy = arrays
    queries = _chunk(q, k, max_scores)
    if q.shape[3] <= queries:
        return _attend_backward(*arrays, mask)

    def add(sums, part):
        q, lse, delta, dy, mask = part
        dq, dk, dv = _attend_backward(q, k, v, lse, delta, dy, mask)
        return (sums[0] + dk, sums[1] + dv), dq

    chunks = [_cut(x, queries, axis=3) for x in (q, lse, delta, dy)]
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
