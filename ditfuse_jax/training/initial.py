# SPDX-License-Identifier: Apache-2.0
"""The weights a run starts from: what is stored, and random values for what is missing."""

from pathlib import Path

import jax
from flax import nnx
from jax.sharding import Mesh

from ditfuse_jax.checkpoints.flat import flatten
from ditfuse_jax.checkpoints.folder import MODEL_FILE, VAE_FILE, load_params
from ditfuse_jax.models.omnigen import Transformer
from ditfuse_jax.models.vae import VAE
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.log import warn
from ditfuse_jax.training.sharding import shardings
from ditfuse_jax.training.trainable import Frozen, Params, shapes


def trained_weights(config: TrainConfig, mesh: Mesh) -> Params:
    """What trains, float32: the tensors of config.init where it holds them; an adapter starts as nothing."""
    trained, frozen = shapes(config)
    if not config.init or (config.stage == "model" and config.model.lora):
        return random_params(config, trained, Frozen({}, {}), mesh)[0]
    file = MODEL_FILE if config.stage == "model" else VAE_FILE
    return _stored(Path(config.init) / file, trained | frozen.model, trained, mesh)


def frozen_weights(config: TrainConfig, mesh: Mesh) -> Frozen:
    """What does not train: the base of an adapter from config.init, the autoencoder from config.init_vae or
    config.init; what neither names is random, which is good for a test only.
    """
    trained, frozen = shapes(config)
    folder = config.init_vae or config.init
    stored = Frozen({}, {})
    if config.init and frozen.model:
        whole = frozen.model if config.model.lora else trained | frozen.model
        model = _stored(Path(config.init) / MODEL_FILE, whole, frozen.model, mesh)
        stored = stored._replace(model=model)
    if folder and config.stage == "model":
        stored = stored._replace(vae=_stored(Path(folder) / VAE_FILE, frozen.vae, frozen.vae, mesh))
    elif config.stage == "model":
        warn("no init_vae: the autoencoder is random, which is good for a test only")
    missing = Frozen(*(_without(want, have) for want, have in zip(frozen, stored, strict=True)))
    if not any(missing):
        return stored
    _, made = random_params(config, {}, missing, mesh)
    return Frozen(*(have | new for have, new in zip(stored, made, strict=True)))


def random_params(config: TrainConfig, trained: Params, frozen: Frozen, mesh: Mesh) -> tuple[Params, Frozen]:
    """Fresh values for the named shapes, each made on the devices that hold it; nothing else is made."""

    def build():
        rngs = nnx.Rngs(jax.random.fold_in(jax.random.key(config.seed), 0))
        nets = {"vae": flatten(VAE(config.vae, rngs=rngs))}
        if config.stage == "model" and (trained or frozen.model):
            nets["model"] = flatten(Transformer(config.model, rngs=rngs))
        own = nets.get(config.stage, {})
        return (
            _take(own, trained),
            Frozen(_take(nets.get("model", {}), frozen.model), _take(nets["vae"], frozen.vae)),
        )

    places = (shardings(trained, mesh), Frozen(shardings(frozen.model, mesh), shardings(frozen.vae, mesh)))
    # Run once: on CPU the full optimisation of its random numbers would take ten times as long, 20 s if tiny.
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(build, out_shardings=places, compiler_options=quick)()


def _stored(file: Path, whole: Params, wanted: Params, mesh: Mesh) -> Params:
    """The tensors `wanted` of a checkpoint file that must hold `whole`, in their places and dtypes.

    Raises ValueError naming tensors with NaN or infinity, which would look like a run that diverges.
    """
    return load_params(file, whole, shardings(wanted, mesh), only=wanted, check_finite=True)


def _without(wanted: Params, stored: Params) -> Params:
    return {name: leaf for name, leaf in wanted.items() if name not in stored}


def _take(variables: dict[str, nnx.Variable], wanted: Params) -> Params:
    return {name: variables[name][...].astype(leaf.dtype) for name, leaf in wanted.items()}
