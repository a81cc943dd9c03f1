# SPDX-License-Identifier: Apache-2.0
"""One step instead of 50 x 3: an adapter on any checkpoint. `--set init=FOLDER`, see docs/training.md.

FOLDER is a converted base with the adapter that knows the tasks merged into it: the teacher. The student is
its cond branch with a new adapter, trained at t = 0 alone, where a sampler of one step is. Numbers are ours.
"""

import dataclasses
from pathlib import Path

from ditfuse_jax.training.config import DistilConfig, load

base = load(Path(__file__).with_name("ditfuse_lora.py"))
config = dataclasses.replace(
    base,
    name="one_step",
    zero_time=1.0,
    distil=DistilConfig(),  # the scales of the official test script; half teacher, half data
    mixture=dataclasses.replace(base.mixture, condition_dropout=0.0, text_dropout=0.0),
    steps=1000,
    picture_steps=1,
)
