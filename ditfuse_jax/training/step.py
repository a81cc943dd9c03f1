# SPDX-License-Identifier: Apache-2.0
"""The state, and the one step that trains an adapter, the whole transformer or the autoencoder."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ditfuse_jax.checkpoints.flat import fill
from ditfuse_jax.data.config import TASKS
from ditfuse_jax.image import to_pixels
from ditfuse_jax.ops.products import exact_products
from ditfuse_jax.ops.tuning import PORTABLE, Tuning
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.losses import Draw, draw, row_losses
from ditfuse_jax.training.optimizer import learning_rate, optimizer
from ditfuse_jax.training.sharding import replicated, shardings
from ditfuse_jax.training.trainable import Frozen, Params, shapes, vae


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("step", "params", "opt_state", "ema"), meta_fields=()
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that changes. The data position is `step`, the key of a step is fold_in(key(seed), step)."""

    step: jax.Array  # int32, steps done
    params: Params  # what trains, float32
    opt_state: optax.OptState
    ema: Params  # moving average of params; empty without


class Metrics(NamedTuple):
    """Of one step, on the device."""

    loss: jax.Array
    grad_norm: jax.Array  # before clipping
    learning_rate: jax.Array
    task_loss: jax.Array  # [tasks] mean loss of the rows of each task, 0 where there are none
    task_rows: jax.Array  # [tasks]
    stop: jax.Array  # bool: some process was asked to stop


def new_state(params: Params, config: TrainConfig, mesh: Mesh) -> TrainState:
    """The state before the first step, around `params`."""
    build = functools.partial(_build_state, config=config)
    return jax.jit(build, out_shardings=state_shardings(state_shapes(config), mesh))(params)


def state_shapes(config: TrainConfig) -> TrainState:
    """Shapes and dtypes of a state, without memory."""
    return jax.eval_shape(functools.partial(_build_state, config=config), shapes(config)[0])


def _build_state(params: Params, *, config: TrainConfig) -> TrainState:
    opt_state = optimizer(config.optim, config.steps).init(params)
    ema = jax.tree.map(jnp.copy, params) if config.optim.ema_decay else {}
    return TrainState(jnp.int32(0), params, opt_state, ema)


def state_shardings(state: TrainState, mesh: Mesh) -> TrainState:
    """Where each leaf of a state lies: moments and averages as their parameter, counters everywhere."""
    of_params = shardings(state.params, mesh)

    def place(path, leaf):
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        return of_params.get(names[-1], replicated(mesh)) if names else replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, state)


def step_input(key: jax.Array, batch, config: TrainConfig):
    """The batch and its `draw`; for the autoencoder crops of it, and uniform picks instead of times."""
    if config.stage == "model":
        return batch, draw(key, batch, config, several=(config.draws,) if config.draws > 1 else ())
    key_pick, key_crop = jax.random.split(jax.random.fold_in(key, 1))
    if config.vae_training.crop:
        batch = cropped(key_crop, batch, config.vae_training.crop)
    drawn = draw(key, batch, config)
    return batch, drawn._replace(t=jax.random.uniform(key_pick, drawn.t.shape))


def cropped(key: jax.Array, batch, side: int):
    """A square window of `side` pixels of each row's images, all at the same random place."""
    rows, height, width, _ = batch.target.shape
    top, left = jax.random.randint(key, (2, rows), 0, jnp.array([[height - side + 1], [width - side + 1]]))

    def window(image, top, left):  # [..., H, W, 3]
        start = (*[0] * (image.ndim - 3), top, left, 0)
        return jax.lax.dynamic_slice(image, start, (*image.shape[:-3], side, side, 3))

    sources, target = (jax.vmap(window)(images, top, left) for images in (batch.sources, batch.target))
    return batch._replace(sources=sources, target=target)


