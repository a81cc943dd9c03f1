# SPDX-License-Identifier: Apache-2.0
"""The KL autoencoder of Stable Diffusion (diffusers AutoencoderKL), NHWC and float32.

Images may be padded below and to the right, so that a few programs do for all sizes:

    X X X .      X: the image; its size is data of the program
    X X X .      .: padding up to the program's size
    . . . .

Every layer takes an optional mask that says which pixels are the image's, at full resolution: bool
[1, H, W, 1]. Norms and attention then leave the padding out, and before each convolution it is zero, which is
what a convolution sees beyond the border. So the results are those of the image alone.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.config import VAEConfig

EPS = 1e-6  # of every group norm
LOGVAR_RANGE = (-30.0, 20.0)
QUERY_CHUNK = 1024  # queries at once in the mid attention: 1024 px have 16384 tokens, 1 GiB of scores a row


class Moments(NamedTuple):
    """The Gaussian posterior of a code, before scale and shift."""

    mean: jax.Array  # [B, h, w, C]
    logvar: jax.Array  # [B, h, w, C], clipped


def inside(mask: jax.Array | None, x: jax.Array) -> jax.Array | None:
    """The mask at the resolution of x [B, H, W, C]; None stays None."""
    if mask is None:
        return None
    step = mask.shape[1] // x.shape[1]
    return mask[:, ::step, ::step]


def clear(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """x [B, H, W, C] with zeros outside the mask."""
    return x if mask is None else jnp.where(inside(mask, x), x, 0.0)


def mask_of(size: jax.Array | None, height: int, width: int) -> jax.Array | None:
    """Bool [1, H, W, 1]: the upper left part of `size`, int32 [2]; None stays None."""
    if size is None:
        return None
    rows, columns = jnp.arange(height) < size[0], jnp.arange(width) < size[1]
    return (rows[:, None] & columns[None, :])[None, :, :, None]


class GroupNorm(nnx.Module):
    """Group norm of NHWC. Sums run over pixels first: groups of few channels make poor vectors on CPU."""

    def __init__(self, channels: int, groups: int):
        self.groups = groups
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """x [B, H, W, C] -> the same shape, by mean and variance of the pixels in the mask."""
        where = inside(mask, x)
        mean = self.over_group(x.mean(axis=(1, 2), where=where))  # [B, C]
        centred = x - mean[:, None, None, :]
        variance = self.over_group(jnp.square(centred).mean(axis=(1, 2), where=where))
        gain = jax.lax.rsqrt(variance + EPS) * self.scale[None, :]
        return centred * gain[:, None, None, :] + self.bias[None, None, None, :]

    def over_group(self, x: jax.Array) -> jax.Array:
        """x [B, C] -> [B, C] with each channel's value replaced by the mean of its group."""
        parts = x.reshape(len(x), self.groups, -1)
        return jnp.broadcast_to(parts.mean(axis=2, keepdims=True), parts.shape).reshape(x.shape)


class Keys:
    """Random keys for the layers of one network, in the order in which they ask.

    nnx.Rngs counts in a Variable, and to set one under a trace makes JAX write an error message that nobody
    reads, each time by a search through the whole trace.
    """

    def __init__(self, key: jax.Array):
        self.key, self.count = key, -1

    def params(self) -> jax.Array:
        self.count += 1
        return jax.random.fold_in(self.key, self.count)


def conv3(channels: int, out: int, *, rngs: Keys) -> nnx.Conv:
    return nnx.Conv(channels, out, (3, 3), padding=((1, 1), (1, 1)), rngs=rngs)


def conv1(channels: int, out: int, *, rngs: Keys) -> nnx.Conv:
    return nnx.Conv(channels, out, (1, 1), rngs=rngs)


