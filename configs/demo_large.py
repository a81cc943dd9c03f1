# SPDX-License-Identifier: Apache-2.0
"""The end of the demo transformer's training, at the sizes it is used at, from `--set init=FOLDER`.

The numbers are choices of ours; docs/demo_choices.md says what came before.
"""

import dataclasses
from pathlib import Path

from ditfuse_jax.data.mixture import Bucket
from ditfuse_jax.training.config import load

demo = load(Path(__file__).with_name("demo.py"))
SHAPES = (  # height, width, weight
    (256, 256, 3),
    (192, 256, 2),
    (256, 192, 2),
    (160, 256, 1),
    (256, 160, 1),
    (192, 192, 1),
)

config = dataclasses.replace(
    demo,
    name="demo_large",
    mixture=dataclasses.replace(
        demo.mixture, buckets=tuple(Bucket(height=h, width=w, weight=share) for h, w, share in SHAPES), seed=3
    ),
    steps=720,
    draws=2,  # the target is a larger part of the tokens than in configs/demo.py
    optim=dataclasses.replace(demo.optim, schedule="cosine", warmup_steps=20, ema_decay=0.99),
    save_every=60,
    validate_every=360,
)
