# SPDX-License-Identifier: Apache-2.0
"""What training minimises: the flow-matching loss of the transformer, the error of the autoencoder."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.checkpoints.flat import fill
from ditfuse_jax.config import PATCH, POSITION_GRID
from ditfuse_jax.image import to_pixels
from ditfuse_jax.models import flow, padded_vae
from ditfuse_jax.models.omnigen import Patches, Transformer, cut
from ditfuse_jax.models.omnigen import row_length as own_length
from ditfuse_jax.models.vae import VAE
from ditfuse_jax.ops.tuning import Tuning
from ditfuse_jax.training.config import DistilConfig, TrainConfig
from ditfuse_jax.training.trainable import Frozen, Params, transformer, vae


class Condition(NamedTuple):
    """What a row is made from and what it should become."""

    sources: Patches  # [B, n P, ...] in slot order, without gaps
    target: jax.Array  # clean latents [B, h, w, C], valid in the upper left
    grid: jax.Array  # int32 [B, 2]: rows and columns of patches of each row's images


def condition(autoencoder: VAE, batch, *, padded: bool) -> Condition:
    """Latents of a batch; `padded`: its images may be smaller than their arrays, as batch.size says."""
    rows, count, height, width, _ = batch.sources.shape
    images = jnp.concatenate([batch.sources, batch.target[:, None]], axis=1).reshape(-1, height, width, 3)
    if padded:
        latents = padded_vae.encode_rows(
            autoencoder, to_pixels(images), jnp.repeat(batch.size, count + 1, axis=0)
        )
    else:
        latents = autoencoder.encode(to_pixels(images))
    latents = jax.lax.stop_gradient(latents).reshape(rows, count + 1, *latents.shape[1:])
    grid = batch.size // (PATCH * autoencoder.cfg.factor)
    patches = packed(latents[:, :count].reshape(-1, *latents.shape[2:]), jnp.repeat(grid, count, axis=0))
    return Condition(in_slot_order(patches, batch.prompt.slots, grid), latents[:, count], grid)


def packed(latents: jax.Array, grid: jax.Array) -> Patches:
    """The upper left grid, int32 [B, 2], of the patches of latents [B, h, w, C], row by row and without gaps.

    What follows a row's own patches means nothing. For a full grid this is `patchify`.
    """
    values, columns = cut(latents), latents.shape[2] // PATCH
    number = jnp.arange(values.shape[1])[None, :]
    place = jnp.stack([number // grid[:, 1:], number % grid[:, 1:]], axis=-1)  # [B, P, 2]
    index = place[..., 0] * columns + place[..., 1]  # past the last patch it is clipped
    centred = place + (POSITION_GRID - grid)[:, None, :] // 2
    values = jnp.take_along_axis(values, index[:, :, None], axis=1, mode="clip")
    return Patches(values, jnp.minimum(centred, POSITION_GRID - 1))


def in_slot_order(patches: Patches, slots: jax.Array, grid: jax.Array) -> Patches:
    """Packed patches [B n, P, ...] of n sources -> [B, n P, ...], those of present sources first."""
    rows, count, _ = slots.shape
    order = jnp.argsort(slots[:, :, 1] == 0, axis=1, stable=True)  # [B, n]
    length, number = patches.values.shape[1], grid.prod(axis=1)[:, None]
    token = jnp.arange(count * length)[None, :]
    source = jnp.take_along_axis(order, jnp.minimum(token // number, count - 1), axis=1)
    index = (source * length + token % number)[:, :, None]
    parts = (part.reshape(rows, count * length, -1) for part in patches)
    return Patches(*(jnp.take_along_axis(part, index, axis=1) for part in parts))


class Draw(NamedTuple):
    """The random part of a step's loss; with an axis K behind B where every row has several."""

    t: jax.Array  # float32 [B] or [B, K]
    noise: jax.Array  # float32 [B, h, w, C] or [B, K, h, w, C]


