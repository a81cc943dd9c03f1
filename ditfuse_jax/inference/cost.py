# SPDX-License-Identifier: Apache-2.0
"""FLOPs of a fusion, and the seconds that they may take on this machine."""

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.ops.speed import product_speed

# Shares of a square product's speed that the demo's networks reach, on two cores of an AMD EPYC in float32.
TRANSFORMER_SHARE = 0.58
AUTOENCODER_SHARE = 0.38
REBUILD_FLOPS = 60_000  # of products that take as long as blending and rebuilding one pixel, there too


def transformer_flops(cfg: TransformerConfig, num_prefix: int, num_new: int, *, passes: int) -> float:
    """Of one row: its prefix once, and `passes` over the new tokens, which see all."""
    attention = cfg.num_heads * cfg.head_dim
    linear = cfg.width * (attention + 2 * cfg.num_kv_heads * cfg.head_dim) + attention * cfg.width
    linear += 3 * cfg.width * cfg.mlp_width
    tokens = num_prefix + passes * num_new
    scores = num_prefix**2 + passes * num_new * (num_prefix + num_new)
    return cfg.num_layers * (2.0 * linear * tokens + 4.0 * attention * scores)


def autoencoder_flops(cfg: VAEConfig, height: int, width: int, *, encoded: int, decoded: int) -> float:
    """Of the convolutions and the attention for so many images of height x width pixels."""
    channels, pixels = cfg.block_out_channels, height * width
    encoder = 9 * 3 * channels[0] * pixels
    decoder = encoder
    for level, out in enumerate(channels):
        area, before = pixels / 4**level, channels[max(0, level - 1)]
        after = channels[min(len(channels) - 1, level + 1)]
        encoder += 9 * area * (before * out + (2 * cfg.layers_per_block - 1) * out**2)
        decoder += 9 * area * (after * out + (2 * cfg.layers_per_block + 1) * out**2)
        if level + 1 < len(channels):
            encoder += 9 * area / 4 * out**2  # down
            decoder += 9 * area * after**2  # up, to this level's size
    cells, last = pixels / cfg.factor**2, channels[-1]
    middle = cells * (4 * 9 * last**2 + 4 * last**2) + 2 * last * cells**2
    return 2.0 * (encoded * (encoder + middle) + decoded * (decoder + middle))


def seconds(*, transformer: float, autoencoder: float, rebuilt_pixels: int, dtype: str) -> float:
    """About how long these FLOPs and pixels take on this machine at this moment, without compiling.

    dtype: of the transformer's products.
    """
    slow = autoencoder / AUTOENCODER_SHARE + REBUILD_FLOPS * rebuilt_pixels
    return transformer / TRANSFORMER_SHARE / product_speed(dtype) + slow / product_speed("float32")
