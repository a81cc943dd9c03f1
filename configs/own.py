# SPDX-License-Identifier: Apache-2.0
"""An adapter for your own pairs, from `--data FOLDER --set init=CHECKPOINT`; docs/training.md shows the way.

FOLDER/pairs has vis/ and ir/ with equal file names; other kinds are a few --set away. The numbers are choices
of ours, small ones; what they bring depends on your pictures and was not measured.
"""

from ditfuse_jax.config import LoraConfig, TransformerConfig, VAEConfig
from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.training.config import OptimConfig, TrainConfig

config = TrainConfig(
    name="own",
    model=TransformerConfig.omnigen_v1(lora=LoraConfig(rank=16, alpha=16.0)),  # sizes come from init
    vae=VAEConfig.sdxl(),
    needs_init=True,
    mixture=MixtureConfig(
        sources=(SourceConfig(name="pairs", path="pairs", format="pairs", fuse="ivif"),),
        buckets=(Bucket(height=256, width=256),),
        ivif_target="detail",  # the paper's mean halves what one camera alone sees
        max_text_tokens=256,  # the longest prompt of the library with the Phi-3 tokenizer fits
    ),
    steps=400,
    batch_size=8,
    optim=OptimConfig(learning_rate=1e-4, warmup_steps=20),  # then constant, so a run can be made longer
    log_every=10,
    save_every=100,
    validate_every=100,
    validation_batches=1,
)
