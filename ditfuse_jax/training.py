# SPDX-License-Identifier: Apache-2.0
"""State, losses and the one step that trains an adapter, the whole transformer or the autoencoder."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from ditfuse_jax import flow
from ditfuse_jax.data.mixture import TASKS
from ditfuse_jax.lora import LoRAParam
from ditfuse_jax.model import Patches, Transformer, patchify
from ditfuse_jax.model import row_length as own_length
from ditfuse_jax.optimizer import learning_rate, optimizer
from ditfuse_jax.precision import exact_products
from ditfuse_jax.sharding import replicated, shardings
from ditfuse_jax.train_config import TrainConfig
from ditfuse_jax.vae import VAE

Params = dict[str, jax.Array]  # {dot path: array}, the names of the checkpoint folder


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


class Frozen(NamedTuple):
    """What does not train: read by the step, never differentiated, donated or saved."""

    model: Params
    vae: Params


class Metrics(NamedTuple):
    """Of one step, on the device."""

    loss: jax.Array
    grad_norm: jax.Array  # before clipping
    learning_rate: jax.Array
    task_loss: jax.Array  # [tasks] mean loss of the rows of each task, 0 where there are none
    task_rows: jax.Array  # [tasks]
    stop: jax.Array  # bool: some process was asked to stop


# --- networks as flat parameters ---


def transformer(config: TrainConfig):
    """The transformer without memory: shapes only."""
    return nnx.eval_shape(lambda: Transformer(config.model, rngs=nnx.Rngs(0)))


def vae(config: TrainConfig):
    return nnx.eval_shape(lambda: VAE(config.vae, rngs=nnx.Rngs(0)))


def flatten(module) -> dict[str, nnx.Variable]:
    """{dot path: variable} of a module."""
    state = nnx.state(module, (nnx.Param, LoRAParam, nnx.Variable))
    return {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}


def fill(module, params: Params):
    """The module with the arrays of `params` in place of its own."""
    graph, state = nnx.split(module)
    leaves = [
        (path, leaf.replace(params[".".join(map(str, path))])) for path, leaf in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(leaves))


def trains(variable: nnx.Variable, config: TrainConfig) -> bool:
    """The filter: the adapter where there is one, else every parameter (never a stored table)."""
    kind = LoRAParam if config.stage == "model" and config.model.lora else nnx.Param
    return isinstance(variable, kind)


def shapes(config: TrainConfig) -> tuple[Params, Frozen]:
    """Shapes and dtypes of what trains and of what does not."""
    own = flatten(transformer(config) if config.stage == "model" else vae(config))
    trained = {name: _shape(leaf, jnp.float32) for name, leaf in own.items() if trains(leaf, config)}
    rest = {name: _shape(leaf, config.frozen_dtype) for name, leaf in own.items() if name not in trained}
    if config.stage == "vae":
        return trained, Frozen({}, rest)
    return trained, Frozen(
        rest, {name: _shape(leaf, jnp.float32) for name, leaf in flatten(vae(config)).items()}
    )


def _shape(variable: nnx.Variable, dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(variable.shape, dtype)


# --- parameters, born sharded ---


def random_params(config: TrainConfig, mesh: Mesh) -> tuple[Params, Frozen]:
    """Freshly initialised parameters, each made on the devices that hold it; unused ones are never made."""
    trained, frozen = shapes(config)

    def build():
        rngs = nnx.Rngs(jax.random.fold_in(jax.random.key(config.seed), 0))
        nets = {"vae": flatten(VAE(config.vae, rngs=rngs))}
        if config.stage == "model":
            nets["model"] = flatten(Transformer(config.model, rngs=rngs))
        return (
            _take(nets[config.stage], trained),
            Frozen(_take(nets.get("model", {}), frozen.model), _take(nets["vae"], frozen.vae)),
        )

    places = (shardings(trained, mesh), Frozen(shardings(frozen.model, mesh), shardings(frozen.vae, mesh)))
    # Run once: on CPU the full optimisation of its random numbers would take ten times as long, 20 s if tiny.
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(build, out_shardings=places, compiler_options=quick)()


def _take(variables: dict[str, nnx.Variable], wanted: Params) -> Params:
    return {name: variables[name][...].astype(leaf.dtype) for name, leaf in wanted.items()}


def new_state(params: Params, config: TrainConfig, mesh: Mesh) -> TrainState:
    """The state before the first step, around `params`."""

    def build(params):
        opt_state = optimizer(config.optim, config.steps).init(params)
        ema = jax.tree.map(jnp.copy, params) if config.optim.ema_decay else {}
        return TrainState(jnp.int32(0), params, opt_state, ema)

    return jax.jit(build, out_shardings=state_shardings(jax.eval_shape(build, params), mesh))(params)


def state_shardings(state: TrainState, mesh: Mesh) -> TrainState:
    """Where each leaf of a state lies: moments and averages as their parameter, counters everywhere."""
    of_params = shardings(state.params, mesh)

    def place(path, leaf):
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        return of_params.get(names[-1], replicated(mesh)) if names else replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, state)


# --- losses ---


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


# --- the step ---


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


@functools.partial(jax.jit, static_argnames="config", donate_argnames="state")
@exact_products
def train_step(
    state: TrainState, frozen: Frozen, batch, stop, *, config: TrainConfig
) -> tuple[TrainState, Metrics]:
    """One optimizer step on a batch of B rows.

    Args:
      batch: a `Batch` on the mesh. stop: bool [rows holders], true where a process was asked to stop.
    Gradients exist only for state.params.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    batch, drawn = step_input(key, batch, config)
    losses, grads = accumulate(state.params, frozen, batch, drawn, config)
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
    params: Params, frozen: Frozen, batch, drawn: Draw, config: TrainConfig
) -> tuple[jax.Array, Params]:
    """Loss of each row [B] and the gradient of their mean, one micro-batch after the other."""

    def objective(params, batch, drawn):
        losses = LOSSES[config.stage](params, frozen, batch, drawn, config)
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
    """Moving average with a ramp, so that the first steps are forgotten soon."""
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return {name: decay * value + (1.0 - decay) * params[name] for name, value in ema.items()}


def per_task(losses: jax.Array, task: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean loss and number of rows of each task, each [tasks]."""
    member = jax.nn.one_hot(task, len(TASKS), dtype=jnp.float32)  # [B, tasks]
    rows = member.sum(axis=0)
    return losses @ member / jnp.maximum(rows, 1.0), rows


@functools.partial(jax.jit, static_argnames="config")
@exact_products
def held_out_losses(params: Params, frozen: Frozen, batch, drawn: Draw, *, config: TrainConfig) -> jax.Array:
    """Loss of each row [B] with the given noise and times."""
    return LOSSES[config.stage](params, frozen, batch, drawn, config)


@jax.jit
def sizes(frozen: Frozen) -> dict[str, jax.Array]:
    """{name: mean absolute value} of all that is frozen, by which it is known again."""
    parts = {f"{part}.{name}": x for part, params in frozen._asdict().items() for name, x in params.items()}
    return {name: jnp.abs(x.astype(jnp.float32)).mean() for name, x in parts.items()}


@functools.partial(jax.jit, static_argnames="config")
def code_statistics(params: Params, images: jax.Array, *, config: TrainConfig) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of the autoencoder's codes of uint8 images [B, H, W, 3]."""
    code = fill(vae(config), params).moments(to_pixels(images)).mean
    return code.mean(), code.std()
