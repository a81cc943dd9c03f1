# SPDX-License-Identifier: Apache-2.0
"""The small transformer of the demo checkpoint, on the frozen autoencoder of `--set init_vae=FOLDER`.

The numbers are choices of ours; docs/demo_choices.md has the short runs behind them and what was not tried.
"""

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.data.mixture import Bucket, MixtureConfig
from ditfuse_jax.train_config import OptimConfig, TrainConfig

STEPS = 2400
LARGE = ((256, 256, 2), (192, 256, 1), (256, 192, 1))  # height, width, share of the large batches


def large(weight: float, start: int, stop: int) -> tuple[Bucket, ...]:
    """`weight` against 1 for 128 px; a batch at 256 px costs as much as five of those."""
    return tuple(
        Bucket(height=h, width=w, weight=weight * share / 4, start=start, stop=stop) for h, w, share in LARGE
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
    mixture=MixtureConfig.demo(
        # Small, with some large ones so that no position is new, and more of them while the rate falls.
        buckets=(Bucket(height=128, width=128), *large(0.05, 0, 1800), *large(0.25, 1800, 0)),
        max_text_tokens=80,  # the longest of the library has 70
        length_multiple=16,
    ),
    steps=STEPS,
    batch_size=8,
    draws=4,  # the condition is three quarters of the tokens: four noises cost less than twice one
    optim=OptimConfig(
        kind="muon", learning_rate=2e-3, schedule="cosine", warmup_steps=100, beta2=0.99, ema_decay=0.998
    ),
    log_every=20,
    save_every=100,
    validate_every=500,
    validation_batches=8,
)
