# SPDX-License-Identifier: Apache-2.0
"""The eight runs of ablations.py as settings: one thing differs, everything else is equal."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from convert.from_train import opened
from ditfuse_jax.data import mixture
from ditfuse_jax.data.config import Bucket
from ditfuse_jax.training.config import TrainConfig, load, saved_config

DEMO_RUN = Path(__file__).parents[1] / "configs" / "demo.py"
LEAST = 96  # pixels of a side, in training
EPOCHS = 2  # paper IV-A
LATER_RATE = 1e-3  # of a start that is trained, as configs/demo_large.py; else that of configs/demo.py
FUSION = ("ivif", "focus", "exposure")
OPERATIONS = {"m3_blur": ("blur",), "m3_mask": ("mask",), "m3_noise": ("noise",)}
DATA = {"fusion_only": FUSION, "m3_only": ("m3",), "fusion_and_m3": ("m3", *FUSION)}
NAMES = (*OPERATIONS, "all", "no_tags", *DATA)
EQUAL = ("steps", "batch_size", "draws", "seed", "init", "init_vae", "optim")  # in all runs


class Scale(NamedTuple):
    """What all runs share."""

    steps: int
    side: int  # pixels; measured at it, too
    draws: int
    init: str  # checkpoint folder; "": random weights, and the autoencoder of init_vae
    init_vae: str


def settings(name: str, scale: Scale) -> TrainConfig:
    """One of NAMES: two epochs, the rate falling to zero at the last step, so no average of weights."""
    base = load(DEMO_RUN)
    side, least = scale.side, min(LEAST, scale.side)
    mixture = dataclasses.replace(
        base.mixture,
        buckets=(Bucket(height=side, width=side, least_height=least, least_width=least),),
        untagged_share=1.0 if name == "no_tags" else 0.0,
        epoch=max(1, scale.steps * base.batch_size // EPOCHS),
    )
    if name in OPERATIONS:
        m3 = dataclasses.replace(mixture.m3, operations=OPERATIONS[name])
        mixture = dataclasses.replace(mixture, m3=m3)
    if name in DATA:
        kept = tuple(source for source in mixture.sources if source.name in DATA[name])
        mixture = dataclasses.replace(mixture, sources=kept)
    rate = LATER_RATE if scale.init else base.optim.learning_rate
    warmup = min(base.optim.warmup_steps, scale.steps // 10)
    return dataclasses.replace(
        base,
        name=name,
        mixture=mixture,
        steps=scale.steps,
        draws=scale.draws,
        init=scale.init,
        init_vae="" if scale.init else scale.init_vae,
        optim=dataclasses.replace(
            base.optim, learning_rate=rate, schedule="cosine", warmup_steps=warmup, ema_decay=0.0
        ),
        save_every=50,
        validate_every=0,
    )


def trained(workdir: Path) -> TrainConfig:
    """The settings that a run kept. Raises ValueError where there are none."""
    checkpoints, step = opened(workdir, None)
    config = saved_config(checkpoints.config(step), where=str(workdir))
    checkpoints.close()
    return config


def check_equal(configs: dict[str, TrainConfig]) -> None:
    """SystemExit unless start, length, sizes and seeds are the same."""
    for field in EQUAL:
        found = {name: getattr(config, field) for name, config in configs.items()}
        if len(set(found.values())) > 1:
            raise SystemExit(f"the runs differ in {field}: {found}; train them again with equal flags")
    if len({(config.mixture.buckets, config.mixture.epoch) for config in configs.values()}) > 1:
        raise SystemExit("the runs differ in sides or in samples of an epoch; train them with equal flags")


def passes(config: TrainConfig, root: Path) -> dict[str, float]:
    """Samples over files, by the path of the files."""
    stream, found = mixture.resolve(config.mixture, root), {}
    for source, listing, share in zip(config.mixture.sources, stream.listings, stream.shares, strict=True):
        drawn = share * config.steps * config.batch_size / len(listing.items)
        found[source.path] = found.get(source.path, 0.0) + float(drawn)
    return found
