# SPDX-License-Identifier: Apache-2.0
"""Loss on held-out samples with fixed noise and times, and a grid of pictures to look at."""

import functools
import statistics
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from PIL import Image

from ditfuse_jax.checkpoints.flat import fill
from ditfuse_jax.data.config import TASKS
from ditfuse_jax.image import to_image, to_pixels
from ditfuse_jax.models import flow
from ditfuse_jax.models.omnigen import patchify, row_length, unpatchify
from ditfuse_jax.ops.products import exact_products
from ditfuse_jax.ops.tuning import PORTABLE, Tuning
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.losses import Draw, condition, draw
from ditfuse_jax.training.step import held_out_losses
from ditfuse_jax.training.trainable import Frozen, Params, transformer, vae

VALIDATION_KEY = 2**31  # folded into the run's key; training folds steps, which are smaller
GAP = 4  # pixels between pictures


class HeldOut(NamedTuple):
    """The fixed batches, on the mesh, with their noise and times."""

    batches: tuple
    draws: tuple[Draw, ...]


def held_out(batches, config: TrainConfig) -> HeldOut:
    """Fixes noise and times: the times of a batch are the quantiles of sigmoid(N(0, 1)), one per row."""
    key = jax.random.fold_in(jax.random.key(config.seed), VALIDATION_KEY)
    draws = []
    for number, batch in enumerate(batches):
        place = batch.target.sharding
        drawn = _draw(jax.random.fold_in(key, number), batch, config=config, place=place)
        normal = statistics.NormalDist()
        rows = drawn.t.shape[0]
        quantiles = [normal.inv_cdf((row + 0.5) / rows) for row in range(rows)]
        times = 1 / (1 + np.exp(-np.array(quantiles, np.float32)))
        times = times if config.stage == "model" else np.ones_like(times)  # the autoencoder sees targets only
        draws.append(drawn._replace(t=jax.device_put(times, place)))
    return HeldOut(tuple(batches), tuple(draws))


@functools.partial(jax.jit, static_argnames=("config", "place"))
def _draw(key, batch, *, config, place):
    """Only shapes of the batch count, so its devices must be named: a draw of its own would lie on one."""
    return jax.lax.with_sharding_constraint(draw(key, batch, config), place)


def losses(
    params: Params, frozen: Frozen, fixed: HeldOut, config: TrainConfig, tuning: Tuning = PORTABLE
) -> dict:
    """{"loss": mean over all rows, "task_loss": {task: mean}}."""
    pairs = zip(fixed.batches, fixed.draws, strict=True)
    run = functools.partial(held_out_losses, params, frozen, config=config, tuning=tuning)
    found = [(run(batch, drawn), batch.task) for batch, drawn in pairs]
    rows = np.concatenate([fetch(loss) for loss, _ in found])
    tasks = np.concatenate([fetch(task) for _, task in found])
    return {
        "loss": float(rows.mean()),
        "task_loss": {TASKS[task]: float(rows[tasks == task].mean()) for task in np.unique(tasks)},
    }


def pictures(
    params: Params, frozen: Frozen, fixed: HeldOut, config: TrainConfig, tuning: Tuning = PORTABLE
) -> np.ndarray:
    """uint8 [H, W, 3]: one row of sources, result, target for each of the first rows."""
    make = functools.partial(fused, tuning=tuning) if config.stage == "model" else reconstructed
    batch, drawn = fixed.batches[0], fixed.draws[0]
    result = fetch(make(params, frozen, batch, drawn, config=config))
    images = np.concatenate([fetch(batch.sources), result[:, None], fetch(batch.target)[:, None]], axis=1)
    return grid(images[: config.picture_rows])


@functools.partial(jax.jit, static_argnames=("config", "tuning"))
@exact_products
def fused(
    params: Params, frozen: Frozen, batch, drawn: Draw, *, config: TrainConfig, tuning: Tuning
) -> jax.Array:
    """The conditional branch alone, config.picture_steps Euler steps from drawn.noise; uint8 [B, H, W, 3]."""
    model = fill(transformer(config, tuning), params | frozen.model)
    autoencoder = fill(vae(config), frozen.vae)
    sources = condition(autoencoder, batch, padded=False).sources  # validation's images fill their arrays
    noise = patchify(drawn.noise)
    num_target = jnp.full(drawn.t.shape, noise.values.shape[1], jnp.int32)
    rope_length = row_length(batch.prompt, num_target)
    cache = model.prefix(batch.prompt, sources, rope_length=rope_length)

    def velocity(values, t):
        x, t = noise._replace(values=values), jnp.broadcast_to(t, num_target.shape)
        return model.velocity(x, t, cache, batch.prompt, num_target=num_target, rope_length=rope_length)

    values = flow.sample(velocity, noise.values, flow.times(config.picture_steps))
    return to_image(autoencoder.decode(unpatchify(values, *drawn.noise.shape[1:3])))


@functools.partial(jax.jit, static_argnames="config")
@exact_products
def reconstructed(params: Params, frozen: Frozen, batch, drawn: Draw, *, config: TrainConfig) -> jax.Array:
    """The target through the autoencoder, uint8 [B, H, W, 3]."""
    autoencoder = fill(vae(config), params)
    return to_image(autoencoder.decode(autoencoder.encode(to_pixels(batch.target))))


def psnr(result: np.ndarray, target: np.ndarray) -> float:
    """Mean over images of the PSNR of uint8 [B, H, W, 3], in dB."""
    error = np.square(result.astype(np.float64) - target).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255.0**2 / np.maximum(error, 1e-3))))


def grid(images: np.ndarray) -> np.ndarray:
    """uint8 [rows, columns, H, W, 3] as one picture on white."""
    rows, columns, height, width, _ = images.shape
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + GAP), column * (width + GAP)
            sheet[top : top + height, left : left + width] = images[row, column]
    return sheet


def write_picture(image: np.ndarray, path: Path) -> None:
    """PNG, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    Image.fromarray(image).save(temporary, format="PNG")
    temporary.replace(path)


def fetch(array: jax.Array) -> np.ndarray:
    """The whole of a batch-sharded array, in every process."""
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
