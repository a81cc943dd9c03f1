# SPDX-License-Identifier: Apache-2.0
"""A training run from its settings: checks all that can be wrong first, then weights, data and the loop."""

import dataclasses
import math
import os
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.config import DEMO
from ditfuse_jax.data import mixture, samples
from ditfuse_jax.data.loader import Tokenizer, make_loader
from ditfuse_jax.prompt import load_tokenizer
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.linear_start import check_room, linear_start
from ditfuse_jax.training.log import warn
from ditfuse_jax.training.loop import Data, train
from ditfuse_jax.training.parameters import Frozen, Params, random_params
from ditfuse_jax.training.resume import check_writable
from ditfuse_jax.training.sharding import check_batch, make_mesh, parse_mesh, shardings


class Place(NamedTuple):
    """Where a run computes and writes."""

    workdir: Path
    data: Path
    mesh: str  # as on the command line


def run(config: TrainConfig, place: Place) -> int:
    """Trains; returns the steps done. Raises ValueError before anything long starts."""
    sizes = parse_mesh(place.mesh)
    check_writable(place.workdir)
    tokenizer = load_tokenizer(tokenizer_folder(config))
    config = with_folders(config)
    check_vocabulary(config, tokenizer)
    if config.stage == "vae" and config.vae_training.linear_steps:
        check_room(config.vae)
    data = find_data(config, place.data, tokenizer)
    mesh = make_mesh(sizes)
    check_batch(config.batch_size, config.optim.accumulation, mesh)
    params, frozen = starting_weights(config, mesh)
    if starts_linear(config, place.workdir):
        params = with_skeleton(config, params, data, mesh)
    return train(config, params, frozen, data, mesh=mesh, workdir=place.workdir)


def find_data(config: TrainConfig, root: Path, tokenizer) -> Data:
    """The training stream and, where validation is asked for, the held-out one."""
    if not root.is_dir():
        raise ValueError(f"no data folder {root}; name it with --data or $DITFUSE_DATA")
    samples.check_prompts(config.mixture, Tokenizer(tokenizer))
    held_out = mixture.resolve(config.mixture.validation(), root) if config.validate_every else None
    stream = mixture.resolve(config.mixture, root)
    samples.check_given(stream, Tokenizer(tokenizer))
    return Data(stream, held_out, tokenizer)


def data_root(named: Path | None, project: Path) -> Path:
    """--data, else $DITFUSE_DATA, else ../shared/data beside the project."""
    return named or Path(os.environ.get("DITFUSE_DATA", project.parent / "shared" / "data"))


def tokenizer_folder(config: TrainConfig) -> Path:
    return Path(config.tokenizer or config.init or DEMO)


def check_vocabulary(config: TrainConfig, tokenizer) -> None:
    if config.stage == "model" and len(tokenizer) > config.model.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} ids, model.vocab_size is {config.model.vocab_size}; "
            "use the tokenizer of the model, or a larger model.vocab_size"
        )


def with_folders(config: TrainConfig) -> TrainConfig:
    """Shapes from the folders of the weights; the run keeps its dtype, remat and adapter."""
    model, vae = config.model, config.vae
    if config.init:
        found = weights.read_config(Path(config.init))
        own = {"dtype": model.dtype, "remat": model.remat, "lora": model.lora}
        model, vae = dataclasses.replace(found.model, **own), found.vae
    if config.init_vae:
        vae, _ = weights.read_vae_folder(Path(config.init_vae))
    return dataclasses.replace(config, model=model, vae=vae)


def starting_weights(config: TrainConfig, mesh: Mesh) -> tuple[Params, Frozen]:
    """Random parameters, replaced by those of config.init and config.init_vae where these are set."""
    params, frozen = random_params(config, mesh)
    if config.init:
        params, frozen = from_init(config, params, frozen, mesh)
    folder = config.init_vae or config.init
    if config.stage == "model" and folder:
        frozen = frozen._replace(vae=loaded(Path(folder) / weights.VAE_FILE, frozen.vae, mesh))
    elif config.stage == "model":
        warn("no init_vae: the autoencoder is random, which is good for a test only")
    return params, frozen


def starts_linear(config: TrainConfig, workdir: Path) -> bool:
    """True for a fresh run of an autoencoder that asks for it."""
    wanted = config.stage == "vae" and config.vae_training.linear_steps and not config.init
    complete = [path for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()]
    return bool(wanted) and not complete


def with_skeleton(config: TrainConfig, params: Params, data: Data, mesh: Mesh) -> Params:
    """`params` around a linear skeleton that was trained on the targets of the first batches."""
    cfg = config.vae_training
    side = cfg.crop or min(data.mixture.config.buckets[0].height, data.mixture.config.buckets[0].width)
    with make_loader(data.mixture, data.tokenizer, batch_size=config.batch_size) as loader:
        images = (middle(batch.target, side) for batch in loader)
        started = linear_start(params, config.vae, images, steps=cfg.linear_steps)
    return jax.device_put(started, shardings(params, mesh))


def middle(images: np.ndarray, side: int) -> np.ndarray:
    """The central square of images [B, H, W, 3]."""
    top, left = ((size - side) // 2 for size in images.shape[1:3])
    return images[:, top : top + side, left : left + side]


def from_init(config: TrainConfig, params: Params, frozen: Frozen, mesh: Mesh) -> tuple[Params, Frozen]:
    """config.init's weights of the network that trains; an adapter starts as nothing, on top of them."""
    if config.stage == "vae":
        return loaded(Path(config.init) / weights.VAE_FILE, params, mesh), frozen
    base = frozen.model if config.model.lora else params | frozen.model
    stored = loaded(Path(config.init) / weights.MODEL_FILE, base, mesh)
    params = params if config.model.lora else {name: stored[name] for name in params}
    return params, frozen._replace(model={name: stored[name] for name in frozen.model})


def loaded(file: Path, params: Params, mesh: Mesh) -> Params:
    """The tensors of a checkpoint file in the places and dtypes of `params`."""
    return weights.load_params(file, params, shardings(params, mesh))


def devices_needed(mesh: str) -> int:
    return math.prod(parse_mesh(mesh).values())
