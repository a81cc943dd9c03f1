# SPDX-License-Identifier: Apache-2.0
"""The demo transformer learns how bright a picture is to be, after configs/demo_end.py: `--set init=FOLDER`.

Rebuilt exposures of the weights before lacked one tone curve of the whole picture, of which the loss saw
little. So the error's mean over the picture counts nine times (`tone`), exposure is four tenths of the
samples, three of four of them of no more light than a photo holds, and nearly all are small, where a step is
cheap. The numbers are choices of ours.
"""

import dataclasses
from pathlib import Path

from ditfuse_jax.data.config import Bucket
from ditfuse_jax.training.config import load

large = load(Path(__file__).with_name("demo_large.py"))
SHARES = {
    "m3": 0.13,
    "ivif": 0.06,
    "focus": 0.04,
    "exposure": 0.40,
    "control_ivif": 0.10,
    "control_m3": 0.03,
    "control_focus": 0.03,
    "control_exposure": 0.05,
    "control_object": 0.05,
    "seg": 0.07,
    "seg_focus": 0.01,
    "seg_exposure": 0.01,
    "compound": 0.02,
}
BUCKETS = (  # height, width, least height, least width, weight
    (128, 128, 96, 96, 0.88),
    (160, 256, 96, 176, 0.03),
    (256, 160, 176, 96, 0.03),
    (256, 256, 176, 176, 0.06),
)

config = dataclasses.replace(
    large,
    name="demo_light",
    mixture=dataclasses.replace(
        large.mixture,
        sources=tuple(
            dataclasses.replace(source, weight=SHARES[source.name]) for source in large.mixture.sources
        ),
        buckets=tuple(
            Bucket(height=h, width=w, least_height=low_h, least_width=low_w, weight=share)
            for h, w, low_h, low_w, share in BUCKETS
        ),
        scene_share=0.25,
        seed=6,
    ),
    steps=1400,
    draws=1,
    zero_time=0.9,
    tone=8.0,
    optim=dataclasses.replace(large.optim, schedule="cosine", ema_decay=0.98),
)
