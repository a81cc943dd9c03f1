# SPDX-License-Identifier: Apache-2.0
"""The demo transformer learns brightness again, after configs/demo_end.py: from `--set init=FOLDER`.

Rebuilt exposures of the weights before were wrong in one thing: a tone curve of the whole picture put them
9 dB nearer to the truth. So exposure is a third of the samples, six of ten of them of no more light than a
photo holds, and light and contrast are asked for more often, in words alone as a rule. One noise a row and
nine of ten draws at pure noise: the default takes one step. The numbers are choices of ours.
"""

import dataclasses
from pathlib import Path

from ditfuse_jax.training.config import load

large = load(Path(__file__).with_name("demo_large.py"))
SHARES = {
    "m3": 0.16,
    "ivif": 0.08,
    "focus": 0.04,
    "exposure": 0.30,
    "control_ivif": 0.09,
    "control_m3": 0.04,
    "control_focus": 0.03,
    "control_exposure": 0.06,
    "control_object": 0.05,
    "seg": 0.09,
    "seg_focus": 0.015,
    "seg_exposure": 0.015,
    "compound": 0.03,
}
SMALL = 160  # pixels: brightness is learnt where a step is cheap
SHARE_OF_SMALL = 9

config = dataclasses.replace(
    large,
    name="demo_tone",
    mixture=dataclasses.replace(
        large.mixture.weighted(SHARES),
        buckets=tuple(
            dataclasses.replace(bucket, weight=SHARE_OF_SMALL)
            if bucket.width == bucket.height == SMALL
            else bucket
            for bucket in large.mixture.buckets
        ),
        scene_share=0.4,
        untagged_share=0.6,
        seed=5,
    ),
    steps=700,
    draws=1,
    zero_time=0.9,
    optim=dataclasses.replace(large.optim, schedule="cosine", ema_decay=0.98),
)
