# SPDX-License-Identifier: Apache-2.0
"""The paper's stream, all weights trained: 16 bytes a parameter, so `--mesh fsdp=8`. `--set init=FOLDER`."""

import dataclasses
from pathlib import Path

from ditfuse_jax.training.config import load

base = load(Path(__file__).with_name("ditfuse_lora.py"))
config = dataclasses.replace(
    base,
    name="full",
    model=dataclasses.replace(base.model, lora=None),
    optim=dataclasses.replace(
        base.optim, learning_rate=1e-5, ema_decay=0.999
    ),  # ours: no source trains all weights
)
