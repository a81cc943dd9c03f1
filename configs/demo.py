# SPDX-License-Identifier: Apache-2.0
"""The small transformer of the demo checkpoint, on the frozen autoencoder of `--set init_vae=FOLDER`."""

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.data.mixture import Bucket, MixtureConfig
from ditfuse_jax.train_config import OptimConfig, TrainConfig

STEPS = 6000
LARGE = 4800  # from this step on at 256 px: most of what there is to learn does not depend on the size

config = TrainConfig(
    name="demo",
    model=TransformerConfig(
        vocab_size=1280,  # of the demo tokenizer
        width=192,  # 2.6 M parameters at six layers reached 30 dB on M3 in 4000 steps
        mlp_width=512,
        num_layers=6,
        num_heads=6,
        num_kv_heads=6,
        latent_channels=16,
    ),
    vae=VAEConfig(latent_channels=16),  # replaced by the one of init_vae
    mixture=MixtureConfig.demo(
        buckets=(
            Bucket(height=128, width=128, stop=LARGE),
            Bucket(height=256, width=256, start=LARGE),
            Bucket(height=192, width=256, start=LARGE),
            Bucket(height=256, width=192, start=LARGE),
        ),
        max_text_tokens=96,
    ),
    steps=STEPS,
    batch_size=16,
    optim=OptimConfig(learning_rate=2e-3, schedule="cosine", warmup_steps=200, ema_decay=0.999),
    log_every=20,
    save_every=300,
    validate_every=300,
)
