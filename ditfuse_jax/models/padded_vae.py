# SPDX-License-Identifier: Apache-2.0
"""The autoencoder on images that are padded to a few sizes: a folder of mixed sizes needs few programs.

    X X X .      X: the image, upper left; its size is data of the program
    X X X .      .: padding up to the program's size
    . . . .

Norms and attention leave the padding out, and before each convolution it is zero, which is what a convolution
sees beyond the border. So the results are those of `VAE` on the image alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.models.vae import VAE, Attention, GroupNorm, Mid, Resnet, attend, nearest

MIN_STEP = 8  # latent cells


def bucket(cells: int) -> int:
    """The next of two side lengths per octave, in latent cells (8, 16, 24, 32, 48, 64, 96, 128, ...)."""
    step = max(MIN_STEP, 2 ** ((cells - 1).bit_length() - 2))
    return -(-cells // step) * step


def pad(x: np.ndarray, unit: int) -> np.ndarray:
    """x [B, H, W, C] with zeros below and right, up to a bucket of cells of `unit` x `unit` pixels."""
    below, right = (unit * bucket(side // unit) - side for side in x.shape[1:3])
    return np.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))


def encode(vae: VAE, pixels: jax.Array, size: jax.Array) -> jax.Array:
    """`vae.encode` of the upper left part of pixels [B, H, W, 3] that has `size`, int32 [2], in pixels.

    Returns [B, h, w, C]; what lies outside of size / factor means nothing.
    """
    x = vae.encoder.conv_in(clear(pixels, size))
    for block in vae.encoder.down:
        x = resnets(block.resnets, x, size)
        if block.downsample is not None:
            x, size = block.downsample(clear(x, size)), size // 2
    x = mid(vae.encoder.mid, x, size)
    x = vae.encoder.conv_out(active(vae.encoder.norm_out, x, size))
    return vae.scaled(jnp.split(vae.quant(x), 2, axis=-1)[0])


def encode_rows(vae: VAE, pixels: jax.Array, sizes: jax.Array) -> jax.Array:
    """`encode` of pixels [B, H, W, 3] where each row has its own size, int32 [B, 2], in pixels."""
    return jax.vmap(lambda image, size: encode(vae, image[None], size)[0])(pixels, sizes)


def decode(vae: VAE, latents: jax.Array, size: jax.Array) -> jax.Array:
    """`vae.decode` of the upper left part of latents [B, h, w, C] that has `size`, int32 [2], in cells.

    Returns [B, H, W, 3]; what lies outside of size * factor means nothing.
    """
    code = vae.post_quant(vae.unscaled(latents))
    x = mid(vae.decoder.mid, vae.decoder.conv_in(clear(code, size)), size)
    for block in vae.decoder.up:
        x = resnets(block.resnets, x, size)
        if block.upsample is not None:
            size = size * 2
            x = block.upsample(clear(nearest(x), size))
    return vae.decoder.conv_out(active(vae.decoder.norm_out, x, size))


def inside(x: jax.Array, size: jax.Array) -> jax.Array:
    """Bool [1, H, W, 1] for x [B, H, W, C]: which pixels are the image's."""
    rows, columns = (jnp.arange(count) for count in x.shape[1:3])
    return ((rows < size[0])[:, None] & (columns < size[1])[None, :])[None, :, :, None]


def clear(x: jax.Array, size: jax.Array) -> jax.Array:
    return jnp.where(inside(x, size), x, 0.0)


def active(norm: GroupNorm, x: jax.Array, size: jax.Array) -> jax.Array:
    """Norm over the image and SiLU, ready for a convolution."""
    return clear(jax.nn.silu(norm(x, inside(x, size))), size)


def resnets(layers, x: jax.Array, size: jax.Array) -> jax.Array:
    for layer in layers:
        x = resnet(layer, x, size)
    return x


def resnet(layer: Resnet, x: jax.Array, size: jax.Array) -> jax.Array:
    y = layer.conv1(active(layer.norm1, x, size))
    y = layer.conv2(active(layer.norm2, y, size))
    return y + (x if layer.shortcut is None else layer.shortcut(x))


def mid(layer: Mid, x: jax.Array, size: jax.Array) -> jax.Array:
    x = attention(layer.attn, resnet(layer.resnets[0], x, size), size)
    return resnet(layer.resnets[1], x, size)


def attention(layer: Attention, x: jax.Array, size: jax.Array) -> jax.Array:
    seen = inside(x, size)
    y = layer.norm(x, seen).reshape(len(x), -1, x.shape[-1])  # [B, T, C]
    bias = jnp.where(seen.reshape(-1), 0.0, jnp.finfo(x.dtype).min)
    y = attend(layer.q(y), layer.k(y), layer.v(y), bias)
    return x + layer.out(y).reshape(x.shape)
