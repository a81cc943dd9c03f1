# SPDX-License-Identifier: Apache-2.0
"""The demo transformer learns how bright the scene of two exposures was: from `--set init=FOLDER`.

One tone of the whole picture is what simulated exposures lacked (docs/demo_choices.md), and it shows at any
size. So half of 24,000 samples are exposures, two thirds of them of no more light than a photo holds, nearly
all of them small at first; every draw is at pure noise, where the one step of the default starts. The
numbers are choices of ours.
"""

import dataclasses
from pathlib import Path

from ditfuse_jax.data.config import Bucket
from ditfuse_jax.training.config import load

large = load(Path(__file__).with_name("demo_large.py"))
SHARES = {
    "m3": 0.14,
    "ivif": 0.05,
    "focus": 0.03,
    "exposure": 0.50,
    "control_ivif": 0.06,
    "control_m3": 0.02,
    "control_focus": 0.02,
    "control_exposure": 0.05,
    "control_object": 0.03,
    "seg": 0.06,
    "seg_focus": 0.01,
    "seg_exposure": 0.01,
    "compound": 0.02,
}
STEPS = 1500
LATE = 900  # from here on all sizes come back
BUCKETS = (  # height, width, least height, least width, weight, start
    (128, 128, 96, 96, 24, 0),
    (160, 256, 96, 176, 1, 0),
    (256, 160, 176, 96, 1, 0),
    (256, 256, 176, 176, 1.5, 0),
    (160, 160, 96, 96, 3, LATE),
    (256, 256, 176, 176, 1.5, LATE),
    (160, 384, 96, 272, 0.7, LATE),
    (384, 160, 272, 96, 0.7, LATE),
    (256, 384, 176, 272, 0.5, LATE),
    (384, 256, 272, 176, 0.5, LATE),
)

config = dataclasses.replace(
    large,
    name="demo_bright",
    mixture=dataclasses.replace(
        large.mixture.weighted(SHARES),
        buckets=tuple(
            Bucket(height=h, width=w, least_height=low_h, least_width=low_w, weight=share, start=start)
            for h, w, low_h, low_w, share, start in BUCKETS
        ),
        scene_share=0.35,
        untagged_share=0.5,
        seed=6,
    ),
    steps=STEPS,
    batch_size=16,
    draws=1,
    zero_time=1.0,
    optim=dataclasses.replace(large.optim, schedule="cosine", ema_decay=0.98),
)
