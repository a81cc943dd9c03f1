# SPDX-License-Identifier: Apache-2.0
"""The end of the demo transformer's training, at the sizes it is used at, from `--set init=FOLDER`.

The rate is constant and weights are averaged, so it may be stopped at any step; a cosine to zero may follow:
docs/demo_choices.md. The numbers are choices of ours.
"""

import dataclasses
from pathlib import Path

from ditfuse_jax.data.config import Bucket
from ditfuse_jax.training.config import load

demo = load(Path(__file__).with_name("demo.py"))
BUCKETS = (  # height, width, least height, least width, weight; together sides of 96 to 384
    (160, 160, 96, 96, 5),
    (160, 256, 96, 176, 3),
    (256, 160, 176, 96, 3),
    (256, 256, 176, 176, 4),
    (160, 384, 96, 272, 1.5),
    (384, 160, 272, 96, 1.5),
    (256, 384, 176, 272, 1),
    (384, 256, 272, 176, 1),
)

config = dataclasses.replace(
    demo,
    name="demo_large",
    mixture=dataclasses.replace(
        demo.mixture,
        buckets=tuple(
            Bucket(height=h, width=w, least_height=low_h, least_width=low_w, weight=share)
            for h, w, low_h, low_w, share in BUCKETS
        ),
        seed=3,
    ),
    steps=2400,
    draws=2,  # the target is a larger part of the tokens than in configs/demo.py
    optim=dataclasses.replace(demo.optim, learning_rate=1e-3, warmup_steps=20, ema_decay=0.995),
    save_every=60,
    validate_every=0,  # at eight sizes it would compile as much again; benchmarks judge the pictures
)
