# SPDX-License-Identifier: Apache-2.0
"""What a run trains and what it keeps frozen: names, shapes and dtypes, without any memory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.checkpoints.flat import flatten
from ditfuse_jax.models import outline
from ditfuse_jax.models.lora import LoRAParam
from ditfuse_jax.models.omnigen import Transformer
from ditfuse_jax.models.vae import VAE
from ditfuse_jax.ops.tuning import PORTABLE, Tuning
from ditfuse_jax.training.config import TrainConfig

Params = dict[str, jax.Array]  # {dot path: array}, the names of the checkpoint folder


class Frozen(NamedTuple):
    """What does not train: read by the step, never differentiated, donated or saved."""

    model: Params
    vae: Params


def transformer(config: TrainConfig, tuning: Tuning = PORTABLE) -> Transformer:
    """The transformer, shapes only."""
    return outline.transformer(config.model, tuning=tuning)


def vae(config: TrainConfig) -> VAE:
    """The autoencoder, shapes only."""
    return outline.vae(config.vae)


def trains(variable: nnx.Variable, config: TrainConfig) -> bool:
    """The filter: the adapter where there is one, else every parameter (never a stored table)."""
    kind = LoRAParam if config.stage == "model" and config.model.lora else nnx.Param
    return isinstance(variable, kind)


def shapes(config: TrainConfig) -> tuple[Params, Frozen]:
    """Shapes and dtypes of what trains (float32) and of what does not."""
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
