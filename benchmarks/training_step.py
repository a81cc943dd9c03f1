# SPDX-License-Identifier: Apache-2.0
"""The training step of this library without the autoencoder, as benchmarks/training.py and others time it."""

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from ditfuse_jax.cli import environment  # noqa: E402

if "DITFUSE_FLAGS" not in os.environ:  # as train.py; not in the processes whose flags are compared
    environment.for_training()

import dataclasses  # noqa: E402
import functools  # noqa: E402
from typing import NamedTuple  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402

from ditfuse_jax.checkpoints.flat import fill, flatten  # noqa: E402
from ditfuse_jax.config import PATCH, TransformerConfig  # noqa: E402
from ditfuse_jax.models import outline  # noqa: E402
from ditfuse_jax.models.omnigen import Patches, Transformer, patchify  # noqa: E402
from ditfuse_jax.ops.tuning import Tuning  # noqa: E402
from ditfuse_jax.prompt import Prompt  # noqa: E402
from ditfuse_jax.training import losses  # noqa: E402
from ditfuse_jax.training.config import OptimConfig, load  # noqa: E402
from ditfuse_jax.training.optimizer import optimizer  # noqa: E402

TEXT, RANK, RATE = 96, 64, 1e-4


class Inputs(NamedTuple):
    prompt: Prompt
    sources: np.ndarray  # float32 [B, 2, h, w, C]
    x_1: np.ndarray  # float32 [B, h, w, C]
    x_0: np.ndarray
    t: np.ndarray  # float32 [B]


def make_inputs(rows: int, cells: int, channels: int) -> Inputs:
    """Full rows: TEXT words, two source images of cells x cells latents, no padding."""
    rng, count = np.random.default_rng(0), cells**2 // 4
    length = TEXT + 2 * count
    visible = np.tile(np.arange(1, length + 1, dtype=np.int32), (rows, 1))
    slots = np.tile(np.array([[40, 40 + count], [50 + count, 50 + 2 * count]], np.int32), (rows, 1, 1))
    for start, stop in slots[0]:
        visible[:, start:stop] = stop
    positions = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    ids = rng.integers(3, 1000, (rows, length)).astype(np.int32)
    prompt = Prompt(ids, positions, visible, np.zeros(rows, np.int32), slots)
    shape = (rows, cells, cells, channels)
    normal = [rng.standard_normal((rows, 2, *shape[1:])), *(rng.standard_normal(shape) for _ in range(2))]
    return Inputs(
        prompt, *(x.astype(np.float32) for x in normal), rng.uniform(0.1, 0.9, rows).astype(np.float32)
    )


class Here:
    """The step of ditfuse_jax.training without the VAE, tuned as on one device of this machine."""

    def __init__(
        self, cfg: TransformerConfig, base: dict, inputs: Inputs, dtype: str, tuning: Tuning | None = None
    ):
        self.cfg, self.inputs = dataclasses.replace(cfg, dtype=dtype), inputs
        tuning = tuning or Tuning.choose(jax.default_backend(), 1)
        own = flatten(outline.transformer(self.cfg))
        if cfg.lora:
            frozen_dtype = jnp.dtype(dtype)
            self.frozen = {name: jnp.asarray(x, frozen_dtype) for name, x in base.items()}
            trained = {name: leaf for name, leaf in own.items() if "lora" in name}
            keys = jax.random.split(jax.random.key(0), len(trained))
            self.params = {
                name: jax.random.normal(key, leaf.shape) / RANK * name.endswith("lora_a")
                for key, (name, leaf) in zip(keys, trained.items(), strict=True)
            }
        else:
            self.frozen, self.params = {}, {name: jnp.array(x) for name, x in base.items()}
        self.tx = optimizer(OptimConfig(learning_rate=RATE), 1000)
        self.opt_state = jax.jit(self.tx.init)(self.params)
        self.step = jax.jit(
            functools.partial(_step, cfg=self.cfg, tx=self.tx, tuning=tuning),
            donate_argnums=(0, 1),
            **tuning.jit_options(),
        )

    def __call__(self) -> float:
        self.params, self.opt_state, loss = self.step(self.params, self.opt_state, self.frozen, self.inputs)
        return float(loss)


def _step(params, opt_state, frozen, inputs: Inputs, *, cfg, tx, tuning):
    def objective(params):
        shapes = outline.transformer(cfg, tuning=tuning)
        model = fill(shapes, params | frozen)
        rows, count, *shape = inputs.sources.shape
        cut = patchify(inputs.sources.reshape(rows * count, *shape))
        sources = Patches(*(x.reshape(rows, -1, x.shape[-1]) for x in cut))
        drawn = losses.Draw(inputs.t, inputs.x_0)
        grid = jnp.tile(jnp.array(inputs.x_1.shape[1:3]) // PATCH, (rows, 1))
        found = losses.Condition(sources, inputs.x_1, grid)
        return losses.velocity_loss(model, inputs.prompt, found, drawn).mean()

    loss, grads = jax.value_and_grad(objective)(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


def demo_side(kind: str) -> Here:
    """The demo model's step at 128 px, without the VAE.

    kind: plain (default XLA flags, plain attention, no other tuning), ours (16 rows), draws
    (configs/demo.py).
    """
    config = load(Path(__file__).parents[1] / "configs" / "demo.py")
    rows, draws = (config.batch_size, config.draws) if kind == "draws" else (16, 1)
    tuning = Tuning(attention="plain") if kind == "plain" else Tuning.choose(jax.default_backend(), 1)
    inputs = make_inputs(rows, 16, config.model.latent_channels)
    if draws > 1:
        rng, shape = np.random.default_rng(1), inputs.x_0.shape
        noise = rng.standard_normal((rows, draws, *shape[1:])).astype(np.float32)
        inputs = inputs._replace(x_0=noise, t=rng.uniform(0.1, 0.9, (rows, draws)).astype(np.float32))
    graph = Transformer(config.model, rngs=nnx.Rngs(0))
    base = {name: np.asarray(leaf[...]) for name, leaf in flatten(graph).items()}
    return Here(config.model, base, inputs, config.model.dtype, tuning)
