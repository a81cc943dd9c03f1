# SPDX-License-Identifier: Apache-2.0
"""The end of the demo transformer's training, at the sizes it is used at, from `--set init=FOLDER`.

The numbers are choices of ours; docs/demo_choices.md says what came before.
"""

import dataclasses
from pathlib import Path

from ditfuse_jax.data.mixture import Bucket
from ditfuse_jax.train_config import load

demo = load(Path(__file__).with_name("demo.py"))
LARGE = (
    Bucket(height=256, width=256, weight=2),
    Bucket(height=192, width=256),
    Bucket(height=256, width=192),
)

config = dataclasses.replace(
    demo,
    name="demo_large",
    mixture=dataclasses.replace(demo.mixture, buckets=LARGE, seed=1),
    steps=240,
    batch_size=4,  # as many tokens as a batch of configs/demo.py
    optim=dataclasses.replace(demo.optim, learning_rate=1e-3, warmup_steps=10, ema_decay=0.98),
    save_every=40,
    validate_every=240,
    validation_batches=8,
)