class Resnet(nnx.Module):
    """Norm, SiLU, convolution, twice, around a shortcut; [B, H, W, channels] -> [B, H, W, out]."""

    def __init__(self, channels: int, out: int, groups: int, *, rngs: Keys):
        self.norm1 = GroupNorm(channels, groups)
        self.conv1 = conv3(channels, out, rngs=rngs)
        self.norm2 = GroupNorm(out, groups)
        self.conv2 = conv3(out, out, rngs=rngs)
        self.shortcut = conv1(channels, out, rngs=rngs) if channels != out else None

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        y = self.conv1(clear(jax.nn.silu(self.norm1(x, mask)), mask))
        y = self.conv2(clear(jax.nn.silu(self.norm2(y, mask)), mask))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Attention(nnx.Module):
    """One head over all cells of the grid, around a residual; [B, h, w, C] -> the same shape."""

    def __init__(self, channels: int, groups: int, *, rngs: Keys):
        self.norm = GroupNorm(channels, groups)
        self.q = nnx.Linear(channels, channels, rngs=rngs)
        self.k = nnx.Linear(channels, channels, rngs=rngs)
        self.v = nnx.Linear(channels, channels, rngs=rngs)
        self.out = nnx.Linear(channels, channels, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        y = self.norm(x, mask).reshape(len(x), -1, x.shape[-1])  # [B, T, C]
        lowest = jnp.finfo(x.dtype).min
        bias = jnp.zeros(y.shape[1]) if mask is None else jnp.where(inside(mask, x).reshape(-1), 0.0, lowest)
        y = attend(self.q(y), self.k(y), self.v(y), bias)
        return x + self.out(y).reshape(x.shape)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array, *, chunk=QUERY_CHUNK) -> jax.Array:
    """Softmax attention of single-head q, k, v [B, T, C], `chunk` queries at a time; [B, T, C].

    bias [T] is added to the scores of each key.
    """

    def of_query(query):  # [B, C] -> [B, C]
        scores = jnp.einsum("bc,bsc->bs", query, k) * q.shape[-1] ** -0.5 + bias[None, :]
        return jnp.einsum("bs,bsc->bc", jax.nn.softmax(scores), v)

    queries = jnp.moveaxis(q, 1, 0)  # [T, B, C]
    all_at_once = q.shape[1] <= chunk
    y = jax.vmap(of_query)(queries) if all_at_once else jax.lax.map(of_query, queries, batch_size=chunk)
    return jnp.moveaxis(y, 0, 1)


