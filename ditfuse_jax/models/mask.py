# SPDX-License-Identifier: Apache-2.0
"""The hybrid attention mask (paper III-A3) as one integer per token.

Text is causal, a source image sees all of itself, the time token sees the whole prefix and itself, target
patches see everything. So what a token sees is one run of keys: from the end of the left padding to
`visible_until`.
"""

import jax
import jax.numpy as jnp


def attention_mask(visible_until: jax.Array, num_padding: jax.Array, num_keys: int) -> jax.Array:
    """Bool [B, T, S] with S = num_keys: query t of row b sees keys num_padding[b] <= s < visible_until[b, t].

    Args: visible_until int32 [B, T]; num_padding int32 [B].
    """
    key = jnp.arange(num_keys)[None, None, :]
    return (key < visible_until[:, :, None]) & (key >= num_padding[:, None, None])


def suffix_visible_until(num_target: jax.Array, prefix_length: int, target_length: int) -> jax.Array:
    """int32 [B, 1 + P] for the time token and P target patches behind a prefix of `prefix_length` tokens.

    The time token does not see the target. Target patches see all but the padding patches, which begin at
    num_target, int32 [B].
    """
    time_token = jnp.full((num_target.shape[0], 1), prefix_length + 1, jnp.int32)
    target = jnp.broadcast_to(prefix_length + 1 + num_target[:, None], (num_target.shape[0], target_length))
    return jnp.concatenate([time_token, target.astype(jnp.int32)], axis=1)