def train_step(
    state: TrainState, frozen: Frozen, batch, stop, *, config: TrainConfig, tuning: Tuning = PORTABLE
) -> tuple[TrainState, Metrics]:
    """One optimizer step on a batch of B rows, compiled; the memory of `state` goes to the new one.

    Args:
      batch: a `Batch` on the mesh. stop: bool [rows holders], true where a process was asked to stop.
    Gradients exist only for state.params.
    """
    return step_program(tuning)(state, frozen, batch, stop, config=config)


@functools.cache
def step_program(tuning: Tuning):
    """The `jax.jit` behind `train_step`."""
    step = exact_products(functools.partial(_train_step, tuning=tuning))
    return jax.jit(step, static_argnames="config", donate_argnames="state", **tuning.jit_options())


def _train_step(state, frozen, batch, stop, *, config, tuning) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    batch, drawn = step_input(key, batch, config)
    losses, grads = accumulate(state.params, frozen, batch, drawn, config, tuning)
    updates, opt_state = optimizer(config.optim, config.steps).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    new = TrainState(
        state.step + 1, params, opt_state, averaged(state.ema, params, state.step, config.optim.ema_decay)
    )
    rate = learning_rate(config.optim, config.steps)(state.step)
    task_loss, task_rows = per_task(losses, batch.task)
    metrics = Metrics(losses.mean(), optax.tree.norm(grads), rate, task_loss, task_rows, jnp.any(stop))
    return new, metrics


def accumulate(
    params: Params, frozen: Frozen, batch, drawn: Draw, config: TrainConfig, tuning: Tuning = PORTABLE
) -> tuple[jax.Array, Params]:
    """Loss of each row [B] and the gradient of their mean, one micro-batch after the other."""

    def objective(params, batch, drawn):
        losses = row_losses(params, frozen, batch, drawn, config, tuning)
        return losses.mean(), losses

    gradient = jax.grad(objective, has_aux=True)
    parts = config.optim.accumulation
    if parts == 1:
        grads, losses = gradient(params, batch, drawn)
        return losses, grads

    def add(total, part):
        grads, losses = gradient(params, *part)
        return jax.tree.map(lambda a, b: a + b / parts, total, grads), losses

    def split(x):  # every part takes rows of every device: [B, ...] -> [parts, B / parts, ...]
        return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)

    zeros = jax.tree.map(jnp.zeros_like, params)
    grads, losses = jax.lax.scan(add, zeros, jax.tree.map(split, (batch, drawn)))
    return jnp.moveaxis(losses, 0, 1).reshape(-1), grads


def averaged(ema: Params, params: Params, step: jax.Array, decay: float) -> Params:
    """Moving average with a ramp, so that the first steps are forgotten soon; empty stays empty."""
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(params, ema, 1.0 - decay) if ema else ema


def per_task(losses: jax.Array, task: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean loss and number of rows of each task, each [tasks]."""
    member = jax.nn.one_hot(task, len(TASKS), dtype=jnp.float32)  # [B, tasks]
    rows = member.sum(axis=0)
    return losses @ member / jnp.maximum(rows, 1.0), rows


@functools.partial(jax.jit, static_argnames=("config", "tuning"))
@exact_products
def held_out_losses(
    params: Params, frozen: Frozen, batch, drawn: Draw, *, config: TrainConfig, tuning: Tuning = PORTABLE
) -> jax.Array:
    """Loss of each row [B] with the given noise and times."""
    return row_losses(params, frozen, batch, drawn, config, tuning)


@jax.jit
def sizes(frozen: Frozen) -> dict[str, jax.Array]:
    """{name: mean absolute value} of all that is frozen: its fingerprint."""
    parts = {f"{part}.{name}": x for part, params in frozen._asdict().items() for name, x in params.items()}
    return {name: jnp.abs(x.astype(jnp.float32)).mean() for name, x in parts.items()}


@functools.partial(jax.jit, static_argnames="config")
def code_statistics(params: Params, images: jax.Array, *, config: TrainConfig) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of the autoencoder's codes of uint8 images [B, H, W, 3]."""
    code = fill(vae(config), params).moments(to_pixels(images)).mean
    return code.mean(), code.std()
