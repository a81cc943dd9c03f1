# SPDX-License-Identifier: Apache-2.0
"""What a run keeps on every device, known before any of it is there."""

import math

import jax
from jax.sharding import Mesh

from ditfuse_jax.ops import memory
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.sharding import shardings
from ditfuse_jax.training.step import state_shapes, state_shardings
from ditfuse_jax.training.trainable import shapes


def needed_bytes(config: TrainConfig, mesh: Mesh) -> int:
    """Bytes on one device of weights, gradients, optimizer and average; activations come on top."""
    state, (trained, frozen) = state_shapes(config), shapes(config)
    held = [state, trained, frozen.model, frozen.vae]  # gradients have the shapes of what trains
    places = [state_shardings(state, mesh), *(shardings(params, mesh) for params in held[1:])]
    leaves = zip(jax.tree.leaves(held), jax.tree.leaves(places), strict=True)
    return sum(math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, place in leaves)


def device_bytes(mesh: Mesh) -> int | None:
    """Memory of the smallest device of this process; virtual CPU devices share that of the machine.

    None where the backend does not say.
    """
    own = mesh.local_devices
    limits = [memory.device_bytes(device) for device in own]
    if None in limits:
        return None
    return min(limits) // (len(own) if own[0].platform == "cpu" else 1)


def check_init(config: TrainConfig, mesh: Mesh) -> None:
    """ValueError where a run that continues from given weights would start from random ones."""
    if config.needs_init and not config.init:
        raise ValueError(
            f"{config.name} starts from the weights of a checkpoint folder, and init names none: add --set "
            "init=FOLDER (python -m convert omnigen SRC FOLDER writes one of OmniGen-v1). Random weights "
            f"({_size(needed_bytes(config, mesh))} on each device) need --set needs_init=false"
        )


def check_memory(config: TrainConfig, mesh: Mesh) -> None:
    """ValueError where weights, gradients and optimizer alone do not fit."""
    needed, present = needed_bytes(config, mesh), device_bytes(mesh)
    if present is not None and needed > present:
        raise ValueError(
            f"{config.name} keeps {_size(needed)} of weights, gradients and optimizer on each device, and a "
            f"device has {_size(present)}; activations come on top. Split them over more devices (--mesh "
            "fsdp=8), train an adapter instead of all weights (model.lora), or a smaller model"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