class Mid(nnx.Module):
    """The bottom of the encoder and the top of the decoder."""

    def __init__(self, channels: int, groups: int, *, rngs: Keys):
        self.resnets = nnx.List([Resnet(channels, channels, groups, rngs=rngs) for _ in range(2)])
        self.attn = Attention(channels, groups, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        x = self.resnets[0](x, mask)
        x = self.attn(x, mask)
        return self.resnets[1](x, mask)


def resnets(channels: int, out: int, count: int, groups: int, *, rngs: Keys) -> nnx.List:
    """`count` resnets in a row, the first of which changes the width."""
    widths = [channels] + [out] * (count - 1)
    return nnx.List([Resnet(width, out, groups, rngs=rngs) for width in widths])


class Down(nnx.Module):
    """Resnets of one resolution, then half the side unless it is the last."""

    def __init__(self, channels: int, out: int, cfg: VAEConfig, *, last: bool, rngs: Keys):
        self.resnets = resnets(channels, out, cfg.layers_per_block, cfg.norm_groups, rngs=rngs)
        # The reference pads below and to the right only.
        self.downsample = None if last else nnx.Conv(out, out, (3, 3), 2, padding=((0, 1), (0, 1)), rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        for resnet in self.resnets:
            x = resnet(x, mask)
        return x if self.downsample is None else self.downsample(clear(x, mask))


class Up(nnx.Module):
    """Resnets of one resolution, one more than in the encoder, then twice the side unless it is the last."""

    def __init__(self, channels: int, out: int, cfg: VAEConfig, *, last: bool, rngs: Keys):
        self.resnets = resnets(channels, out, cfg.layers_per_block + 1, cfg.norm_groups, rngs=rngs)
        self.upsample = None if last else conv3(out, out, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        for resnet in self.resnets:
            x = resnet(x, mask)
        return x if self.upsample is None else self.upsample(clear(nearest(x), mask))


def nearest(x: jax.Array) -> jax.Array:
    """x [B, H, W, C] -> [B, 2H, 2W, C], every pixel four times."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


class Encoder(nnx.Module):
    """Pixels [B, H, W, 3] -> mean and log-variance channels [B, h, w, 2C]."""

    def __init__(self, cfg: VAEConfig, *, rngs: Keys):
        widths, last = cfg.block_out_channels, len(cfg.block_out_channels) - 1
        self.conv_in = conv3(3, widths[0], rngs=rngs)
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.down = nnx.List([Down(a, b, cfg, last=i == last, rngs=rngs) for i, (a, b) in enumerate(pairs)])
        self.mid = Mid(widths[-1], cfg.norm_groups, rngs=rngs)
        self.norm_out = GroupNorm(widths[-1], cfg.norm_groups)
        self.conv_out = conv3(widths[-1], 2 * cfg.latent_channels, rngs=rngs)

    def __call__(self, pixels: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        x = self.conv_in(clear(pixels, mask))
        for block in self.down:
            x = block(x, mask)
        x = self.mid(x, mask)
        return self.conv_out(clear(jax.nn.silu(self.norm_out(x, mask)), mask))


class Decoder(nnx.Module):
    """Code [B, h, w, C] -> pixels [B, H, W, 3]."""

    def __init__(self, cfg: VAEConfig, *, rngs: Keys):
        widths, last = cfg.block_out_channels[::-1], len(cfg.block_out_channels) - 1
        self.conv_in = conv3(cfg.latent_channels, widths[0], rngs=rngs)
        self.mid = Mid(widths[0], cfg.norm_groups, rngs=rngs)
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.up = nnx.List([Up(a, b, cfg, last=i == last, rngs=rngs) for i, (a, b) in enumerate(pairs)])
        self.norm_out = GroupNorm(widths[-1], cfg.norm_groups)
        self.conv_out = conv3(widths[-1], 3, rngs=rngs)

    def __call__(self, code: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        x = self.mid(self.conv_in(clear(code, mask)), mask)
        for block in self.up:
            x = block(x, mask)
        return self.conv_out(clear(jax.nn.silu(self.norm_out(x, mask)), mask))


class VAE(nnx.Module):
    """Pixels in [-1, 1] to latents and back. The latent scale is applied here and nowhere else."""

    def __init__(self, cfg: VAEConfig, *, rngs: nnx.Rngs):
        self.cfg, keys = cfg, Keys(rngs.params())
        self.encoder = Encoder(cfg, rngs=keys)
        self.quant = conv1(2 * cfg.latent_channels, 2 * cfg.latent_channels, rngs=keys)
        self.post_quant = conv1(cfg.latent_channels, cfg.latent_channels, rngs=keys)
        self.decoder = Decoder(cfg, rngs=keys)

    def moments(self, pixels: jax.Array, size: jax.Array | None = None) -> Moments:
        """Posterior of pixels float32 [B, H, W, 3] in [-1, 1].

        size: int32 [2], height and width in pixels of the upper left part that is the image, multiples of the
        factor; None: all of it. What is returned outside of size / factor means nothing.
        Raises ValueError unless H and W are multiples of the factor.
        """
        for name, side in zip(("height", "width"), pixels.shape[1:3], strict=True):
            if side % self.cfg.factor:
                raise ValueError(f"{name} {side} is not a multiple of {self.cfg.factor}; pad or crop first")
        code = self.encoder(pixels, mask_of(size, *pixels.shape[1:3]))
        mean, logvar = jnp.split(self.quant(code), 2, axis=-1)
        return Moments(mean, jnp.clip(logvar, *LOGVAR_RANGE))

    def encode(self, pixels: jax.Array, size: jax.Array | None = None) -> jax.Array:
        """Latents [B, h, w, C] of pixels [B, H, W, 3]: the mode, scaled. size: as in `moments`."""
        return self.scaled(self.moments(pixels, size).mean)

    def decode(self, latents: jax.Array, size: jax.Array | None = None) -> jax.Array:
        """Pixels [B, H, W, 3], not clipped, of latents [B, h, w, C].

        size: int32 [2], height and width in latent cells of the upper left part that is the image; None: all
        of it. What is returned outside of size * factor means nothing.
        """
        factor = self.cfg.factor
        height, width = (factor * side for side in latents.shape[1:3])
        mask = mask_of(None if size is None else factor * size, height, width)
        return self.decoder(self.post_quant(self.unscaled(latents)), mask)

    def scaled(self, mean: jax.Array) -> jax.Array:
        return (mean - self.cfg.shift_factor) * self.cfg.scaling_factor

    def unscaled(self, latents: jax.Array) -> jax.Array:
        return latents / self.cfg.scaling_factor + self.cfg.shift_factor
