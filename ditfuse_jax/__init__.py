# SPDX-License-Identifier: Apache-2.0
"""DiTFuse in JAX: one diffusion transformer fuses two registered images as an English instruction says."""

import importlib

# Public name -> module. Loaded on first use: nnx, transformers, grain and orbax each cost 0.3 to 0.8 s.
_EXPORTS = {
    "DiTFuse": "ditfuse_jax.inference.fuse",
    "LoraConfig": "ditfuse_jax.config",
    "TransformerConfig": "ditfuse_jax.config",
    "VAEConfig": "ditfuse_jax.config",
    "SamplingConfig": "ditfuse_jax.config",
    "Transformer": "ditfuse_jax.models.omnigen",
    "VAE": "ditfuse_jax.models.vae",
}
__all__ = list(_EXPORTS)
__version__ = "0.1.0"


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'ditfuse_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__():
    return sorted([*globals(), *__all__])
