# SPDX-License-Identifier: Apache-2.0
"""What training minimises: the flow-matching loss of the transformer, the error of the autoencoder."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.checkpoints.flat import fill
from ditfuse_jax.models import flow
from ditfuse_jax.models.omnigen import Patches, Transformer, patchify
from ditfuse_jax.models.omnigen import row_length as own_length
from ditfuse_jax.models.vae import VAE
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.trainable import Frozen, Params, transformer, vae


def to_pixels(image: jax.Array) -> jax.Array:
    """uint8 [..., H, W, 3] -> float32 in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def condition(autoencoder: VAE, batch) -> tuple[Patches, jax.Array]:
    """Source patches of each row in slot order, [B, n P, 4 C], and the clean target latents [B, h, w, C]."""
    rows, count, height, width, _ = batch.sources.shape
    images = jnp.concatenate([batch.sources, batch.target[:, None]], axis=1).reshape(-1, height, width, 3)
    latents = jax.lax.stop_gradient(autoencoder.encode(to_pixels(images)))
    latents = latents.reshape(rows, count + 1, *latents.shape[1:])
    patches = patchify(latents[:, :count].reshape(-1, *latents.shape[2:]))
    absent = batch.prompt.slots[:, :, 1] == 0
    order = jnp.argsort(absent, axis=1, stable=True)  # present sources first
    values = patches.values.reshape(rows, count, -1, patches.values.shape[-1])
    values = jnp.take_along_axis(values, order[:, :, None, None], axis=1)
    sources = Patches(values.reshape(rows, -1, values.shape[-1]), patches.place.reshape(rows, -1, 2))
    return sources, latents[:, count]


class Draw(NamedTuple):
    """The random part of a step's loss; with an axis K behind B where every row has several."""

    t: jax.Array  # float32 [B] or [B, K]
    noise: jax.Array  # float32 [B, h, w, C] or [B, K, h, w, C]


def draw(key: jax.Array, batch, config: TrainConfig, *, several: tuple[int, ...] = ()) -> Draw:
    """t = sigmoid(N(0, 1)) and x_0 = N(0, 1) for all rows (official train.py); several: () or (K,)."""
    rows, height, width, _ = batch.target.shape
    shape = (height // config.vae.factor, width // config.vae.factor, config.vae.latent_channels)
    key_t, key_noise = jax.random.split(key)
    t = jax.nn.sigmoid(jax.random.normal(key_t, (rows, *several)))
    return Draw(t, jax.random.normal(key_noise, (rows, *several, *shape)))


def flow_loss(params: Params, frozen: Frozen, batch, drawn: Draw, config: TrainConfig) -> jax.Array:
    """Flow-matching loss of each row, float32 [B] (paper eq. 5)."""
    model = fill(transformer(config), params | frozen.model)
    sources, x_1 = condition(fill(vae(config), frozen.vae), batch)
    return velocity_loss(model, batch.prompt, sources, x_1, drawn)


def velocity_loss(model: Transformer, prompt, sources: Patches, x_1: jax.Array, drawn: Draw) -> jax.Array:
    """Mean square error of the velocity of each row, float32 [B]; x_1 clean latents [B, h, w, C].

    Several draws of a row share one pass over its condition, and the loss is their mean.
    """
    if drawn.t.ndim == 2:
        return _mean_of_draws(model, prompt, sources, x_1, drawn)
    target, noise = patchify(x_1), patchify(drawn.noise)
    x_t = target._replace(values=flow.interpolate(noise.values, target.values, drawn.t))
    num_target = jnp.full((x_1.shape[0],), target.values.shape[1], jnp.int32)
    rope_length = own_length(prompt, num_target)
    velocity = model(prompt, sources, x_t, drawn.t, num_target=num_target, rope_length=rope_length)
    return flow.loss(velocity, noise.values, target.values, num_target)


def _mean_of_draws(model: Transformer, prompt, sources: Patches, x_1: jax.Array, drawn: Draw) -> jax.Array:
    """`velocity_loss` of K draws: the target's tokens K times, the prefix once."""
    rows, count = drawn.t.shape
    repeat = functools.partial(jnp.repeat, repeats=count, axis=0)
    noise = patchify(drawn.noise.reshape(-1, *drawn.noise.shape[2:]))
    target = jax.tree.map(repeat, patchify(x_1))
    t = drawn.t.reshape(-1)
    x_t = target._replace(values=flow.interpolate(noise.values, target.values, t))
    num_target = jnp.full((rows,), target.values.shape[1], jnp.int32)
    rope_length = own_length(prompt, num_target)
    cache = model.prefix(prompt, sources, rope_length=rope_length, unroll=True)
    cache = jax.tree.map(lambda x: jnp.repeat(x, count, axis=1), cache)
    prompt, num_target, rope_length = jax.tree.map(repeat, (prompt, num_target, rope_length))
    velocity = model.velocity(
        x_t, t, cache, prompt, num_target=num_target, rope_length=rope_length, unroll=True
    )
    return flow.loss(velocity, noise.values, target.values, num_target).reshape(rows, count).mean(axis=1)


def vae_loss(params: Params, frozen: Frozen, batch, drawn: Draw, config: TrainConfig) -> jax.Array:
    """Reconstruction and KL of each row [B]; drawn.t under the share of sources picks one of the two."""
    weights = config.vae_training
    autoencoder = fill(vae(config), params | frozen.vae)
    t = drawn.t[:, None, None, None]
    source = jnp.where(t < weights.sources / 2, batch.sources[:, 0], batch.sources[:, 1])
    pixels = to_pixels(jnp.where(t < weights.sources, source, batch.target))
    mean, logvar = autoencoder.moments(pixels)
    code = mean + jnp.exp(0.5 * logvar) * drawn.noise
    error = autoencoder.decode(autoencoder.scaled(code)) - pixels
    kl = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar)
    rmse = jnp.sqrt(rows_mean(jnp.square(error)) + 1e-6)
    loss = (1 - weights.rmse) * rows_mean(jnp.abs(error)) + weights.rmse * rmse
    return loss + weights.edges * edge_error(error) + weights.kl * rows_mean(kl)


def edge_error(error: jax.Array) -> jax.Array:
    """Mean absolute difference of neighbouring errors, [B]: what blur costs."""
    vertical, horizontal = error[:, 1:] - error[:, :-1], error[:, :, 1:] - error[:, :, :-1]
    return 0.5 * (rows_mean(jnp.abs(vertical)) + rows_mean(jnp.abs(horizontal)))


def rows_mean(x: jax.Array) -> jax.Array:
    return x.mean(axis=tuple(range(1, x.ndim)))


LOSSES = {"model": flow_loss, "vae": vae_loss}
