# SPDX-License-Identifier: Apache-2.0
"""Networks as outlines: their structure with shapes in the place of weights, found once per config.

To find them a network is built under a trace, and they are asked for several times before the first picture.
"""

import functools

import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.models.omnigen import Transformer
from ditfuse_jax.models.vae import VAE
from ditfuse_jax.ops.tuning import PORTABLE, Tuning


def transformer(cfg: TransformerConfig, *, tuning: Tuning = PORTABLE, param_dtype=jnp.float32) -> Transformer:
    """Arguments as of `Transformer`."""
    return nnx.merge(*_transformer(cfg, tuning, jnp.dtype(param_dtype)), copy=True)


def vae(cfg: VAEConfig) -> VAE:
    return nnx.merge(*_vae(cfg), copy=True)


@functools.lru_cache(maxsize=8)
def _transformer(cfg: TransformerConfig, tuning: Tuning, dtype: jnp.dtype) -> tuple[nnx.GraphDef, nnx.State]:
    how = {"tuning": tuning, "param_dtype": dtype}
    return nnx.split(nnx.eval_shape(lambda: Transformer(cfg, rngs=nnx.Rngs(0), **how)))


@functools.lru_cache(maxsize=8)
def _vae(cfg: VAEConfig) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: VAE(cfg, rngs=nnx.Rngs(0))))
