# SPDX-License-Identifier: Apache-2.0
"""The last part of the demo transformer's training: configs/demo_large.py with a rate that falls to zero.

From `--set init=FOLDER`. Exposure, the task that learns slowest, gets a larger share and scenes of less
range, and three of four draws are at pure noise, where the one step of the default starts. The numbers are
choices of ours.
"""

import dataclasses
from pathlib import Path

from ditfuse_jax.training.config import load

large = load(Path(__file__).with_name("demo_large.py"))
SHARES = {"exposure": 0.26, "control_exposure": 0.06, "focus": 0.06, "seg": 0.11, "ivif": 0.08, "m3": 0.17}

config = dataclasses.replace(
    large,
    name="demo_end",
    mixture=dataclasses.replace(
        large.mixture.weighted(SHARES),
        scene_stops=(0.0, 3.0),
        seed=4,
    ),
    steps=700,
    zero_time=0.75,
    optim=dataclasses.replace(large.optim, schedule="cosine", ema_decay=0.98),
)
