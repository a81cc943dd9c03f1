# SPDX-License-Identifier: Apache-2.0
"""Networks as flat parameters: what trains and what does not, their shapes, and random ones born sharded."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from ditfuse_jax.models.lora import LoRAParam
from ditfuse_jax.models.omnigen import Transformer
from ditfuse_jax.models.vae import VAE
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.sharding import shardings

Params = dict[str, jax.Array]  # {dot path: array}, the names of the checkpoint folder


class Frozen(NamedTuple):
    """What does not train: read by the step, never differentiated, donated or saved."""

    model: Params
    vae: Params


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
