# SPDX-License-Identifier: Apache-2.0
"""A training run's checkpoint to a folder that `infer.py` loads."""

import dataclasses
import datetime
from pathlib import Path

import jax
import numpy as np

from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.adapter import save_adapter
from ditfuse_jax.checkpoints.safetensors import read_header, save_tensors
from ditfuse_jax.checkpoints.target import check_target, new_folder
from ditfuse_jax.config import PATCH, CheckpointConfig, SamplingConfig, ShapesConfig
from ditfuse_jax.models.lora import merge
from ditfuse_jax.training.config import TrainConfig, saved_config
from ditfuse_jax.training.initial import frozen_weights
from ditfuse_jax.training.resume import Checkpoints
from ditfuse_jax.training.sharding import make_mesh, parse_mesh
from ditfuse_jax.training.trainable import Frozen, Params, shapes

LISTED = ("path", "format", "names")  # of a source: what `evaluation run` compares its pairs with


def from_train(
    workdir: Path,
    target: Path,
    *,
    step: int | None,
    raw: bool,
    merged: bool,
    dtype: str | None,
    sampling: dict,
    overwrite: bool,
) -> None:
    """Writes what the run trained: an autoencoder folder, a checkpoint folder, or an adapter folder.

    Args:
      step: default: the last complete one.
      raw: the parameters themselves where the run keeps a moving average.
      merged: for an adapter: merge it into its base and write a whole checkpoint folder.
      dtype: of the stored tensors; None: float32, and for a merged adapter that of each tensor of its base.
      sampling: fields of SamplingConfig that a checkpoint folder proposes, instead of its base's; sides and
        shapes are never the base's but those that the run trained.
    Raises ValueError when there is no such step, or when target exists and overwrite is not set.
    """
    checkpoints, step = opened(workdir, step)
    config = saved_config(checkpoints.config(step), where=f"{workdir} step {step}")
    sources = [workdir, *(Path(name) for name in (config.init, config.init_vae, config.tokenizer) if name)]
    place = {"sources": sources, "overwrite": overwrite}
    check_target(target, **place)
    average = bool(config.optim.ema_decay) and not raw
    params = checkpoints.params(step, shapes(config)[0], average=average)
    notes = checkpoints.notes(step)
    checkpoints.close()
    provenance = {
        "source": f"train.py, run {config.name}, step {step} of {config.steps}",
        "weights": "moving average" if average else "raw",
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "base": config.init,
        "trained_on": [{name: getattr(one, name) for name in LISTED} for one in config.mixture.sources],
        "trained_at": sorted(trained_sizes(config)),  # height, width in pixels
    }
    if config.stage == "vae":
        write_vae(config, cast(params, dtype), notes, target, provenance, **place)
    elif config.model.lora and not merged:
        save_adapter(target, config.model.lora, cast(params, dtype), provenance=provenance, **place)
    else:
        write_model(config, params, target, provenance, dtype=dtype, sampling=sampling, **place)


def opened(workdir: Path, step: int | None) -> tuple[Checkpoints, int]:
    """The checkpoints of a run and the step to take; ValueError when it is missing or damaged."""
    if not (workdir / "checkpoints").is_dir():
        raise ValueError(f"{workdir} has no checkpoints; name the --workdir of a run of train.py")
    checkpoints = Checkpoints(workdir, keep=1, read_only=True)
    there = checkpoints.steps()
    step = max(there, default=None) if step is None else step
    if step not in there:
        raise ValueError(f"{workdir} has no complete step {step}; it has {there}")
    if reason := checkpoints.damage(step):
        raise ValueError(
            f"step {step} of {workdir} is damaged ({reason}); choose another with --step: it has {there}"
        )
    return checkpoints, step


def write_vae(config: TrainConfig, params, notes: dict, target: Path, provenance: dict, **place) -> None:
    """An autoencoder alone; its codes' mean and spread become shift and scale: latents are near N(0, 1)."""
    scale = 1.0 / max(notes["code_spread"], 1e-6)
    vae = dataclasses.replace(config.vae, shift_factor=notes["code_mean"], scaling_factor=scale)
    with new_folder(target, **place) as partial:
        save_tensors(partial / weights.VAE_FILE, params, {"format": weights.VAE_FORMAT})
        weights.write_vae_config(partial, vae, provenance)


def write_model(
    config: TrainConfig,
    params,
    target: Path,
    provenance: dict,
    *,
    dtype: str | None,
    sampling: dict,
    **place,
) -> None:
    """A whole checkpoint folder; what the run did not train comes from where the run took it."""
    settings = CheckpointConfig(
        model=dataclasses.replace(config.model, lora=None),
        vae=config.vae,
        sampling=proposed(config, sampling),
    )
    own, lora = base_dtypes(config), config.model.lora
    wide = sum_dtype(own, dtype)
    # Without init the base is what the run made of its seed, in the dtype that it had there.
    exact = dataclasses.replace(config, frozen_dtype=wide) if config.init else config
    frozen = frozen_weights(exact, make_mesh(parse_mesh("")))
    model = merge(cast(frozen.model, wide), params, lora) if lora else params | frozen.model
    weights.save_folder(
        target,
        settings,
        model=cast(model, dtype, own.model),
        vae=cast(frozen.vae, dtype, own.vae),
        tokenizer=config.tokenizer_folder,
        provenance=provenance,
        **place,
    )


def proposed(config: TrainConfig, sampling: dict) -> SamplingConfig:
    """What a run's folder proposes: its base's settings, the sizes of its rows, then `sampling`."""
    base = weights.read_config(Path(config.init)).sampling if config.init else SamplingConfig()
    trained = ShapesConfig.only(trained_sizes(config), step=PATCH * config.vae.factor)
    return dataclasses.replace(base, **({"shapes": trained, "max_side": trained.max_side} | sampling))


def trained_sizes(config: TrainConfig) -> set[tuple[int, int]]:
    """Every (height, width) in pixels that a row of the run may have had."""
    return {size for bucket in config.mixture.buckets for size in bucket.sizes()}


def base_dtypes(config: TrainConfig) -> Frozen:
    """{name: stored dtype} in the files that an adapter's base comes from; empty for any other run."""
    if config.model.lora is None or not config.init:
        return Frozen({}, {})
    model = read_header(Path(config.init) / weights.MODEL_FILE)
    vae = read_header(Path(config.init_vae or config.init) / weights.VAE_FILE)
    return Frozen(*({name: entry.spec.dtype for name, entry in file.items()} for file in (model, vae)))


def sum_dtype(own: Frozen, dtype: str | None) -> str:
    """Of the base in memory: bfloat16 where its file holds and gets nothing else; the sum is float32."""
    low = set(own.model.values()) == {weights.LOW} and dtype in (None, "bfloat16")
    return "bfloat16" if low else "float32"


def cast(params: Params, dtype: str | None, own: dict | None = None) -> dict[str, np.ndarray]:
    """Arrays on the host in `dtype`; None: in their `own` dtypes, float32 where that says nothing."""
    own = own or {}
    return {
        name: np.asarray(jax.device_get(value)).astype(
            jax.numpy.dtype(dtype or own.get(name, "float32")), copy=False
        )
        for name, value in params.items()
    }
