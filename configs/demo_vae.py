# SPDX-License-Identifier: Apache-2.0
"""The small autoencoder of the demo checkpoint, on the images of the demo's stream.

It starts from its linear skeleton: `python configs/demo_recipe/linear_start.py FOLDER`, then
`--set init=FOLDER`.

The numbers are choices of ours; docs/demo_choices.md has the short runs behind them.
"""

import dataclasses
from pathlib import Path

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.data.config import Bucket, MixtureConfig
from ditfuse_jax.training.config import OptimConfig, TrainConfig, VAETraining, load

CHANNELS = 32  # linear codes of 8 x 8 patches reach 32.7 dB with 32 channels, 28.6 dB with 16
SHARES = {  # of the demo's sources; the others are left out
    "m3": 0.24,
    "ivif": 0.16,
    "focus": 0.12,
    "exposure": 0.12,
    "control_ivif": 0.07,
    "control_m3": 0.05,
    "control_object": 0.05,
    "seg": 0.14,
    "compound": 0.05,
}
demo = load(Path(__file__).with_name("demo.py"))
shown = (source for source in demo.mixture.sources if source.name in SHARES)

config = TrainConfig(
    name="demo_vae",
    stage="vae",
    model=TransformerConfig.tiny(latent_channels=CHANNELS),  # not built in this stage
    vae=VAEConfig(
        latent_channels=CHANNELS,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        norm_groups=1,  # groups of few channels take away what a group's size says
        scaling_factor=1.0,  # from-train measures shift and scale of the codes
    ),
    vae_training=VAETraining(crop=64, rmse=0.8, edges=0.1, sources=0.15),
    # Pictures of 256 px as they are used, and of 128 px as the transformer sees them most of the time.
    mixture=MixtureConfig(
        sources=tuple(dataclasses.replace(source, weight=SHARES[source.name]) for source in shown),
        buckets=(Bucket(height=256, width=256), Bucket(height=128, width=128)),
        ivif_target="luma",
        object_share=0.75,
        untagged_share=0.3,  # these three change no picture, but the draws that come after them
        condition_dropout=0.1,
        text_dropout=0.1,
    ),
    steps=9000,
    batch_size=4,
    optim=OptimConfig(learning_rate=6e-4, schedule="cosine", warmup_steps=600, beta2=0.99, ema_decay=0.998),
    log_every=50,
    save_every=500,
    validate_every=1000,
    validation_batches=8,
)
