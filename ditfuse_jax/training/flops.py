# SPDX-License-Identifier: Apache-2.0
"""Model FLOPs of a training step, and the peak they are measured against."""

import dataclasses

import jax
import jax.numpy as jnp

from ditfuse_jax.checkpoints.flat import fill, flatten
from ditfuse_jax.config import TransformerConfig
from ditfuse_jax.image import to_pixels
from ditfuse_jax.ops.speed import product_speed
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.trainable import vae

# Dense bf16 FLOP/s of one device, from the vendors' data sheets; jax.Device.device_kind -> peak.
PEAKS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
    "NVIDIA GeForce RTX 4090": 165e12,
    "NVIDIA GeForce RTX 3090": 71e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}


def linear_weights(cfg: TransformerConfig) -> int:
    """Weights of the linear layers of all blocks: each costs 2 FLOP per token and pass."""
    qkv = cfg.width * (cfg.num_heads + 2 * cfg.num_kv_heads) * cfg.head_dim
    return cfg.num_layers * (qkv + cfg.width**2 + 3 * cfg.width * cfg.mlp_width)


def lora_weights(cfg: TransformerConfig) -> int:
    """Weights of the live adapter; 0 without."""
    if cfg.lora is None:
        return 0
    out = (cfg.num_heads + 2 * cfg.num_kv_heads) * cfg.head_dim
    sides = {
        "attn.qkv": cfg.width + out,
        "attn.out": 2 * cfg.width,
        "mlp.gate_up": cfg.width + 2 * cfg.mlp_width,
        "mlp.down": cfg.mlp_width + cfg.width,
    }
    return cfg.num_layers * cfg.lora.rank * sum(sides[name] for name in cfg.lora.targets)


def transformer_row(cfg: TransformerConfig, prefix: int, suffix: int, draws: int = 1) -> float:
    """FLOPs of one row of a training step: 6 N per token, 4 N where the base is frozen, 12 D L per score.

    Several draws of a row share one pass over its prefix.

    A frozen base has no weight gradients. What the backward pass recomputes is not counted.
    """
    base = 4 if cfg.lora else 6
    linear = (base * linear_weights(cfg) + 6 * lora_weights(cfg)) * (prefix + draws * suffix)
    scores = prefix**2 + draws * suffix * (prefix + suffix)  # the prefix does not see what follows it
    return linear + 12.0 * scores * cfg.width * cfg.num_layers


def autoencoder_row(config: TrainConfig, height: int, width: int) -> float:
    """FLOPs of one image in the autoencoder's training step: three times its forward pass, by XLA's count."""
    shapes = {
        name: jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for name, leaf in flatten(vae(config)).items()
    }

    def both_ways(params, image):
        network = fill(vae(config), params)
        return network.decode(network.encode(to_pixels(image)))

    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.uint8)
    return 3.0 * jax.jit(both_ways).lower(shapes, image).cost_analysis()["flops"]


def row_flops(config: TrainConfig, batch) -> float:
    """Model FLOPs of one row of this batch (the frozen VAE's encoding is not counted)."""
    _, height, width, _ = batch.target.shape
    if config.stage == "vae":
        side = config.vae_training.crop
        return autoencoder_row(config, side or height, side or width)
    side = 2 * config.vae.factor
    prefix, suffix = batch.prompt.token_ids.shape[1], 1 + height * width // side**2
    own = transformer_row(config.model, prefix, suffix, config.draws)
    if config.distil is None:
        return own
    # Three forward passes of the teacher cost what one pass and its gradient do.
    return own + transformer_row(dataclasses.replace(config.model, lora=None), prefix, suffix)


def peak(dtype: str) -> float:
    """FLOP/s of all devices of the run at matmuls in `dtype`; 0 when the device is not in the table.

    On CPU it is measured, for all virtual devices of a host share its cores.
    """
    device = jax.devices()[0]
    if device.platform == "cpu":
        return product_speed(dtype) * jax.process_count()
    known = [name for name in PEAKS if device.device_kind.startswith(name)]
    if not known:
        return 0.0
    return PEAKS[max(known, key=len)] * jax.device_count() / (2 if dtype == "float32" else 1)
