# SPDX-License-Identifier: Apache-2.0
"""A test of the whole way in about a minute on two cores: M3 at 64 px, a tiny transformer, a random VAE.

The numbers are choices of ours: the least with which the loss visibly falls.
"""

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.data.config import Bucket, M3Config, MixtureConfig, SourceConfig
from ditfuse_jax.training.config import OptimConfig, TrainConfig

config = TrainConfig(
    name="smoke",
    model=TransformerConfig.tiny(latent_channels=4, vocab_size=1280),  # ids of the demo's tokenizer
    vae=VAEConfig.tiny(scaling_factor=1.0),
    mixture=MixtureConfig(
        sources=(SourceConfig(name="m3", path="photos"),),
        buckets=(Bucket(height=64, width=64),),
        m3=M3Config(blocks=(16, 32)),  # a quarter of the paper's, as the pictures are a quarter of 256 px
        max_text_tokens=224,
    ),
    steps=60,  # the loss falls by a third
    batch_size=16,
    optim=OptimConfig(learning_rate=3e-3, warmup_steps=5),
    log_every=5,
    save_every=30,
    validate_every=30,
    validation_batches=1,
)
