# SPDX-License-Identifier: Apache-2.0
"""What attention is: the reference of every fast form."""

import jax
import jax.numpy as jnp

from ditfuse_jax.ops.products import plain_product


def plain_attention(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """Masked attention of q [B, T, N, K] over k, v [B, S, M, K] with N a multiple of M; float32 [B, T, N, K].

    mask: bool [B, T, S], true where a query sees a key.
    """
    k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    scores = plain_product("btnk,bsnk->bnts", q, k, q.dtype.name) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min))
    return plain_product("bnts,bsnk->btnk", weights, v, v.dtype.name)
