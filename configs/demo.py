# SPDX-License-Identifier: Apache-2.0
"""The small transformer of the demo checkpoint, on the frozen autoencoder of `--set init_vae=FOLDER`."""

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.data.mixture import Bucket, MixtureConfig
from ditfuse_jax.train_config import OptimConfig, TrainConfig

STEPS = 799

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
    mixture=MixtureConfig.demo(
        # Mostly small, where a step costs a sixth; the large ones teach what the positions look like there.
        buckets=(
            Bucket(height=128, width=128, weight=0.9),
            Bucket(height=256, width=256, weight=0.04),
            Bucket(height=192, width=256, weight=0.03),
            Bucket(height=256, width=192, weight=0.03),
        ),
        max_text_tokens=80,  # the longest of the library has 70
        length_multiple=16,
    ),
    steps=STEPS,
    batch_size=16,
    optim=OptimConfig(
        kind="muon", learning_rate=2e-3, schedule="cosine", warmup_steps=100, beta2=0.99, ema_decay=0.998
    ),
    log_every=20,
    save_every=150,
    validate_every=500,
)
