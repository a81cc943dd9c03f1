# SPDX-License-Identifier: Apache-2.0
"""The small transformer of the demo checkpoint, on the frozen autoencoder of `--set init_vae=FOLDER`.

The numbers are choices of ours; docs/demo_choices.md has the short runs behind them and what was not tried.
configs/demo_large.py is the end of it, where the learning rate falls.
"""

import dataclasses

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.data.mixture import Bucket, MixtureConfig
from ditfuse_jax.training.config import OptimConfig, TrainConfig

# Many shapes: with nearly all batches in one, others came out scrambled.
SMALL = ((128, 128), (96, 160), (160, 96), (112, 144), (144, 112))  # height, width
LARGE = ((192, 192), (160, 256), (256, 160), (256, 256))  # each batch costs two to four times as much
SHARES = {  # M3 and its gates take longest to learn, infrared-visible is learnt first
    "m3": 0.36,
    "ivif": 0.10,
    "focus": 0.12,
    "exposure": 0.10,
    "control_ivif": 0.06,
    "control_m3": 0.04,
    "control_object": 0.06,
    "seg": 0.12,
    "compound": 0.04,
}

mixture = MixtureConfig.demo(
    buckets=(
        *(Bucket(height=h, width=w, weight=0.16) for h, w in SMALL),
        *(Bucket(height=h, width=w, weight=0.05) for h, w in LARGE),
    ),
    max_text_tokens=80,  # the longest of the library has 70
    length_multiple=16,
    untagged_share=0.2,
    condition_dropout=0.05,
    text_dropout=0.05,
    seed=2,
)
config = TrainConfig(
    name="demo",
    model=TransformerConfig(
        vocab_size=1280,  # of the demo tokenizer
        width=256,  # a token carries two patches of 128 numbers: what is there and what is asked for
        mlp_width=640,
        num_layers=6,
        num_heads=4,
        num_kv_heads=4,
        latent_channels=32,
    ),
    vae=VAEConfig(latent_channels=32),  # replaced by the one of init_vae
    mixture=dataclasses.replace(
        mixture, sources=tuple(dataclasses.replace(s, weight=SHARES[s.name]) for s in mixture.sources)
    ),
    steps=2100,
    batch_size=8,
    draws=4,  # the condition is three quarters of the tokens: four noises cost less than twice one
    optim=OptimConfig(kind="muon", learning_rate=2e-3, warmup_steps=50, beta2=0.99, ema_decay=0.998),
    log_every=20,
    save_every=100,
    validate_every=700,
    validation_batches=8,
)