def draw(key: jax.Array, batch, config: TrainConfig, *, several: tuple[int, ...] = ()) -> Draw:
    """t = sigmoid(N(0, 1)) and x_0 = N(0, 1) for all rows (official train.py); several: () or (K,).

    Of the times a share of config.zero_time is 0 instead, the same in every row up to one draw.
    """
    rows, height, width, _ = batch.target.shape
    shape = (height // config.vae.factor, width // config.vae.factor, config.vae.latent_channels)
    key_t, key_noise = jax.random.split(key)
    t = jax.nn.sigmoid(jax.random.normal(key_t, (rows, *several)))
    if config.zero_time:
        t = jnp.where(at_noise(jax.random.fold_in(key_t, 1), t.shape, config.zero_time), 0.0, t)
    return Draw(t, jax.random.normal(key_noise, (rows, *several, *shape)))


def at_noise(key: jax.Array, shape: tuple[int, ...], share: float) -> jax.Array:
    """Bool of shape [B] or [B, K], true for `share` of the draws: of K = 2 at 0.5 exactly one of each row."""
    count = shape[1] if len(shape) == 2 else 1
    start = jax.random.uniform(key, (shape[0], 1))
    return ((jnp.arange(count)[None, :] + start) / count < share).reshape(shape)


def row_losses(
    params: Params, frozen: Frozen, batch, drawn: Draw, config: TrainConfig, tuning: Tuning
) -> jax.Array:
    """The loss of the run's stage for each row, float32 [B]."""
    if config.stage == "vae":
        return vae_loss(params, frozen, batch, drawn, config)
    return flow_loss(params, frozen, batch, drawn, config, tuning)


def flow_loss(
    params: Params, frozen: Frozen, batch, drawn: Draw, config: TrainConfig, tuning: Tuning
) -> jax.Array:
    """Flow-matching loss of each row, float32 [B] (paper eq. 5)."""
    model = fill(transformer(config, tuning), params | frozen.model)
    found = condition(fill(vae(config), frozen.vae), batch, padded=config.mixture.varied)
    if config.distil:
        return distil_loss(model, teacher(frozen, config, tuning), batch, found, drawn, config.distil)
    return velocity_loss(model, batch.prompt, found, drawn)


def teacher(frozen: Frozen, config: TrainConfig, tuning: Tuning) -> Transformer:
    """The base without the adapter."""
    plain = dataclasses.replace(config.model, lora=None)
    return fill(transformer(dataclasses.replace(config, model=plain, distil=None), tuning), frozen.model)


def distil_loss(
    model: Transformer, teacher: Transformer, batch, found: Condition, drawn: Draw, distil: DistilConfig
) -> jax.Array:
    """`velocity_loss` against s * teacher + (1 - s) * (x_1 - x_0), s = distil.share; float32 [B].

    The teacher is guided, all of its branches on the batch axis; the student is the cond branch alone.
    """
    target, noise = packed(found.target, found.grid), packed(drawn.noise, found.grid)
    x_t = target._replace(values=flow.interpolate(noise.values, target.values, drawn.t))
    num_target = found.grid.prod(axis=1)

    def velocity(model, prompts):
        many = functools.partial(jax.tree.map, lambda x: jnp.concatenate([x] * len(prompts)))
        prompt = jax.tree.map(lambda *parts: jnp.concatenate(parts), *prompts)
        count = many(num_target)
        lengths = {"num_target": count, "rope_length": own_length(prompt, count)}
        return model(prompt, many(found.sources), many(x_t), many(drawn.t), **lengths)

    guidance = flow.Guidance(distil.guidance, distil.image_guidance)
    prompts = dict(zip(flow.BRANCHES, (batch.prompt, *batch.branches), strict=True))
    taught = velocity(teacher, [prompts[name] for name in flow.branches(guidance)])
    taught = jax.lax.stop_gradient(flow.guide(taught, guidance))
    data = target.values - noise.values
    wanted = noise.values + data + distil.share * (taught - data)
    return flow.loss(velocity(model, [batch.prompt]), noise.values, wanted, num_target)


def velocity_loss(model: Transformer, prompt, found: Condition, drawn: Draw) -> jax.Array:
    """Mean square error of the velocity of each row's own patches, float32 [B].

    Several draws of a row share one pass over its condition, and the loss is their mean.
    """
    if drawn.t.ndim == 2:
        return _mean_of_draws(model, prompt, found, drawn)
    target, noise = packed(found.target, found.grid), packed(drawn.noise, found.grid)
    x_t = target._replace(values=flow.interpolate(noise.values, target.values, drawn.t))
    num_target = found.grid.prod(axis=1)
    rope_length = own_length(prompt, num_target)
    velocity = model(prompt, found.sources, x_t, drawn.t, num_target=num_target, rope_length=rope_length)
    return flow.loss(velocity, noise.values, target.values, num_target)


def _mean_of_draws(model: Transformer, prompt, found: Condition, drawn: Draw) -> jax.Array:
    """`velocity_loss` of K draws: the target's tokens K times, the prefix once."""
    rows, count = drawn.t.shape
    repeat = functools.partial(jnp.repeat, repeats=count, axis=0)
    noise = packed(drawn.noise.reshape(-1, *drawn.noise.shape[2:]), repeat(found.grid))
    target = jax.tree.map(repeat, packed(found.target, found.grid))
    t = drawn.t.reshape(-1)
    x_t = target._replace(values=flow.interpolate(noise.values, target.values, t))
    num_target = found.grid.prod(axis=1)
    rope_length = own_length(prompt, num_target)
    cache = model.prefix(prompt, found.sources, rope_length=rope_length)
    cache = jax.tree.map(lambda x: jnp.repeat(x, count, axis=1), cache)
    prompt, num_target, rope_length = jax.tree.map(repeat, (prompt, num_target, rope_length))
    velocity = model.velocity(x_t, t, cache, prompt, num_target=num_target, rope_length=rope_length)
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
