# SPDX-License-Identifier: Apache-2.0
"""A training run from its settings: checks all that can be wrong first, then weights, data and the loop."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.data import mixture, prompts
from ditfuse_jax.data.loader import Tokenizer
from ditfuse_jax.data.sources import data_root
from ditfuse_jax.ops.tuning import Tuning
from ditfuse_jax.prompt import check_vocabulary, load_tokenizer
from ditfuse_jax.training import trackers
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.initial import frozen_weights, trained_weights
from ditfuse_jax.training.loop import Data, train
from ditfuse_jax.training.memory import check_init, check_memory
from ditfuse_jax.training.resume import check_writable, locked
from ditfuse_jax.training.sharding import check_batch, make_mesh, parse_mesh


class Place(NamedTuple):
    """Where a run computes and writes."""

    workdir: Path
    data: Path
    mesh: str  # as on the command line
    accept_changed_data: bool = False  # resume on other data than the run began with
    report_to: str = "tensorboard"  # a key of `trackers.TRACKERS`


def run(config: TrainConfig, place: Place) -> int:
    """Trains; returns the steps done. Raises ValueError before anything long starts."""
    mesh = make_mesh(parse_mesh(place.mesh))
    check_init(config, mesh)
    trackers.check(place.report_to)
    check_writable(place.workdir)
    with locked(place.workdir):
        return _run(config, place, mesh)


def _run(config: TrainConfig, place: Place, mesh: Mesh) -> int:
    tokenizer = load_tokenizer(config.tokenizer_folder)
    config = with_folders(config)
    if config.stage == "model":
        check_vocabulary(tokenizer, config.model.vocab_size)
    data = find_data(config, place.data, tokenizer)
    data = data._replace(accept_changed=place.accept_changed_data)
    check_batch(config.batch_size, config.optim.accumulation, mesh)
    check_memory(config, mesh)
    frozen = frozen_weights(config, mesh)
    start = functools.partial(trained_weights, config, mesh)
    tuning = Tuning.choose(jax.default_backend(), mesh.size)
    where = {"mesh": mesh, "workdir": place.workdir, "report_to": place.report_to}
    return train(config, start, frozen, data, tuning=tuning, **where)


def find_data(config: TrainConfig, root: Path, tokenizer) -> Data:
    """The training stream and, where validation is asked for, the held-out one."""
    root = data_root(root)
    prompts.check_prompts(config.mixture, Tokenizer(tokenizer))
    held_out = mixture.resolve(config.mixture.validation(), root) if config.validate_every else None
    stream = mixture.resolve(config.mixture, root)
    prompts.check_given(stream, Tokenizer(tokenizer))
    return Data(stream, held_out, tokenizer)


def with_folders(config: TrainConfig) -> TrainConfig:
    """Shapes from the folders of the weights; the run keeps its dtype, remat and adapter."""
    model, vae = config.model, config.vae
    if config.init and config.stage == "vae":
        vae, _ = weights.read_vae_folder(Path(config.init))
    elif config.init:
        found = weights.read_config(Path(config.init))
        own = {"dtype": model.dtype, "remat": model.remat, "lora": model.lora}
        model, vae = dataclasses.replace(found.model, **own), found.vae
    if config.init_vae:
        vae, _ = weights.read_vae_folder(Path(config.init_vae))
    return dataclasses.replace(config, model=model, vae=vae)


def devices_needed(mesh: str) -> int:
    return math.prod(parse_mesh(mesh).values())
